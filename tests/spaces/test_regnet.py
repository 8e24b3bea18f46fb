from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from archsmith.errors import SpaceError
from archsmith.spaces.families.regnet import PRESETS, REFERENCES, RegNetSpace
from archsmith.spaces.families.regnet_widths import regnet_widths
from archsmith.spaces.op import total_macs, total_params


@pytest.fixture(scope="module")
def tiny():
    return RegNetSpace(PRESETS["tiny"], preset="tiny")


@pytest.mark.parametrize("name", REFERENCES)
def test_costs_of_references_in_closed_form_equal_those_of_their_ops(name):
    space, architecture = REFERENCES[name](None)
    ops, genome = space.ops(architecture), space.encode(architecture)[None]
    assert (space.params(genome)[0], space.macs(genome)[0]) == (total_params(ops), total_macs(ops))


def test_reference_stages_are_those_of_the_paper():
    space, architecture = REFERENCES["regnetx_004"](None)
    blocks, _ = space.widths(space.encode(architecture)[None])
    assert blocks.width[0][blocks.first[0]].tolist() == [32, 64, 160, 384]
    assert np.bincount(blocks.stage[0][blocks.width[0] > 0]).tolist() == [1, 2, 7, 12]


def test_every_stage_strides_and_no_image_vanishes(tiny):
    """As in https://github.com/facebookresearch/pycls; sides are rounded up."""
    genomes = np.unique(tiny.sample(2000, np.random.default_rng(0)), axis=0)
    blocks, _ = tiny.widths(genomes)
    assert blocks.stage.max() == 3
    assert np.array_equal(blocks.stride == 2, blocks.first)
    deep = RegNetSpace(dataclasses.replace(PRESETS["tiny"], depths=(8,), slopes=(16.0,)))
    architecture = deep.architecture({"ratio": 1.5, "initial_width": 8})
    strides = [layer.spec.stride for layer in deep.plan(architecture) if layer.path.startswith("stages.")]
    assert sum(stride == 2 for stride in strides) > 5
    genome = deep.encode(architecture)[None]
    assert deep.macs(genome)[0] == total_macs(deep.ops(architecture))
    (x,) = deep.example_inputs(2)
    assert deep.network(architecture, seed=0).eval()(x).shape == (2, 10)


def test_costs_of_a_population_equal_those_of_its_ops(tiny):
    genomes = np.unique(tiny.sample(400, np.random.default_rng(0)), axis=0)
    architectures = [tiny.decode(genome) for genome in genomes]
    assert tiny.macs(genomes).tolist() == [total_macs(tiny.ops(a)) for a in architectures]
    assert tiny.params(genomes).tolist() == [total_params(tiny.ops(a)) for a in architectures]


def test_costs_of_the_published_ranges_equal_those_of_their_ops():
    space = RegNetSpace(PRESETS["published"], preset="published")
    genomes = space.sample(40, np.random.default_rng(3))
    architectures = [space.decode(genome) for genome in genomes]
    assert space.macs(genomes).tolist() == [total_macs(space.ops(a)) for a in architectures]
    assert space.params(genomes).tolist() == [total_params(space.ops(a)) for a in architectures]


def test_keys_are_equal_exactly_where_plans_are(tiny):
    genomes = np.unique(tiny.sample(2000, np.random.default_rng(0)), axis=0)
    assert len(genomes) == tiny.size
    keys = [tuple(key) for key in tiny.keys(genomes)]
    plans = [tuple(layer.spec for layer in tiny.plan(tiny.decode(genome))) for genome in genomes]
    assert len(set(keys)) == len(set(plans)) == len(set(zip(keys, plans, strict=True))) < tiny.size


def test_widths_second_implementation_one_block_at_a_time():
    rng = np.random.default_rng(1)
    for _ in range(200):
        depth, w0 = int(rng.integers(1, 30)), 8 * int(rng.integers(1, 40))
        wa, wm, group = float(rng.uniform(4, 250)), float(rng.uniform(1.5, 3.0)), 8 * int(rng.integers(1, 30))
        expected = []
        for block in range(depth):
            power = round(np.log((w0 + wa * block) / w0) / np.log(wm))
            raw = round(w0 * wm**power / 8) * 8
            limited = min(group, raw)
            expected.append(round(raw / limited) * limited)
        got = regnet_widths(
            np.array([depth]), np.array([w0]), np.array([wa]), wm=np.array([wm]), group_width=np.array([group]),
            max_depth=30,
        )  # fmt: skip
        assert got.width[0, :depth].tolist() == expected
        assert not got.width[0, depth:].any()
        assert got.last()[0] == max(expected)


def test_pickled_space_is_the_same_space(tiny):
    again = pickle.loads(pickle.dumps(tiny))
    assert (again.identity, again.preset) == (tiny.identity, "tiny")


def test_space_has_no_supernet_and_no_sites(tiny):
    assert tiny.sites() is None
    with pytest.raises(SpaceError, match="no supernet"):
        tiny.supernet()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 8}, "resolution 8 is too small for a total stride of 16"),
        ({"depths": (0, 1)}, "at least 1"),
        ({"initial_widths": (8, 12)}, r"initial widths \[12\] are not allowed"),
        ({"ratios": (1.0,)}, "above 1"),
    ],
)
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)
