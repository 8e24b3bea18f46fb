"""Ray Tune drives our strategies and rungs; workers that are killed lose nothing, there and in the pool."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsmith.search.fidelity.ray_tune import Session, StoppingRungs, scheduler_for, searcher_for
from archsmith.search.pareto import rank
from archsmith.search.pool import open_pool
from archsmith.search.pools.cluster import connect
from archsmith.search.problem import Constraint, Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

RAY_WARNS = [
    "ignore::DeprecationWarning",  # Ray Tune and what it imports, not we
    "ignore::FutureWarning",
    "ignore::UserWarning:ray",
    "ignore::ResourceWarning",  # Ray leaves its log files open
    "ignore::pytest.PytestUnraisableExceptionWarning",
]
HERE = str(Path(__file__).parent)


def bowl() -> Problem:
    """Loss of a genome against its size, of which only the size is known."""
    space = GeneSpace([Gene(f"g{index}", tuple(range(5)), kind="ordered") for index in range(6)], name="bowl")
    size = {"size": lambda genomes: genomes.sum(axis=1).astype(float)}
    objectives = (Objective(name="loss", direction="min"), Objective(name="size", direction="min"))
    return Problem(space=space, objectives=objectives, constraints=(Constraint(name="size", bound=16.0),), known=size)


def loss(genome: list[int], fidelity: float) -> float:
    return float(sum((gene - 3) ** 2 for gene in genome)) + 2.0 / (1.0 + 9.0 * fidelity)


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    connect(2, None)
    import ray  # it reads the settings of a local cluster when it is imported

    yield
    ray.shutdown()


@pytest.mark.parametrize("name", ["asha", "hyperband", "random"])
def test_session_saved_while_trials_run_continues_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    problem = bowl()
    whole = Session(problem, catalog.get(name, problem, 0))
    again = Session(problem, catalog.get(name, problem, 0))
    for session in (whole, again):
        for number in range(20):
            proposal = session.suggest(str(number))
            assert proposal is not None
            if number % 4:
                session.complete(str(number), {"loss": loss(proposal["genome"], proposal["fidelity"])})
    again.save(tmp_path / "session")
    resumed = Session(problem, catalog.get(name, problem, 99))
    resumed.restore(tmp_path / "session")
    assert set(resumed.running) == {str(number) for number in range(0, 20, 4)}
    for number in range(20):
        assert resumed.suggest(str(number + 100)) == whole.suggest(str(number + 100))
        for session in (whole, resumed):
            session.complete(str(number), {"loss": 1.0 + number})
    assert resumed.suggest("100") == whole.suggest("100")  # asked again, a running trial stays what it is


def test_session_tells_every_trial_once_and_failures_as_failures() -> None:
    problem = bowl()
    session = Session(problem, catalog.get("asha", problem, 0))
    for name in "abc":
        session.suggest(name)
    told = session.complete("a", {"loss": 2.0, "time_total_s": 4.0})
    assert told is not None
    assert told.ok.all()
    assert told.cost_s.tolist() == [4.0]
    assert session.complete("a", {"loss": 2.0}) is None
    failed = session.complete("b", None)
    assert failed is not None
    assert failed.errors == ("loss was not reported as a finite number",)
    diverged = session.complete("c", {"loss": float("nan")})
    assert diverged is not None
    assert not diverged.ok.any()
    assert session.running == {}


def test_stopping_rungs_keep_the_best_and_judge_each_report_once() -> None:
    problem = bowl()
    rungs = StoppingRungs(problem, eta=2, rungs=3)
    genomes = problem.space.sample(40, np.random.default_rng(0)).tolist()
    kept = [genome for genome in genomes if rungs.goes_on(genome, 0.25, {"loss": loss(genome, 0.25)})]
    assert 10 <= len(kept) <= 30
    values = np.array([[loss(genome, 1.0), sum(genome)] for genome in genomes])
    ranks = rank(values, np.maximum(values[:, 1] - 16.0, 0.0))
    assert np.mean(ranks[[genome in kept for genome in genomes]]) < 0.7 * ranks.mean()
    assert all(rungs.goes_on(genome, 0.3, {"loss": 1e9}) for genome in kept)  # between rungs nobody is stopped
    assert not rungs.goes_on(genomes[0], 1.0, {"loss": 0.0})  # the top ends every trial


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
@pytest.mark.filterwarnings(*RAY_WARNS)
def test_tune_runs_asha_and_a_worker_killed_mid_trial_loses_nothing(tmp_path: Path) -> None:
    from ray import tune

    problem = bowl()
    strategy = catalog.get("asha", problem, 0, rungs=2)
    searcher: Any = searcher_for(strategy, problem)

    def trainable(config: dict[str, Any]) -> None:
        marker = tmp_path / "killed"
        if config["fidelity"] == 1.0 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        size = sum(config["genes"].values())
        assert size <= 16  # the known constraint holds for every trial
        tune.report({"loss": float(sum((gene - 3) ** 2 for gene in config["genome"]))})

    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=10, max_concurrent_trials=2),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path / "tune"), verbose=0, failure_config=tune.FailureConfig(max_failures=2)
        ),
    ).fit()
    assert (tmp_path / "killed").exists()
    assert len(results) == 10
    assert not results.errors
    assert strategy.told == 10  # type: ignore[attr-defined]  # all of our strategies count
    assert searcher.session.running == {}
    configs = [result.config for result in results]
    assert Counter(config["fidelity"] for config in configs if config)[1.0] >= 2
    saved = list((tmp_path / "tune").rglob("searcher-state-*"))
    assert saved
    restored = Session(problem, catalog.get("asha", problem, 1, rungs=2))
    restored.restore(max(saved))
    assert restored.strategy.told == 10  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
@pytest.mark.filterwarnings(*RAY_WARNS)
def test_tune_scheduler_stops_what_falls_behind(tmp_path: Path) -> None:
    from ray import tune

    problem = bowl()
    searcher = searcher_for(catalog.get("random", problem, 0), problem)
    scheduler: Any = scheduler_for(problem, longest=9, eta=3, rungs=3)

    def trainable(config: dict[str, Any]) -> None:
        for step in range(1, 20):
            tune.report({"loss": float(sum((gene - 3) ** 2 for gene in config["genome"])) + 1.0 / step})

    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=12, max_concurrent_trials=2),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    lengths = [result.metrics["training_iteration"] for result in results if result.metrics]
    assert len(lengths) == 12
    assert set(lengths) <= {1, 3, 9}
    assert lengths.count(9) >= 1
    assert scheduler.stopped == sum(length < 9 for length in lengths) >= 4
    scheduler.save(str(tmp_path / "scheduler"))
    again: Any = scheduler_for(problem, longest=9, eta=3, rungs=3)
    again.restore(str(tmp_path / "scheduler"))
    np.testing.assert_array_equal(again.rungs.table.stage, scheduler.rungs.table.stage)
    assert again.debug_string() == scheduler.debug_string()


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_pool_evaluates_several_fidelities_though_workers_are_killed(kind: Any, tmp_path: Path) -> None:
    problem = bowl()
    strategy = catalog.get("asha", problem, 0, rungs=2)
    session_results = []
    with open_pool(kind, 2, "pool_factories:scorer", {"factor": 3.0}, import_root=HERE) as pool:
        for batch in range(3):
            proposals = strategy.ask(6)
            items = [
                {"x": loss(genome, share), "die_once": str(tmp_path / f"{batch}-{row}") if row == 5 * batch % 6 else ""}
                for row, (genome, share) in enumerate(
                    zip(proposals.genomes.tolist(), proposals.fidelity.tolist(), strict=True)
                )
            ]
            answers = pool.map(items)
            assert all("score" in answer for answer in answers)
            session_results.append((proposals, [answer["score"] for answer in answers]))
            strategy.tell(_results(problem, *session_results[-1]))
    assert len(list(tmp_path.iterdir())) == 3  # three workers died in the middle of an evaluation
    shares = np.concatenate([proposals.fidelity for proposals, _ in session_results])
    assert len(set(shares.tolist())) == 2
    for proposals, scores in session_results:
        expected = [loss(genome, share) for genome, share in zip(proposals.genomes, proposals.fidelity, strict=True)]
        np.testing.assert_allclose(scores, expected)


def _results(problem: Problem, proposals: Any, scores: list[float]) -> Any:
    from archsmith.search.evaluators import CompositeEvaluator, Known, Measured

    def measure(proposals: Any) -> Measured:
        return Measured(np.array(scores), np.zeros(len(scores)), np.ones(len(scores), dtype=bool), "measured:test")

    columns: Any = {"loss": measure, "size": Known(problem.known["size"], "predicted:test")}
    return CompositeEvaluator(problem, columns).evaluate(proposals)
