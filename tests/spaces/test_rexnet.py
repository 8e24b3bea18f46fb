from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.rexnet import PRESETS
from archsmith.spaces.layers.partial_bottleneck import PartialBottleneck, PartialBottleneckSpec


def build(preset):
    return ChainSpace(PRESETS[preset], name="rexnet", preset=preset)


def test_shortcut_adds_the_input_to_the_first_channels():
    block = PartialBottleneck(PartialBottleneckSpec(in_channels=4, hidden=8, out_channels=6)).eval()
    with torch.no_grad():
        block.project.norm.weight.zero_()
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    y = block(x)
    assert torch.equal(y[:, :4], x)
    assert not y[:, 4:].any()


@pytest.mark.parametrize(("stride", "out_channels", "shared"), [(1, 6, 4), (1, 4, 4), (1, 3, 0), (2, 6, 0)])
def test_shortcut_exists_where_shapes_allow(stride, out_channels, shared):
    spec = PartialBottleneckSpec(in_channels=4, hidden=8, out_channels=out_channels, stride=stride)
    assert spec.shared == shared


def test_keys_are_equal_exactly_where_plans_are():
    space = build("tiny")
    shapes = np.indices([gene.cardinality for gene in space.genes], dtype=np.int16)
    everything = np.stack([grid.ravel() for grid in shapes], axis=1)
    keys = [tuple(key) for key in space.keys(everything)]
    plans = [space.plan(space.decode(genome)) for genome in everything]
    assert len(set(keys)) == len(set(plans)) == len(set(zip(keys, plans, strict=True)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 3}, "resolution 3 is too small for a total stride of 4"),
        ({"strides": (1,)}, "equally many"),
        ({"growths": (0,)}, "growths .* must be above 0"),
    ],
)
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)
