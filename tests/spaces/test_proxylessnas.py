from __future__ import annotations

from archsmith import spaces


def test_choices_per_block_are_the_published_ones():
    """Three kernels by two expansions, and none where the shape stays."""
    space = spaces.get("proxylessnas", "imagenet")
    assert [len(place.choices) for place in space.mixed_places()] == [6, 7, 7, 7] * 5 + [6]
    assert space.size == 7**15 * 6**6
    assert space.mixed_places()[1].choices == ("skip", "e3_k3", "e3_k5", "e3_k7", "e6_k3", "e6_k5", "e6_k7")


def test_blocks_and_widths_are_the_published_ones():
    space = spaces.get("proxylessnas", "imagenet")
    plan = space.plan(space.decode(space.largest()))
    assert [len(stage) for stage in plan.stages] == [1, 4, 4, 4, 4, 4, 1]
    assert [stage[-1].out_channels for stage in plan.stages] == [16, 24, 40, 80, 96, 192, 320]
    assert [stage[0].stride for stage in plan.stages] == [1, 2, 2, 2, 1, 2, 1]
    assert (plan.stem.out_channels, plan.head.channels) == (32, 1280)


def test_smallest_network_has_the_first_block_of_every_stage_alone():
    space = spaces.get("proxylessnas", "imagenet")
    plan = space.plan(space.decode(space.smallest()))
    assert [sum(block is not None for block in stage) for stage in plan.stages] == [1] * 7
