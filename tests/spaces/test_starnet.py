from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.starnet import PRESETS
from archsmith.spaces.layers.star import StarBlock, StarBlockSpec


def build(preset):
    return ChainSpace(PRESETS[preset], name="starnet", preset=preset)


def test_block_multiplies_two_widenings():
    spec = StarBlockSpec(in_channels=4, hidden=8, kernel=3)
    block = StarBlock(spec).eval()
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    y = block.depthwise(x)
    product = block.left(y).clamp(0, 6) * block.right(y)
    torch.testing.assert_close(block(x), x + block.last(block.project(product)))


def test_size_equals_the_number_of_distinct_plans():
    space = build("tiny")
    shapes = np.indices([gene.cardinality for gene in space.genes], dtype=np.int16)
    everything = np.unique(space.canonical(np.stack([grid.ravel() for grid in shapes], axis=1)), axis=0)
    assert len(everything) == space.size == len(np.unique(space.keys(everything), axis=0))
    assert len({space.plan(space.decode(genome)) for genome in everything[::7]}) == len(everything[::7])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 3}, "resolution 3 is too small for a total stride of 4"),
        ({"kernels": (4,)}, "must be odd"),
        ({"depths": ((0, 1),)}, "must be at least 1"),
        ({"widths": ()}, "must be at least 1"),
    ],
)
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)
