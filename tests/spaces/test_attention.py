"""The Transformer layers against torch's own, and the position codes against their tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.elastic.attention import ElasticAttention
from archsmith.spaces.export import export_network
from archsmith.spaces.layers.attention import Attention, AttentionSpec, attention_ops, rotate
from archsmith.spaces.layers.feed_forward import FeedForwardSpec
from archsmith.spaces.layers.tokens import SinusoidalPosition
from archsmith.spaces.layers.transformer import NormSpec, TransformerLayer, TransformerLayerSpec
from archsmith.spaces.op import Tensor
from archsmith.spaces.position import relative_rows, rotary_table, sinusoid_table


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def torch_attention(layer, memory_width=None):
    """torch's attention with the weights of ours."""
    spec = layer.spec
    twin = nn.MultiheadAttention(spec.width, spec.heads, kdim=memory_width, vdim=memory_width, batch_first=True)
    weights = [part.weight for part in (layer.q, layer.k, layer.v)]
    with torch.no_grad():
        if memory_width is None:
            twin.in_proj_weight.copy_(torch.cat(weights))
        else:
            for name, weight in zip("qkv", weights, strict=True):
                getattr(twin, f"{name}_proj_weight").copy_(weight)
        twin.in_proj_bias.copy_(torch.cat([part.bias for part in (layer.q, layer.k, layer.v)]))
        twin.out_proj.weight.copy_(layer.out.weight)
        twin.out_proj.bias.copy_(layer.out.bias)
    return twin


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_torchs(causal):
    layer, x = Attention(AttentionSpec(width=12, heads=3, head_dim=4, causal=causal)), random(2, 5, 12)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected = torch_attention(layer)(x, x, x, attn_mask=mask, need_weights=False)[0]
    torch.testing.assert_close(layer(x), expected)


def test_cross_attention_equals_torchs_and_hides_padding():
    layer = Attention(AttentionSpec(width=12, heads=3, head_dim=4, memory_width=8))
    x, memory, visible = random(2, 5, 12), random(2, 7, 8, seed=1), torch.ones(2, 7, dtype=torch.bool)
    visible[1, 4:] = False
    twin = torch_attention(layer, memory_width=8)
    expected = twin(x, memory, memory, key_padding_mask=~visible, need_weights=False)[0]
    torch.testing.assert_close(layer(x, memory, visible), expected)


def test_grouped_heads_equal_repeated_ones():
    spec = AttentionSpec(width=12, heads=4, head_dim=4, queries_per_kv=2)
    grouped, full = Attention(spec), Attention(AttentionSpec(width=12, heads=4, head_dim=4))
    state = dict(grouped.state_dict())
    for name in ("k.weight", "k.bias", "v.weight", "v.bias"):
        state[name] = state[name].unflatten(0, (2, 4)).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    x = random(2, 5, 12)
    torch.testing.assert_close(grouped(x), full(x))


def test_layers_equal_torchs_in_either_order_of_norms():
    for first in (False, True):
        layer = TransformerLayer(
            TransformerLayerSpec(
                attention=AttentionSpec(width=12, heads=3, head_dim=4),
                feed_forward=FeedForwardSpec(width=12, hidden=20, activation="relu"),
                norm=NormSpec(first=first),
            )
        )
        twin = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True, norm_first=first)
        with torch.no_grad():
            twin.self_attn.load_state_dict(torch_attention(layer.attention).state_dict())
            for mine, theirs in ((layer.feed_forward.up, twin.linear1), (layer.feed_forward.down, twin.linear2)):
                theirs.load_state_dict(mine.state_dict())
        x = random(2, 5, 12)
        torch.testing.assert_close(layer(x), twin(x))


def test_fewer_heads_of_elastic_attention_equal_a_plain_layer_with_their_weights():
    largest = AttentionSpec(width=16, heads=4, head_dim=4, memory_width=10)
    chosen = AttentionSpec(width=12, heads=2, head_dim=4, memory_width=6)
    elastic, plain = ElasticAttention(largest), Attention(chosen)
    plain.load_state_dict({
        "q.weight": elastic.q.weight[:8, :12], "q.bias": elastic.q.bias[:8],
        "k.weight": elastic.k.weight[:8, :6], "k.bias": elastic.k.bias[:8],
        "v.weight": elastic.v.weight[:8, :6], "v.bias": elastic.v.bias[:8],
        "out.weight": elastic.out.weight[:12, :8], "out.bias": elastic.out.bias[:12],
    })  # fmt: skip
    x, memory = random(2, 5, 12), random(2, 7, 6, seed=1)
    torch.testing.assert_close(elastic(x, chosen, memory), plain(x, memory))


