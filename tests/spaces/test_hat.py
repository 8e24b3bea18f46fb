from __future__ import annotations

import csv
import dataclasses
import gzip
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit, SupernetKit

from archsmith.errors import SpaceError
from archsmith.spaces.families.hat import FEATURES, PRESETS, HatSpace
from archsmith.spaces.onnx_graph import onnx_model
from archsmith.spaces.op import total_macs, total_params

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "hat_latency_ms.csv.gz"
TINY = PRESETS["tiny"]


JOINED = dataclasses.replace(TINY, source_vocabulary=50, joined=True)


class TestTinyHat(SpaceKit, NetworkKit, SupernetKit):
    @pytest.fixture(scope="class", params=[TINY, JOINED], ids=["two-tables", "joined"])
    @classmethod
    def space(cls, request):
        return HatSpace(request.param)


@pytest.fixture(scope="module")
def tiny():
    return HatSpace(TINY, preset="tiny")


# The choices of two released networks, from `configs/wmt14.en-de/subtransformer` of
# https://github.com/mit-han-lab/hardware-aware-transformers, and their parameters without the table of embeddings, as
# the paper counts them: it states 48.3 M for the second.
RELEASED = {
    "HAT_wmt14ende_raspberrypi@3.5s_bleu@25.8": (
        {"hidden": (1024, 3072, 3072, 2048, 2048, 2048), "heads": (4, 8, 4, 4, 4, 8)},
        {"hidden": (3072,), "heads": (8,), "cross_heads": (8,), "attended": (1,)},
        25_217_536,
    ),
    "HAT_wmt14ende_raspberrypi@6.9s_bleu@28.4": (
        {"hidden": (3072,) * 6, "heads": (8, 4, 8, 8, 8, 8)},
        {
            "hidden": (2048, 2048, 3072, 3072, 2048), "heads": (8, 8, 8, 4, 8), "cross_heads": (4, 8, 8, 8, 8),
            "attended": (1, 2, 2, 2, 1),
        },
        48_331_264,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_released_networks_have_the_published_parameters(name):
    encoder, decoder, params = RELEASED[name]
    space = HatSpace(PRESETS["wmt"], preset="wmt")
    choices = {"encoder.width": 512, "decoder.width": 512, "decoder.depth": len(decoder["hidden"])}
    for half, genes in (("encoder", encoder), ("decoder", decoder)):
        for gene, values in genes.items():
            choices |= {f"{half}.layers.{index}.{gene}": value for index, value in enumerate(values)}
    architecture = space.architecture(choices)
    table = 32768 * 512
    assert total_params(space.ops(architecture)) - table == params
    with torch.device("meta"):
        assert sum(weight.numel() for weight in space.blank(architecture.choices).parameters()) - table == params


def test_joined_table_is_counted_once_and_is_as_wide_as_the_wider_half():
    space = HatSpace(JOINED)
    own = {
        (first, second): total_params(space.ops(space.architecture({"encoder.width": first, "decoder.width": second})))
        for first in JOINED.widths
        for second in JOINED.widths
    }
    apart = HatSpace(dataclasses.replace(JOINED, joined=False))
    for (first, second), params in own.items():
        both = total_params(apart.ops(apart.architecture({"encoder.width": first, "decoder.width": second})))
        assert both - params == 50 * min(first, second)


def test_joined_halves_read_the_first_features_of_one_table():
    space = HatSpace(JOINED)
    supernet = space.supernet(seed=0)
    network = supernet.extract(space.architecture({"encoder.width": 8, "decoder.width": 12}))
    assert torch.equal(network.encoder.embedding.weight, supernet.encoder.embedding.weight)
    tokens = torch.arange(4)[None]
    torch.testing.assert_close(network.encoder.embedding(tokens)[0], supernet.encoder.embedding.weight[:4, :8] * 8**0.5)
    assert [name for name, _ in network.named_parameters() if "embedding" in name] == ["encoder.embedding.weight"]


def test_size_is_that_of_the_published_space():
    space = HatSpace(PRESETS["wmt"])
    decoder = sum((2 * 2 * 3 * 3) ** depth for depth in range(1, 7))
    assert space.size == 2 * (2 * 3) ** 6 * 2 * decoder


@pytest.mark.parametrize("spec", [TINY, JOINED], ids=["two-tables", "joined"])
def test_onnx_model_of_a_network_equals_its_module(spec):
    tiny = HatSpace(spec)
    for genome in np.concatenate([tiny.largest()[None], tiny.sample(3, np.random.default_rng(0))]):
        architecture = tiny.decode(genome)
        network, (source, target) = tiny.network(architecture, seed=0).eval(), tiny.example_inputs(5)
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        model = onnx_model(tiny.ops(architecture), state, dynamic_batch=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        feeds = {"source": source.numpy(), "target": target.numpy()}
        with torch.no_grad():
            want = network(source, target)
        np.testing.assert_allclose(session.run(None, feeds)[0], want, atol=1e-5, rtol=1e-4)


def test_padding_of_the_source_is_not_seen(tiny):
    architecture = tiny.decode(tiny.largest())
    supernet, (source, target) = tiny.supernet(seed=0).eval(), tiny.example_inputs(3)
    visible = torch.ones(source.shape, dtype=torch.bool)
    visible[:, 5:] = False
    changed = source.clone()
    changed[:, 5:] = (source[:, 5:] + 1) % TINY.source_vocabulary
    network = supernet.extract(architecture)
    with torch.no_grad():
        hidden, other = network(source, target, visible), network(changed, target, visible)
        short = network(source[:, :5], target)
        torch.testing.assert_close(hidden, other)
        torch.testing.assert_close(hidden, short, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(supernet(source, target, architecture, visible), hidden, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(network(source, target), network(changed, target))


def test_a_target_position_sees_itself_and_earlier_ones_only(tiny):
    network = tiny.network(tiny.decode(tiny.largest()), seed=0).eval()
    source, target = tiny.example_inputs(2)
    changed = target.clone()
    changed[:, 3] = (target[:, 3] + 1) % TINY.target_vocabulary
    with torch.no_grad():
        before, after = network(source, target), network(source, changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_attending_to_more_encoder_layers_costs_keys_values_and_scores(tiny):
    base = {"encoder.width": 12, "decoder.width": 8, "decoder.depth": 1}
    one, three = (
        total_macs(tiny.ops(tiny.architecture({**base, "decoder.layers.0.attended": count}))) for count in (1, 3)
    )
    extra = 2 * TINY.source_length
    assert three - one == extra * (2 * 12 * TINY.inner) + 2 * TINY.target_length * extra * TINY.inner


def test_features_by_hand(tiny):
    architecture = tiny.architecture({
        "encoder.width": 12, "decoder.width": 8, "decoder.depth": 2,
        **{f"encoder.layers.{index}.hidden": hidden for index, hidden in enumerate((12, 16, 16))},
        **{f"encoder.layers.{index}.heads": heads for index, heads in enumerate((1, 1, 2))},
        "decoder.layers.0.hidden": 12, "decoder.layers.1.hidden": 16,
        "decoder.layers.0.heads": 2, "decoder.layers.1.heads": 2,
        "decoder.layers.0.cross_heads": 1, "decoder.layers.1.cross_heads": 2,
        "decoder.layers.0.attended": 3, "decoder.layers.1.attended": 1,
    })  # fmt: skip
    features = tiny.features(tiny.encode(architecture)[None])
    np.testing.assert_allclose(features, [[12, 3, 44 / 3, 4 / 3, 8, 2, 14, 2, 1.5, 2]])


def test_features_do_not_depend_on_layers_that_do_not_exist_or_on_their_order():
    space = HatSpace(PRESETS["wmt"])
    genomes = space.sample(200, np.random.default_rng(0))
    features = space.features(genomes)
    assert features.shape == (200, len(FEATURES))
    names = [gene.name for gene in space.genes]
    swapped = genomes.copy()
    for gene in ("heads", "hidden"):
        first, second = (names.index(f"encoder.layers.{index}.{gene}") for index in (0, 4))
        swapped[:, [first, second]] = genomes[:, [second, first]]
    np.testing.assert_allclose(space.features(swapped), features)
    shallow = genomes[:, names.index("decoder.depth")] == 0
    assert set(features[shallow, 6]) <= {1024.0, 2048.0, 3072.0}


@pytest.mark.data
def test_features_span_those_of_the_published_latency_tables():
    """The tables were sampled from the largest choices that any of HAT's spaces has."""
    if not TABLE.exists():
        pytest.skip(f"needs {TABLE}")
    with gzip.open(TABLE, "rt") as file:
        header, *rows = csv.reader(file)
    columns = [header.index(name) for name in FEATURES]
    assert columns == sorted(columns)
    table = np.array([[float(row[column]) for column in columns] for row in rows])
    space = HatSpace(dataclasses.replace(PRESETS["wmt"], hidden=(512, 1024, 2048, 3072), heads=(2, 4, 8)))
    smallest, largest = space.features(np.stack([space.smallest(), space.largest()]))
    assert (smallest <= table).all()
    assert (table <= largest).all()
    assert (table.min(axis=0) == smallest)[[0, 1, 4, 5, 6, 7, 8, 9]].all()
    assert (table.max(axis=0) == largest)[[0, 1, 4, 5, 6, 7, 8, 9]].all()


@pytest.mark.parametrize(("change", "message"), [
    ({"source_length": 0}, "source_length is 0"),
    ({"widths": (8, 11)}, "width 11 is odd"),
    ({"heads": (1, 3)}, "3 heads do not divide the 8"),
    ({"attended": (1, 4)}, "attend to 1 to 3 layers"),
    ({"joined": True}, "one vocabulary, not 40 and 50 tokens"),
])  # fmt: skip
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        HatSpace(dataclasses.replace(TINY, **change))
