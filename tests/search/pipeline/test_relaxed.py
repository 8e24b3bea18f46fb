"""A job with `gradient`: costs before training, the derived network first, and everything reused the second time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import ConfigError
from archsmith.search.budget import Budget
from archsmith.search.gradient.distribution import Distribution, places_of
from archsmith.search.pipeline.contracts import EvaluationSpec, Interrupted, ModuleSpec, Plan, PoolSpec, Stage
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.pipeline.run import run_pipeline
from archsmith.search.problem import Constraint, Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategies.derived import Derived

PLAN = Plan(
    space=ModuleSpec(name="proxylessnas", preset="tiny"),
    task=ModuleSpec(name="digits_shifted", options={"placements": 1, "canvas": 16}),
    devices=("host",),
    objectives=(Objective(name="accuracy", direction="max"), Objective(name="params", direction="min")),
    constraints=(Constraint(name="macs", bound=150_000.0),),
    strategy=ModuleSpec(name="derived"),
    budget=Budget(trials=6),
    supernet={"calibration_batches": 1, "calibration_batch_size": 16},
    standalone={"steps": 2, "batch_size": 16},
    cost_model={"kernels": 20, "calibration_networks": 12, "held_out_networks": 4},
    gradient={
        "relaxation": {"name": "binary_gates"},
        "cost": {"quantity": "macs", "penalty": "mul_log", "bound": "lagrangian"},
        "choices": {"momentum": 0.0},
        "steps": 6,
        "batch_size": 8,
    },
    members=5,
    audit=0,
    pool=PoolSpec(kind="serial", workers=1),
)


class Stopping(ScriptRecorder):
    """Asks to stop once, after a step of the training."""

    wish: str | None = None
    asked = False

    def progress(self, done: float, total: float, message: str) -> None:
        if self.stages[-1][0] is Stage.TRAIN and not self.asked:
            self.wish, self.asked = "pause", True

    def should_stop(self) -> str | None:
        return self.wish


def test_pipeline_derives_first_resumes_and_reuses(tmp_path: Path) -> None:
    store, told = FolderStore(tmp_path), Stopping()
    with pytest.raises(Interrupted):
        run_pipeline(PLAN, told, store)
    told.wish = None
    run_pipeline(PLAN, told, store)
    stages = [stage for stage, _ in told.stages]
    assert stages.index(Stage.MODEL) < stages.index(Stage.TRAIN) < stages.index(Stage.SEARCH)
    gradient = told.final["gradient"]
    assert isinstance(gradient, dict)
    assert told.all.genomes[0].tolist() == gradient["genome"]
    assert gradient["cost"] <= gradient["limit"] == 150_000
    assert (told.all.violations == 0).all()
    assert len({tuple(row) for row in told.all.genomes.tolist()}) == 6
    again = ScriptRecorder()
    run_pipeline(PLAN, again, store)
    assert (Stage.TRAIN, True) in again.stages
    assert np.array_equal(again.all.genomes, told.all.genomes)
    assert again.final["search"]["reused_evaluations"] == 6  # type: ignore[index]  # plain data
    alone = dataclasses.replace(PLAN, evaluator=EvaluationSpec(kind="standalone"), budget=Budget(trials=2))
    other = ScriptRecorder()
    run_pipeline(alone, other, store)
    assert (Stage.TRAIN, True) in other.stages
    assert np.array_equal(other.all.genomes, told.all.genomes[:2])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"gradient": None}, "strategy.name"),
        ({"gradient": {"steps": 0}}, "gradient.steps"),
        ({"space": ModuleSpec(name="mobilenet", preset="tiny")}, "gradient"),
        (
            {
                "space": ModuleSpec(name="darts", preset="tiny"),
                "gradient": {"relaxation": {"name": "softmax", "partial": 2}},
            },
            "evaluator.kind",
        ),
    ],
)
def test_plans_that_cannot_work_are_refused_at_once(change: dict[str, object], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_setting(dataclasses.replace(PLAN, **change))  # type: ignore[arg-type]  # fields of a plan
    assert caught.value.place == place


def test_a_cost_that_nothing_tells_is_named(tmp_path: Path) -> None:
    unknown = {**(PLAN.gradient or {}), "cost": {"quantity": "latency_ms@fridge"}}
    with pytest.raises(ConfigError, match="latency_ms@host") as caught:
        run_pipeline(dataclasses.replace(PLAN, gradient=unknown), ScriptRecorder(), FolderStore(tmp_path))
    assert caught.value.place == "gradient.cost.quantity"


def test_derived_draws_what_was_learned_and_repairs_what_breaks_a_constraint() -> None:
    space = spaces.get("fbnet", "tiny")
    places = places_of(space)
    chances = {place.name: np.eye(len(place.choices))[0] * 0.8 + 0.2 / len(place.choices) for place in places}
    learned = Distribution(places=places, chances=chances, edges={})
    first = space.assembled({place.name: 1 for place in places})
    bound = 1.1 * float(np.median(space.macs(space.sample(100, np.random.default_rng(0)))))
    problem = Problem(
        space=space,
        objectives=(Objective(name="macs", direction="min"),),
        constraints=(Constraint(name="macs", bound=bound),),
        known={"macs": lambda genomes: space.macs(genomes).astype(np.float64)},
    )
    strategy = catalog.get("derived", problem, 0)
    assert isinstance(strategy, Derived)
    strategy.follow(learned, first)
    asked = strategy.ask(20).genomes
    assert (asked[0] == first).all()
    assert (space.macs(asked) <= bound).all()
    assert not (strategy.ask(20).genomes == first).all(axis=1).any()
    assert (asked == space.assembled({place.name: 0 for place in places})).mean() > 0.4
