"""Genes that say how to train reach the trainer, and tell evaluations apart that the key cannot."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import ConfigError
from archsmith.predictors.recipe import check_recipe, evaluation_keys, recipe_genes, recipe_of
from archsmith.predictors.training import StandaloneSettings, build_trainer
from archsmith.search.budget import Budget
from archsmith.search.pipeline.contracts import EvaluationSpec, ModuleSpec, Plan
from archsmith.search.pipeline.explore import problem_of
from archsmith.search.pipeline.prepare import SearchSetting
from archsmith.search.problem import Objective
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

SPACE = spaces.get("fbnetv3", "tiny")
SETTINGS = StandaloneSettings(steps=3, batch_size=8, learning_rate=0.1)


def variants() -> np.ndarray:
    """[4, G] one network by every recipe."""
    rows = np.repeat(SPACE.smallest()[None], 4, axis=0)
    rows[:, recipe_genes(SPACE)] = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return rows


def test_recipe_genes_replace_settings() -> None:
    chosen = [recipe_of(SETTINGS, SPACE.decode(row)) for row in variants()]
    assert [(item.optimizer, item.learning_rate) for item in chosen] == [
        ("rmsprop", 0.02), ("rmsprop", 0.03), ("sgd", 0.02), ("sgd", 0.03)
    ]  # fmt: skip
    assert all(item.steps == 3 for item in chosen)
    plain = spaces.get("mobilenet", "tiny")
    assert recipe_of(SETTINGS, plain.decode(plain.smallest())) is SETTINGS


def test_recipes_of_one_network_are_evaluations_of_their_own() -> None:
    rows = variants()
    assert len(np.unique(SPACE.keys(rows), axis=0)) == 1
    assert len(np.unique(evaluation_keys(SPACE, rows), axis=0)) == 4
    plain = spaces.get("mobilenet", "tiny")
    genomes = plain.sample(5, np.random.default_rng(0))
    np.testing.assert_array_equal(evaluation_keys(plain, genomes), plain.keys(genomes))


def test_joint_search_counts_recipes_as_candidates_only_where_they_are_trained() -> None:
    plan = Plan(
        space=ModuleSpec(name="fbnetv3", preset="tiny"), task=None, devices=(), constraints=(),
        objectives=(Objective(name="accuracy", direction="max"),), strategy=ModuleSpec(name="random"),
        budget=Budget(trials=1), evaluator=EvaluationSpec(kind="standalone"),
    )  # fmt: skip

    class Nothing:
        known: ClassVar[dict] = {}

    alone = SearchSetting(plan=plan, space=SPACE)
    shared = SearchSetting(plan=dataclasses.replace(plan, evaluator=EvaluationSpec(kind="supernet")), space=SPACE)
    assert (alone.joint, shared.joint) == (True, False)
    assert not problem_of(alone, Nothing()).equivalence  # type: ignore[arg-type]  # nothing is known
    assert problem_of(shared, Nothing()).equivalence  # type: ignore[arg-type]


def test_trainer_follows_the_recipe_where_it_is_told_to() -> None:
    config = {
        "space": {"name": "fbnetv3", "preset": "tiny", "options": {}},
        "task": {"name": "digits_shifted", "preset": None, "options": {"canvas": 16, "placements": 1}},
        "settings": SETTINGS.to_json(),
    }
    rows = variants()[[0, 3]].tolist()
    joint, plain = build_trainer(config | {"recipe_genes": True}), build_trainer(config)
    by_recipe = [joint({"genome": row, "seed": 0})["valid_accuracy"] for row in rows]
    by_settings = [plain({"genome": row, "seed": 0})["valid_accuracy"] for row in rows]
    assert by_recipe[0] != by_recipe[1]
    assert by_settings[0] == by_settings[1]


def test_gene_that_training_cannot_follow_is_named() -> None:
    space = GeneSpace([Gene("recipe.cutout", (0, 8))], name="toy")
    with pytest.raises(ConfigError, match=r"gene recipe\.cutout"):
        check_recipe(space, SETTINGS)


@pytest.mark.parametrize("preset", ["b", "tiny"])
def test_recipes_as_published_can_be_followed(preset: str) -> None:
    check_recipe(spaces.get("fbnetv3", preset), SETTINGS)
