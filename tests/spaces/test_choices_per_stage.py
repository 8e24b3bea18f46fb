"""Families whose stages choose one block for all their depth, or for its ends, and one whose blocks may be nothing."""

from __future__ import annotations

import numpy as np
import pytest

from archsmith import spaces
from archsmith.spaces.families.fbnetv3 import RECIPE


def test_mnasnet_stage_repeats_its_block():
    space = spaces.get("mnasnet", "imagenet")
    plan = space.plan(space.architecture({
        "stages.2.depth": 3, "stages.2.kernel": 5, "stages.2.squeeze": 0.25, "stages.2.shortcut": False,
        "stages.3.form": "conv",
    }))  # fmt: skip
    assert [(block.kernel, block.residual, block.squeezed > 0) for block in plan.stages[2]] == [(5, False, True)] * 3
    assert plan.stages[2][1:2] * 2 == plan.stages[2][1:]
    ops = space.ops(space.architecture({"stages.3.form": "conv", "stages.3.depth": 1}))
    assert sum(op.name.startswith("stages.3.") for op in ops) == 3


def test_fbnetv3_chooses_the_first_block_and_the_rest_apart():
    space = spaces.get("fbnetv3", "b")
    plan = space.plan(space.architecture({
        "stages.1.first.kernel": 5, "stages.1.first.expansion": 4, "stages.1.rest.kernel": 3,
        "stages.1.rest.expansion": 2,
    }))  # fmt: skip
    first, *rest = plan.stages[1]
    assert (first.kernel, first.hidden) == (5, 64)
    assert {(block.kernel, block.hidden // block.in_channels) for block in rest} == {(3, 2)}
    shallow = space.architecture({"stages.6.depth": 1})
    assert "stages.6.rest.kernel" not in shallow.choices


@pytest.mark.parametrize(("preset", "blocks"), [("b", 29), ("d", 32), ("g", 36)])
def test_fbnetv3_references_have_the_published_blocks(preset, blocks):
    space, architecture = spaces.reference(f"fbnetv3_{preset}")
    assert sum(len(stage) for stage in space.plan(architecture).stages) == blocks
    assert space.spec.total_stride == 32


def test_recipe_is_no_part_of_the_network():
    space = spaces.get("fbnetv3", "b")
    assert {gene.name for gene in space.genes if gene.name.startswith("recipe.")} == {f"recipe.{n}" for n, _ in RECIPE}
    first, second = (space.architecture({"recipe.optimizer": name}) for name in ("sgd", "rmsprop"))
    assert first != second
    assert first.key == second.key
    assert np.array_equal(space.macs(space.encode(first)[None]), space.macs(space.encode(second)[None]))


def test_single_path_block_of_expansion_zero_is_nothing():
    space = spaces.get("single_path_nas", "imagenet")
    architecture = space.architecture({"stages.1.2.expansion": 0})
    assert space.plan(architecture).stages[1][2] is None
    assert "stages.1.2.kernel" not in architecture.choices
    assert space.size == (4 * 5**3) ** 5
    assert 0 not in space.genes[space.table.find("stages.1.0.expansion")].values
