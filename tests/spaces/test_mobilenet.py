from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.families.mobilenet import PRESETS, MobileNetSpace, MobileNetSpec, StageSpec


@pytest.fixture(scope="module")
def tiny():
    return spaces.get("mobilenet", "tiny")


def test_digits_is_large_and_its_budget_cuts_a_real_part():
    space = spaces.get("mobilenet", "digits")
    params = space.params(space.sample(4000, np.random.default_rng(0)))
    assert space.size >= 10**6
    assert 0.05 <= (params > 200_000).mean() <= 0.5
    assert params.min() < 50_000


def test_size_equals_the_number_of_distinct_genomes(tiny):
    cardinalities = [gene.cardinality for gene in tiny.genes]
    everything = np.stack([grid.ravel() for grid in np.indices(cardinalities, dtype=np.int16)], axis=1)
    distinct = np.unique(tiny.canonical(everything), axis=0)
    assert len(distinct) == tiny.size == 2400
    # No two of them are the same computation.
    plans = {tiny.plan(tiny.decode(genome)) for genome in distinct}
    assert len(plans) == tiny.size


def test_choices_shape_the_layers():
    space = spaces.get("mobilenet", "digits", in_channels=3, resolution=16, classes=7)
    architecture = space.architecture({"stages.0.depth": 1, "stages.0.width": 16, "stages.1.0.expansion": 3})
    ops = {op.name: op for op in space.ops(architecture)}
    assert ops["stem.conv"].inputs[0].shape == (3, 16, 16)
    assert "stages.0.1.expand.conv" not in ops
    assert ops["stages.1.0.expand.conv"].output.shape == (48, 8, 8)
    assert ops["stages.1.0.depthwise.conv"].output.shape == (48, 4, 4)
    assert ops["head.classifier"].output.shape == (7,)


def test_golden_costs(tiny):
    """Costs by hand: the smallest network of the tiny preset on an 11x11 image."""
    genomes = tiny.smallest()[None]
    stem = 121 * 8 * 9
    stage0 = 121 * 8 * 8 + 36 * 8 * 9 + 36 * 8 * 8
    stage1 = 36 * 8 * 8 + 9 * 8 * 9 + (8 * 8 + 8 * 8) + 9 * 8 * 8
    head = 9 * 8 * 16 + 16 * 10
    assert tiny.macs(genomes).tolist() == [stem + stage0 + stage1 + head]
    weights = 8 * 9 + 2 * (64 + 72 + 64) + (64 + 8 + 64 + 8) + 8 * 16 + 16 * 10 + 10
    norms = 2 * (8 + 3 * 8 + 3 * 8 + 16)
    assert tiny.params(genomes).tolist() == [weights + norms]


def test_pickled_space_is_the_same_space(tiny):
    assert tiny.site_index.size > 0  # compiled tables must not travel
    again = pickle.loads(pickle.dumps(tiny))
    assert again.identity == tiny.identity
    assert again.preset == "tiny"


def test_zero_init_residual_starts_residual_blocks_as_identity(tiny):
    architecture = tiny.decode(tiny.largest())
    network = tiny.network(architecture, seed=0, zero_init_residual=True)
    assert not network.stages[0][1].project.norm.weight.any()
    assert network.stages[0][0].project.norm.weight.all()  # its stride leaves no residual
    x = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.stages[0][1](x), x)
    assert not tiny.supernet(seed=0, zero_init_residual=True).stages[0][1].project.norm.weight.any()


def test_supernet_trained_on_its_ends_lowers_both_losses(tiny):
    supernet, (x,) = tiny.supernet(seed=0), tiny.example_inputs(32)
    labels = torch.arange(32) % 10
    ends = [tiny.decode(tiny.smallest()), tiny.decode(tiny.largest())]
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9)

    def losses():
        return [torch.nn.functional.cross_entropy(supernet(x, architecture), labels) for architecture in ends]

    before = [loss.item() for loss in losses()]
    for _ in range(15):
        optimizer.zero_grad()
        sum(losses()).backward()
        optimizer.step()
    assert all(after.item() < start for after, start in zip(losses(), before, strict=True))


STAGE = StageSpec(depths=(1,), widths=(8,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StageSpec(depths=(0, 1), widths=(8,)), "at least 1"),
        (lambda: StageSpec(depths=(1,), widths=(8,), kernels=(2, 3)), "kernels odd"),
        (lambda: StageSpec(depths=(), widths=(8,)), "at least 1"),
        (lambda: dataclasses.replace(PRESETS["tiny"], stages=()), "no stages"),
        (lambda: dataclasses.replace(PRESETS["tiny"], stem_channels=0), "stem_channels is 0"),
        (
            lambda: dataclasses.replace(
                PRESETS["tiny"], stages=(dataclasses.replace(STAGE, expansions=(2, 2.1)),)
            ),
            "round to",
        ),
        (
            lambda: MobileNetSpace(
                dataclasses.replace(PRESETS["tiny"], stages=(dataclasses.replace(STAGE, depths=(2, 1)),))
            ),
            "ascending",
        ),
    ],
)  # fmt: skip
def test_wrong_spec_says_what_is_allowed(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


def test_single_choices_everywhere_make_a_space_of_one():
    spec = MobileNetSpec(
        in_channels=1, resolution=8, classes=2, stem_channels=8, head_channels=8,
        stages=(StageSpec(depths=(2,), widths=(8,), kernels=(3,), expansions=(2,)),),
    )  # fmt: skip
    space = MobileNetSpace(spec)
    assert space.size == 1
    assert space.supernet(seed=0)(space.example_inputs(2)[0], space.decode(space.largest())).shape == (2, 2)