def test_heads_that_no_group_divides_are_refused():
    with pytest.raises(SpaceError, match="3 query heads do not divide into groups of 2"):
        AttentionSpec(width=12, heads=3, head_dim=4, queries_per_kv=2)


def test_attention_macs_by_hand():
    ops = attention_ops("a", Tensor("x", (5, 12)), AttentionSpec(width=12, heads=4, head_dim=3, queries_per_kv=2))
    projections = 5 * 12 * (12 + 6 + 6 + 12)
    assert sum(op.macs for op in ops) == projections + 2 * 5 * 5 * 12


def test_position_codes_equal_their_tables():
    x = random(2, 7, 8)
    table = torch.from_numpy(sinusoid_table(7, 12))
    torch.testing.assert_close(SinusoidalPosition(12)(x) - x, table[:, :8].expand(2, 7, 8))
    cosine, sine = (torch.from_numpy(part) for part in rotary_table(7, 8, 100.0))
    turned = torch.cat((-x[..., 4:], x[..., :4]), dim=-1)
    torch.testing.assert_close(rotate(x, 100.0), x * cosine + turned * sine)
    torch.testing.assert_close(rotate(x, 100.0).norm(dim=-1), x.norm(dim=-1))


def test_sines_are_those_of_fairseq():
    """`SinusoidalPositionalEmbedding.get_embedding`: exp(-i ln(10000) / (half - 1)), from position 2 on."""
    rates = np.exp(-np.arange(4) * np.log(10000.0) / 3)
    angles = np.arange(2, 9)[:, None] * rates
    np.testing.assert_allclose(sinusoid_table(7, 8), np.concatenate((np.sin(angles), np.cos(angles)), 1), atol=1e-6)


def test_relative_positions_equal_their_definition_pair_by_pair():
    """A second implementation: row 0 with the class token, else row and column distances clipped to the reach."""
    spec = AttentionSpec(width=8, heads=2, head_dim=4, relative=1)
    layer, x, side = Attention(spec), random(2, 10, 8), 3
    with torch.no_grad():
        for table in layer.relative.parameters():
            table.normal_(generator=torch.Generator().manual_seed(len(table)))

    def features(module, asking, asked):
        if not asking or not asked:
            return module.vertical[0] + module.horizontal[0]
        down = (asked - 1) // side - (asking - 1) // side
        right = (asked - 1) % side - (asking - 1) % side
        rows = [max(-1, min(1, distance)) + 2 for distance in (down, right)]
        return module.vertical[rows[0]] + module.horizontal[rows[1]]

    q, k, v = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (layer.q, layer.k, layer.v))
    scores = torch.empty(2, 2, 10, 10)
    for a in range(10):
        for b in range(10):
            scores[:, :, a, b] = (q[:, :, a] * (k[:, :, b] + features(layer.relative.scores, a, b))).sum(-1) / 2
    weights, mixed = scores.softmax(-1), torch.zeros(2, 2, 10, 4)
    for a in range(10):
        for b in range(10):
            value = v[:, :, b] + features(layer.relative.values, a, b)
            mixed[:, :, a] += weights[:, :, a, b, None] * value
    torch.testing.assert_close(layer(x), layer.out(mixed.transpose(1, 2).flatten(2)))
    vertical, horizontal = relative_rows(10, 1)
    pairs = layer.relative.scores.vertical[vertical] + layer.relative.scores.horizontal[horizontal]
    torch.testing.assert_close(layer.relative.scores.pairs(10), pairs)


@pytest.mark.parametrize(("tokens", "change", "message"), [
    (7, {}, "a class token and a square of patches; got 7 tokens"),
    (5, {"causal": True}, "patches that attend to themselves"),
])  # fmt: skip
def test_relative_positions_of_anything_but_a_square_are_refused(tokens, change, message):
    with pytest.raises(SpaceError, match=message):
        attention_ops("a", Tensor("x", (tokens, 8)), AttentionSpec(width=8, heads=2, head_dim=4, relative=1, **change))


@pytest.mark.parametrize("name", ["decoder", "hat", "hybrid", "tdnn", "vit"])
def test_exported_network_equals_its_module_for_any_batch(name, tmp_path):
    space = spaces.get(name, "tiny")
    architecture = space.decode(space.sample(3, np.random.default_rng(1))[2])
    network = space.network(architecture, seed=0).eval()
    files = export_network(network, space, architecture, tmp_path)
    inputs = space.example_inputs(5)
    program = torch.export.load(files["model.pt2"]).module()
    torch.testing.assert_close(program(*inputs), network(*inputs), atol=1e-5, rtol=1e-5)
