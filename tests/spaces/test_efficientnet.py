from __future__ import annotations

import itertools

import pytest

from archsmith import spaces

# Table of the paper's networks: width, depth, resolution.
SCALING = {
    "b0": (1.0, 1.0, 224), "b1": (1.0, 1.1, 240), "b2": (1.1, 1.2, 260), "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380), "b5": (1.6, 2.2, 456), "b6": (1.8, 2.6, 528), "b7": (2.0, 3.1, 600),
}  # fmt: skip


@pytest.fixture(scope="module")
def space():
    return spaces.get("efficientnet", "imagenet")


@pytest.mark.parametrize(("name", "blocks", "head", "params"), [
    ("b0", [1, 2, 2, 3, 3, 4, 1], 1280, 5.29e6), ("b4", [2, 4, 4, 6, 6, 8, 2], 1792, 19.34e6),
    ("b7", [4, 7, 7, 10, 10, 13, 4], 2560, 66.35e6),
])  # fmt: skip
def test_published_scalings_are_points(space, name, blocks, head, params):
    width, depth, resolution = SCALING[name]
    architecture = space.architecture({"width": width, "depth": depth, "resolution": resolution})
    plan = space.plan(architecture)
    assert [len(stage) for stage in plan.stages] == blocks
    assert plan.head.channels == head
    assert space.params(space.encode(architecture)[None])[0] == pytest.approx(params, rel=2e-3)


def test_compound_scaling_about_doubles_the_work(space):
    genomes = [space.encode(space.architecture(dict(zip(("width", "depth", "resolution"), SCALING[name], strict=True))))
               for name in ("b1", "b2", "b3", "b4")]  # fmt: skip
    macs = [int(space.macs(genome[None])[0]) for genome in genomes]
    assert all(1.3 < after / before < 2.6 for before, after in itertools.pairwise(macs))


def test_depths_that_round_to_the_same_blocks_share_a_key(space):
    first, second, third = (space.architecture({"depth": depth}) for depth in (1.1, 1.2, 1.4))
    assert first.genome != second.genome
    assert first.key == second.key != third.key
