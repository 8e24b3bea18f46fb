from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.rexnet import PRESETS, REFERENCES
from archsmith.spaces.layers.partial_bottleneck import PartialBottleneck, PartialBottleneckSpec
from archsmith.spaces.op import total_macs, total_params


def build(preset):
    return ChainSpace(PRESETS[preset], name="rexnet", preset=preset)


# (million parameters, GMACs) of pytorch-image-models, results/benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv, whose
# GMACs also count norms.
PUBLISHED = {
    "rexnet_100": (4.80, 0.41), "rexnet_130": (7.56, 0.68), "rexnet_150": (9.73, 0.90), "rexnet_200": (16.37, 1.56),
    "rexnet_300": (34.71, 3.44),
}  # fmt: skip


GOLDEN = {
    "rexnet_100": 4_796_873,
    "rexnet_130": 7_557_091,
    "rexnet_150": 9_728_593,
    "rexnet_200": 16_366_620,
    "rexnet_300": 34_708_792,
}
"""Exact parameters; they round to the published ones."""


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_costs_are_the_published_ones(name):
    params, gmacs = PUBLISHED[name]
    space, architecture = REFERENCES[name](None)
    ops = space.ops(architecture)
    assert total_params(ops) / 1e6 == pytest.approx(params, abs=0.0051)
    assert total_params(ops) == GOLDEN[name]
    assert 0.94 * gmacs - 0.005 <= total_macs(ops) / 1e9 <= gmacs + 0.005
    assert space.params(space.encode(architecture)[None]).tolist() == [total_params(ops)]


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
