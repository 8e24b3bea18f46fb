from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.resnet import PRESETS, REFERENCES, ResNetSpec, ResNetStage
from archsmith.spaces.op import total_macs, total_params


def build(preset, **options):
    return ChainSpace(dataclasses.replace(PRESETS[preset], **options), name="resnet", preset=preset)


class TestForms(SpaceKit, NetworkKit):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        stages = (
            ResNetStage(depths=(1, 2), widths=(32,), stride=1),
            ResNetStage(depths=(1, 2), widths=(32, 64), expansions=(0.25, 0.5)),
        )
        spec = ResNetSpec(
            in_channels=3, resolution=9, classes=4, stages=stages, stem_widths=(8,), forms=("basic", "bottleneck")
        )
        return ChainSpace(spec, name="resnet")


def test_size_equals_the_number_of_distinct_plans():
    space = build("tiny")
    cardinalities = [gene.cardinality for gene in space.genes]
    everything = np.stack([grid.ravel() for grid in np.indices(cardinalities, dtype=np.int16)], axis=1)
    distinct = np.unique(space.canonical(everything), axis=0)
    assert len(distinct) == space.size == len({space.plan(space.decode(genome)) for genome in distinct})
    assert len(np.unique(space.keys(distinct), axis=0)) == space.size


def test_ofa_resnet50_size_is_the_product_over_its_genes():
    blocks = [sum(3**depth for depth in range(base, base + 3)) for base in (2, 2, 4, 2)]
    stem = 2 * 2 * 3  # block or not; two inner widths, as two of the three multipliers round to 24; three outer ones
    assert build("ofa_resnet50").size == stem * 3**4 * blocks[0] * blocks[1] * blocks[2] * blocks[3]


def test_ofa_resnet50_smallest_costs_less_than_four_tenths_of_the_largest():
    space = build("ofa_resnet50")
    small, large = space.macs(np.stack([space.smallest(), space.largest()]))
    assert small < 0.4 * large
    assert large > 4_089_184_256  # ResNet-50


def test_reference_at_another_resolution_has_other_macs_and_the_same_parameters():
    space, architecture = REFERENCES["resnet18"](160)
    ops = space.ops(architecture)
    assert total_params(ops) == 11_689_512
    assert 0.9e9 < total_macs(ops) < 0.95e9  # published at 160 px: 0.93 G


def test_stem_block_is_optional_and_residual():
    space = build("tiny")
    without, with_block = (space.architecture({"stem.block": value}) for value in (False, True))
    assert "stem.block.conv" not in {op.name for op in space.ops(without)}
    ops = {op.name: op for op in space.ops(with_block)}
    assert ops["stem.block.residual_add"].inputs[0] == ops["stem.first.activation"].output


def test_mixed_forms_have_no_supernet():
    with pytest.raises(SpaceError, match="no supernet"):
        build("plain").supernet()


def test_pickled_space_is_the_same_space():
    space = build("tiny")
    assert space.site_index.size > 0
    again = pickle.loads(pickle.dumps(space))
    assert (again.identity, again.preset) == (space.identity, "tiny")


def test_gradient_step_lowers_the_loss_of_both_ends():
    space = build("tiny")
    supernet, (x,) = space.supernet(seed=0), space.example_inputs(16)
    labels = torch.arange(16) % 10
    ends = [space.decode(space.smallest()), space.decode(space.largest())]
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9)

    def losses():
        return [torch.nn.functional.cross_entropy(supernet(x, architecture), labels) for architecture in ends]

    before = [loss.item() for loss in losses()]
    for _ in range(15):
        optimizer.zero_grad()
        torch.stack(losses()).sum().backward()
        optimizer.step()
    assert all(after.item() < start for after, start in zip(losses(), before, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 4}, "resolution 4 is too small for a total stride of 8"),
        ({"classes": 0}, "classes is 0"),
        ({"stages": (ResNetStage(depths=(0, 1), widths=(32,)),)}, "must be at least 1"),
        ({"stages": (ResNetStage(depths=(1,), widths=(32,), expansions=(0.25, 0.26)),)}, "round to"),
        ({"stages": (ResNetStage(depths=(1,), widths=(8, 16), stride=1),)}, "make them differ"),
    ],
)
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)
