"""The loop: budgets, resumption, failures, exhaustion; and the evaluator that fills its columns."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.strategy_kit import evaluate, toy_problem, toy_space

from archsmith.errors import ConfigError, StrategyError
from archsmith.search.budget import Budget, Meter, ModelCounter, RaplCounter, open_energy_counter
from archsmith.search.evaluators import CompositeEvaluator, Known, Measured
from archsmith.search.pareto import nondominated_mask
from archsmith.search.problem import Constraint, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategy import Proposals
from archsmith.search.study import MemoryRecorder, Study
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace


class Toy:
    """Evaluates by known quantities; can fail everything, and can advance a clock."""

    def __init__(self, problem, broken=False, tick=None):
        self.problem, self.broken, self.tick = problem, broken, tick

    def evaluate(self, proposals):
        if self.tick:
            self.tick()
        return evaluate(self.problem, proposals, np.full(len(proposals), self.broken))


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def tick(self):
        self.now += 10.0


def study(problem, **changes):
    settings = {
        "problem": problem,
        "strategy": catalog.get("nsga2", problem, 0, population=20),
        "evaluator": Toy(problem),
        "budget": Budget(trials=100),
        "recorder": MemoryRecorder(),
    }
    return Study(**{**settings, **changes})


def test_study_ends_at_the_budget_with_the_true_front():
    run = study(toy_problem(toy_space(), bound=12.0))
    outcome = run.run()
    assert (outcome.reason, outcome.trials, outcome.failed) == ("trials", 100, 0)
    results = run.recorder.all
    feasible = results.rows(results.feasible)
    np.testing.assert_array_equal(run.recorder.front.values, feasible.values[nondominated_mask(feasible.values)])
    np.testing.assert_array_equal(results.genomes[run.recorder.front_numbers], run.recorder.front.genomes)


def test_study_stopped_and_resumed_equals_uninterrupted():
    problem = toy_problem(toy_space(), bound=12.0)
    whole = study(problem)
    whole.run()

    class Stopping(MemoryRecorder):
        def should_stop(self):
            return "pause" if len(self) >= 48 else None

    first = study(problem, recorder=Stopping())
    assert first.run().reason == "stopped"
    strategy = catalog.get("nsga2", problem, 0, population=20)
    strategy.restore(first.recorder.state)
    second = study(problem, strategy=strategy)
    assert second.run(trials=len(first.recorder)).trials == 100
    joined = np.concatenate([first.recorder.all.genomes, second.recorder.all.genomes])
    np.testing.assert_array_equal(joined, whole.recorder.all.genomes)


def test_study_of_a_space_smaller_than_the_budget_ends_early_and_says_so():
    outcome = study(toy_problem(GeneSpace([Gene("a", tuple(range(7)))], name="seven"))).run()
    assert (outcome.reason, outcome.trials) == ("exhausted", 7)
    assert "smaller than the budget: all of its 7" in outcome.message


def test_study_where_everything_fails_stops_and_keeps_the_failures():
    problem = toy_problem(toy_space())
    run = study(problem, evaluator=Toy(problem, broken=True))
    with pytest.raises(StrategyError, match="3 batches in a row failed"):
        run.run()
    assert len(run.recorder) == 48
    assert not run.recorder.all.ok.any()
    assert len(run.recorder.front) == 0


def test_study_minutes_and_watt_hours_count_earlier_runs():
    problem, clock = toy_problem(toy_space()), Clock()
    meter = Meter(ModelCounter(360.0, clock), clock=clock, seconds=30.0, watt_hours=1.0)
    run = study(problem, evaluator=Toy(problem, tick=clock.tick), budget=Budget(minutes=1.0), meter=meter)
    outcome = run.run()
    assert (outcome.reason, outcome.trials, outcome.seconds) == ("minutes", 48, 60.0)
    assert outcome.watt_hours == pytest.approx(1.0 + 360.0 * 30.0 / 3600.0)
    assert outcome.energy_source == "predicted:device-power"


def test_study_watt_hour_budget_ends_the_search_and_needs_a_counter():
    problem, clock = toy_problem(toy_space()), Clock()
    meter = Meter(ModelCounter(360.0, clock), clock=clock)
    run = study(problem, evaluator=Toy(problem, tick=clock.tick), budget=Budget(watt_hours=2.0), meter=meter)
    assert (run.run().reason, len(run.recorder)) == ("watt_hours", 32)
    with pytest.raises(StrategyError, match="energy counter"):
        study(problem, budget=Budget(watt_hours=2.0))


@pytest.mark.parametrize("limits", [{}, {"trials": 0}, {"minutes": -1.0}, {"watt_hours": float("nan")}])
def test_budget_that_is_no_limit_is_refused(limits):
    with pytest.raises(ConfigError, match="budget"):
        Budget(**limits)


def test_rapl_counter_survives_a_wrap(tmp_path):
    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    (domain / "max_energy_range_uj").write_text("9999999\n")
    (domain / "energy_uj").write_text("9000000\n")
    counter = open_energy_counter(5.0, powercap=tmp_path)
    assert isinstance(counter, RaplCounter)
    (domain / "energy_uj").write_text("1000000\n")
    assert counter.joules() == pytest.approx(2.0)
    assert open_energy_counter(5.0, powercap=tmp_path / "none").source == "predicted:device-power"


def test_composite_evaluator_marks_rows_that_are_not_finite_as_failed():
    problem = toy_problem(toy_space())
    broken = Known(lambda genomes: np.where(np.arange(len(genomes)) == 1, np.nan, 1.0), "predicted:test")
    columns = {"quality": broken, "size": Known(problem.known["size"], "predicted:table")}
    results = CompositeEvaluator(problem, columns).evaluate(
        Proposals.full(problem.space.sample(3, np.random.default_rng(0)))
    )
    assert results.ok.tolist() == [True, False, True]
    assert results.values[0, 0] == -1.0
    assert np.isnan(results.values[1]).all()
    assert results.sources == ("predicted:test", "predicted:table")


def test_composite_evaluator_names_the_missing_column():
    problem = toy_problem(toy_space())
    with pytest.raises(ConfigError, match="objective size"):
        CompositeEvaluator(problem, {"quality": Known(problem.known["quality"], "predicted:test")})
    constrained = Problem(
        space=problem.space, objectives=problem.objectives[:1], constraints=(Constraint(name="macs", bound=1.0),)
    )
    with pytest.raises(ConfigError, match="constraint on macs"):
        CompositeEvaluator(constrained, {"quality": Known(problem.known["quality"], "predicted:test")})


def test_study_names_the_causes_of_failures():
    problem = toy_problem(toy_space())

    def measure(proposals):
        genomes = proposals.genomes
        ok = genomes[:, 0] < 2
        errors = tuple(None if good else f"OutOfMemory: g0 is {row[0]}" for good, row in zip(ok, genomes, strict=True))
        values = np.where(genomes[:, 1] == 3, np.nan, 1.0)
        return Measured(values, np.zeros(len(genomes)), ok, "measured:test", errors)

    columns = {"quality": measure, "size": Known(problem.known["size"], "predicted:table")}
    run = study(problem, evaluator=CompositeEvaluator(problem, columns), budget=Budget(trials=60))
    outcome = run.run()
    counted: dict[object, int] = {}
    for kind, data in run.recorder.events:
        if kind == "evaluations_failed":
            counted[data["reason"]] = counted.get(data["reason"], 0) + data["count"]
    assert set(counted) == {"OutOfMemory: g0 is 2", "OutOfMemory: g0 is 3", "quality is not a finite number"}
    assert sum(counted.values()) == outcome.failed
    results = run.recorder.all
    assert [error is None for error in results.errors] == results.ok.tolist()
    assert results.rows(~results.ok).errors == tuple(error for error in results.errors if error)


def test_study_where_everything_fails_names_the_first_cause():
    problem = toy_problem(toy_space())

    def measure(proposals):
        size = len(proposals)
        return Measured(np.zeros(size), np.zeros(size), np.zeros(size, bool), "measured:test", ("no weights",) * size)

    columns = {"quality": measure, "size": Known(problem.known["size"], "predicted:table")}
    with pytest.raises(StrategyError, match="the first cause: no weights"):
        study(problem, evaluator=CompositeEvaluator(problem, columns)).run()
