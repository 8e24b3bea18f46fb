from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit, SupernetKit

from archsmith.errors import SpaceError
from archsmith.spaces.families.decoder import PRESETS, DecoderSpace
from archsmith.spaces.layers.attention import rotate
from archsmith.spaces.onnx_graph import onnx_model
from archsmith.spaces.op import total_macs, total_params

TINY = PRESETS["tiny"]
SPACES = {
    "tied": DecoderSpace(TINY, preset="tiny"),
    "untied": DecoderSpace(dataclasses.replace(TINY, tied=False)),
    "uniform": DecoderSpace(dataclasses.replace(TINY, uniform=True)),
}


class TestTinyDecoder(SpaceKit, NetworkKit, SupernetKit):
    @pytest.fixture(scope="class", params=SPACES)
    @classmethod
    def space(cls, request):
        return SPACES[request.param]


@pytest.mark.parametrize("form", SPACES)
def test_onnx_model_of_a_network_equals_its_module(form):
    space = SPACES[form]
    for genome in np.concatenate([space.largest()[None], space.sample(4, np.random.default_rng(0))]):
        architecture = space.decode(genome)
        network, (tokens,) = space.network(architecture, seed=0).eval(), space.example_inputs(5)
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        model = onnx_model(space.ops(architecture), state, dynamic_batch=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            want = network(tokens)
        np.testing.assert_allclose(session.run(None, {"tokens": tokens.numpy()})[0], want, atol=1e-5, rtol=1e-4)


def test_onnx_model_of_the_head_alone_has_a_table():
    """A tied head is measured on its own, without the embedding that owns its table."""
    site = SPACES["tied"].sites()[-1]
    model = onnx_model(site.build(tuple(0 for _ in site.genes)))
    assert [tuple(constant.dims) for constant in model.graph.initializer][-1] == (8, 50)


def test_a_position_sees_itself_and_earlier_ones_only():
    space = SPACES["tied"]
    network, (tokens,) = space.network(space.decode(space.largest()), seed=0).eval(), space.example_inputs(2)
    changed = tokens.clone()
    changed[:, 7] = (tokens[:, 7] + 1) % TINY.vocabulary
    with torch.no_grad():
        before, after = network(tokens), network(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])


def test_positions_matter_only_relative_to_each_other():
    """Rotary codes: the scores between queries and keys stay when both move on by six positions."""
    space = SPACES["tied"]
    network = space.network(space.architecture({"depth": 1, "layers.0.queries_per_kv": 1}), seed=0).eval()
    short = torch.tensor([[3, 1, 4, 1, 5]])
    attention = network.layers[0].attention
    x = network.layers[0].attention_norm(network.embedding(short))
    q, k = (layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (attention.q, attention.k))
    pad = torch.zeros(1, q.shape[1], 6, 4)
    scores = rotate(q, 1e4) @ rotate(k, 1e4).transpose(-1, -2)
    late_q, late_k = (rotate(torch.cat((pad, part), dim=2), 1e4)[:, :, 6:] for part in (q, k))
    torch.testing.assert_close(late_q @ late_k.transpose(-1, -2), scores, atol=1e-5, rtol=1e-4)


def test_same_parameters_in_different_shapes():
    """What the space is for: two networks of nearly one size, one deep and narrow, one shallow and wide."""
    space = DecoderSpace(PRESETS["phone"], preset="phone")
    shape = {"heads": 16, "queries_per_kv": 1, "activation": "silu", "gated": True}
    deep = space.architecture({**shape, "depth": 32, "width": 896, "ratio": 4})
    wide = space.architecture({**shape, "depth": 20, "width": 1152, "ratio": 4})
    sizes = [total_params(space.ops(architecture)) for architecture in (deep, wide)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.001)
    genomes = np.stack([space.encode(deep), space.encode(wide)])
    assert space.params(genomes).tolist() == sizes
    assert space.macs(genomes).tolist() == [total_macs(space.ops(architecture)) for architecture in (deep, wide)]


def test_parameters_are_those_of_the_formula():
    space = SPACES["untied"]
    architecture = space.architecture(
        {"width": 16, "depth": 1, "gated": True, "layers.0.heads": 4, "layers.0.queries_per_kv": 2, "layers.0.ratio": 3}
    )
    width, inner, shared, hidden = 16, 16, 8, 48
    layer = 2 * width * inner + 2 * width * shared + 3 * width * hidden + 2 * width
    assert total_params(space.ops(architecture)) == layer + 2 * 50 * width + width


@pytest.mark.parametrize(("change", "message"), [
    ({"vocabulary": 0}, "vocabulary is 0"),
    ({"head_dim": 3}, "even number"),
    ({"groups": (1, 3)}, "heads 2 do not divide into groups of 3"),
    ({"activations": ("swish",)}, "'swish'.* are unknown; allowed: .*silu"),
])  # fmt: skip
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        DecoderSpace(dataclasses.replace(TINY, **change))
