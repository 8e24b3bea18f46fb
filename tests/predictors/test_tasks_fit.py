"""A plan whose task does not fit its space is refused before anything is trained: shapes, and sizes of what is told."""

from __future__ import annotations

import pytest

from archsmith.errors import ConfigError
from archsmith.search.budget import Budget
from archsmith.search.pipeline.contracts import ModuleSpec, Plan
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.problem import Objective

SIZES = {"source_vocabulary": 10, "target_vocabulary": 10, "source_length": 5, "target_length": 6}


@pytest.fixture
def task(tmp_path):
    (tmp_path / "train.a").write_text("a b c\nb a\nc c\nb\n")
    (tmp_path / "train.b").write_text("x y z\ny x\nz z\ny\n")
    options = {"path": str(tmp_path), "source": "a", "target": "b", "source_length": 5, "target_length": 6}
    return ModuleSpec(name="parallel_text", options=options)


def plan(space, task):
    return Plan(
        space=space,
        task=task,
        devices=(),
        objectives=(Objective(name="accuracy", direction="max"), Objective(name="params", direction="min")),
        constraints=(),
        strategy=ModuleSpec(name="random_search"),
        budget=Budget(trials=4),
    )


def test_task_of_two_inputs_that_fits_is_accepted(task):
    setting = build_setting(plan(ModuleSpec(name="hat", preset="tiny", options=SIZES), task))
    assert setting.task.input_shapes == ((5,), (6,))


def test_another_length_of_the_second_input_is_refused(task):
    space = ModuleSpec(name="hat", preset="tiny", options=SIZES | {"target_length": 7})
    with pytest.raises(
        ConfigError, match=r"samples of shape \(5,\) and \(6,\).*allowed: samples of shape \(5,\) and \(7,\)"
    ):
        build_setting(plan(space, task))


def test_vocabulary_too_small_for_the_task_is_refused(task):
    space = ModuleSpec(name="hat", preset="tiny", options=SIZES | {"target_vocabulary": 5})
    with pytest.raises(ConfigError, match=r"space\.options\.target_vocabulary: got 5; allowed: at least [67]"):
        build_setting(plan(space, task))


def test_task_of_one_input_does_not_fit_networks_of_two():
    with pytest.raises(ConfigError, match=r"samples of shape \(1, 11, 11\).*\(5,\) and \(6,\)"):
        build_setting(plan(ModuleSpec(name="hat", preset="tiny", options=SIZES), ModuleSpec(name="digits_shifted")))


def test_too_few_classes_are_refused():
    space = ModuleSpec(name="mobilenet", preset="tiny", options={"classes": 9})
    with pytest.raises(ConfigError, match=r"space\.options\.classes: got 9; allowed: at least 10"):
        build_setting(plan(space, ModuleSpec(name="digits_shifted")))
