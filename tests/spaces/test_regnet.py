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


# (parameters in millions, GMACs) of pytorch-image-models, results/benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv,
# whose GMACs also count norms; (None) where that table lacks the network.
PUBLISHED = {
    "regnetx_002": (2.68, 0.20), "regnetx_004": (5.16, 0.40), "regnetx_006": (6.20, 0.61), "regnetx_008": (7.26, 0.81),
    "regnetx_016": (9.19, 1.62), "regnetx_032": (15.30, 3.20), "regnetx_040": (22.12, 3.99),
    "regnetx_064": (26.21, 6.49), "regnetx_080": (39.57, 8.02), "regnetx_120": (46.11, 12.13),
    "regnetx_160": (54.28, 15.99), "regnetx_320": (107.81, 31.81),
    "regnety_002": (3.16, 0.20), "regnety_004": (4.34, 0.41), "regnety_006": (6.06, 0.61), "regnety_008": (6.26, 0.81),
    "regnety_016": (11.20, 1.63), "regnety_032": (19.44, 3.20), "regnety_040": (20.65, 4.00),
    "regnety_064": (30.58, 6.39),
}  # fmt: skip


GOLDEN = {
    "regnetx_002": 2_684_792,
    "regnetx_004": 5_157_512,
    "regnetx_006": 6_196_040,
    "regnetx_008": 7_259_656,
    "regnetx_016": 9_190_136,
    "regnetx_032": 15_296_552,
    "regnetx_040": 22_118_248,
    "regnetx_064": 26_209_256,
    "regnetx_080": 39_572_648,
    "regnetx_120": 46_106_056,
    "regnetx_160": 54_278_536,
    "regnetx_320": 107_811_560,
    "regnety_002": 3_162_996,
    "regnety_004": 4_344_144,
    "regnety_006": 6_055_160,
    "regnety_008": 6_263_168,
    "regnety_016": 11_202_430,
    "regnety_032": 19_436_338,
    "regnety_040": 20_646_656,
    "regnety_064": 30_583_252,
}
"""Exact parameters; they round to the published ones."""


def test_references_are_all_published_networks():
    assert set(REFERENCES) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_reference_costs_are_the_published_ones(name):
    params, gmacs = PUBLISHED[name]
    space, architecture = REFERENCES[name](None)
    ops = space.ops(architecture)
    assert total_params(ops) / 1e6 == pytest.approx(params, abs=0.0051)
    assert total_params(ops) == GOLDEN[name]
    assert 0.96 * gmacs - 0.005 <= total_macs(ops) / 1e9 <= gmacs + 0.005
    genome = space.encode(architecture)[None]
    assert (space.params(genome)[0], space.macs(genome)[0]) == (total_params(ops), total_macs(ops))


def test_reference_stages_are_those_of_the_paper():
    space, architecture = REFERENCES["regnetx_004"](None)
    blocks, _ = space.widths(space.encode(architecture)[None])
    assert blocks.width[0][blocks.first[0]].tolist() == [32, 64, 160, 384]
    assert np.bincount(blocks.stage[0][blocks.width[0] > 0]).tolist() == [1, 2, 7, 12]


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
