"""Multi-fidelity jobs from end to end: trained alone with part of the steps, looked up in curves, refused elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import ConfigError, StrategyError
from archsmith.predictors.tables.table import Column, Table
from archsmith.search.budget import Budget
from archsmith.search.evaluators import CompositeEvaluator
from archsmith.search.pipeline.contracts import EvaluationSpec, Interrupted, ModuleSpec, Plan, PoolSpec
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.run import run_pipeline
from archsmith.search.pipeline.scoring import TableScoring
from archsmith.search.problem import Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.study import MemoryRecorder, Study
from archsmith.service.schemas.check import InvalidJobError, check_job
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

ALONE = Plan(
    space=ModuleSpec(name="mobilenet", preset="tiny", options={"resolution": 8}),
    task=ModuleSpec(name="digits"),
    devices=("host",),
    objectives=(Objective(name="accuracy", direction="max"), Objective(name="params", direction="min")),
    constraints=(),
    strategy=ModuleSpec(name="asha", options={"rungs": 2}),
    budget=Budget(trials=24),
    standalone={"steps": 9, "batch_size": 16},
    cost_model={"kernels": 20, "calibration_networks": 12, "held_out_networks": 2},
    members=5,
    audit=0,
    batch=6,
    pool=PoolSpec(kind="serial", workers=1),
    evaluator=EvaluationSpec(kind="standalone"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScriptRecorder]:
    """The folder of a finished run, and what it told."""
    folder, recorder = tmp_path_factory.mktemp("alone"), ScriptRecorder()
    run_pipeline(ALONE, recorder, FolderStore(folder))
    return folder, recorder


def test_asha_trains_alone_and_only_full_trainings_make_the_front(finished: tuple[Path, ScriptRecorder]) -> None:
    told = finished[1]
    results = told.all
    assert len(results) == 24
    assert results.ok.all()
    assert sorted(set(np.round(results.fidelity, 3))) == [0.333, 1.0]
    assert 3 <= (results.fidelity == 1.0).sum() <= 8
    assert (results.fidelity[told.front_numbers] == 1.0).all()
    assert {member.number for member in told.members} <= set(told.front_numbers.tolist())
    full = {genome.tobytes() for genome in results.genomes[results.fidelity == 1.0]}
    assert full <= {genome.tobytes() for genome in results.genomes[results.fidelity < 1.0]}


def test_what_was_trained_before_at_the_same_share_is_reused(finished: tuple[Path, ScriptRecorder]) -> None:
    told = ScriptRecorder()
    run_pipeline(ALONE, told, FolderStore(finished[0]))
    assert told.final["search"]["reused_evaluations"] == 24  # type: ignore[index]  # plain data
    np.testing.assert_array_equal(told.all.values, finished[1].all.values)


class _Stopping(ScriptRecorder):
    """Asks to stop once, after the second batch."""

    def should_stop(self) -> str | None:
        """Stop when there are 12 trials."""
        return "pause" if len(self) == 12 and not self.went_on else None

    went_on = False


def test_interrupted_between_rungs_goes_on_identically(finished: tuple[Path, ScriptRecorder]) -> None:
    told = _Stopping()
    with pytest.raises(Interrupted, match="pause"):
        run_pipeline(ALONE, told, FolderStore(finished[0]))
    told.went_on = True
    run_pipeline(ALONE, told, FolderStore(finished[0]))
    np.testing.assert_array_equal(told.all.genomes, finished[1].all.genomes)
    np.testing.assert_array_equal(told.all.fidelity, finished[1].all.fidelity)


def test_budget_too_small_for_a_full_training_says_so(finished: tuple[Path, ScriptRecorder]) -> None:
    plan = dataclasses.replace(ALONE, budget=Budget(trials=6))
    with pytest.raises(StrategyError, match="none of them feasible at full effort"):
        run_pipeline(plan, ScriptRecorder(), FolderStore(finished[0]))


def test_asha_reads_the_learning_curves_of_a_table() -> None:
    genomes = np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int16)
    space = GeneSpace([Gene(name, tuple(range(6))) for name in "abc"], name="abc")
    final = 0.9 - 0.02 * ((genomes - 3.0) ** 2).sum(axis=1)
    shares = np.arange(1, 28) / 27
    values = final[:, None] - 0.5 * np.exp(-9 * shares)
    table = Table(space, genomes, {"accuracy": Column.of(values, shares.tolist())}, name="curves")
    problem = Problem(space=space, objectives=(Objective(name="accuracy", direction="max"),), equivalence=False)
    recorder = MemoryRecorder()
    with TableScoring(table).open() as scores:
        study = Study(
            problem=problem,
            strategy=catalog.get("asha", problem, 0),
            evaluator=CompositeEvaluator(problem, dict(scores)),
            budget=Budget(trials=1000),
            recorder=recorder,
        )
        outcome = study.run()
    results = recorder.all
    assert outcome.reason == "exhausted"  # in the end every row has been read at full effort, none of them twice
    assert (results.fidelity == 1.0).sum() == space.size == 216
    first = np.flatnonzero(results.fidelity == 1.0)[:20]
    assert results.values[first].mean() < -np.median(final)
    expected = table.values("accuracy", results.genomes, results.fidelity)
    np.testing.assert_array_equal(-results.values[:, 0], expected)


def test_table_without_learning_curves_is_refused(tmp_path: Path) -> None:
    space = spaces.get("mobilenet", "tiny", resolution=8)
    genomes = space.sample(10, np.random.default_rng(0))
    names = [gene.name for gene in space.genes]
    rows = [[str(gene.values[choice]) for gene, choice in zip(space.genes, row, strict=True)] for row in genomes]
    lines = [",".join([*names, "accuracy"]), *(",".join([*row, "0.5"]) for row in rows)]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    table = EvaluationSpec(kind="table", path=str(tmp_path / "table.csv"))
    plan = dataclasses.replace(ALONE, task=None, objectives=ALONE.objectives[:1], evaluator=table)
    with pytest.raises(ConfigError, match=r"strategy.name: got 'asha'.*full effort only.*no values at a part of the"):
        run_pipeline(plan, ScriptRecorder(), FolderStore(tmp_path))


JOB = {
    "name": "staged",
    "space": {"name": "mobilenet", "preset": "tiny"},
    "task": {"name": "digits"},
    "objectives": [{"name": "accuracy"}],
    "strategy": {"name": "asha"},
    "budget": {"trials": 60},
}


@pytest.mark.parametrize("name", ["asha", "hyperband", "iterative_deepening_hyperband", "mobster"])
def test_shared_weights_have_no_part_of_the_effort(name: str) -> None:
    with pytest.raises(InvalidJobError, match=r"evaluator.kind: got 'supernet'; allowed: standalone or table") as error:
        check_job(JOB | {"strategy": {"name": name}})
    assert len(error.value.errors) == 1
    job = check_job(JOB | {"strategy": {"name": name}, "evaluator": {"kind": "standalone"}})
    assert job.strategy.name == name


def test_other_strategies_may_use_shared_weights() -> None:
    assert check_job(JOB | {"strategy": {"name": "nsga2"}}).evaluator.kind == "supernet"
