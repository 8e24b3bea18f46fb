"""What earlier searches found is known from the start, and only where it may be compared."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from contracts.strategy_kit import toy_space

from archsmith.errors import ConfigError
from archsmith.predictors.tables.table import Column, Table
from archsmith.search.budget import Budget
from archsmith.search.enumeration import every_genome
from archsmith.search.pipeline.contracts import EvaluationSpec, ModuleSpec, Plan
from archsmith.search.pipeline.explore import explore
from archsmith.search.pipeline.local import ScriptRecorder
from archsmith.search.pipeline.prepare import SearchSetting
from archsmith.search.pipeline.scoring import TableScoring
from archsmith.search.pipeline.warm_start import EarlierSearch
from archsmith.search.problem import Constraint, Objective
from archsmith.search.strategies import catalog
from archsmith.search.strategies.base import BaseStrategy
from archsmith.search.strategy import Results

SPACE = toy_space(6)
ACCURACY, SIZE = Objective(name="accuracy", direction="max"), Objective(name="size", direction="min")


class Costs:
    """Size is known."""

    known: ClassVar[dict] = {"size": lambda genomes: genomes.sum(axis=1).astype(float)}

    def source(self, quantity: str) -> str:
        return "predicted:test"


def table() -> Table:
    genomes = every_genome(SPACE)
    rng = np.random.default_rng(0)
    return Table(SPACE, genomes, {"accuracy": Column.of(rng.random((len(genomes), 1)), [1.0])}, name="random")


def run(plan: Plan, earlier: tuple[EarlierSearch, ...] = ()):
    recorder = ScriptRecorder()
    setting = SearchSetting(plan=plan, space=SPACE)
    found = explore(setting, Costs(), TableScoring(table()), recorder=recorder, earlier_searches=earlier)
    return found, recorder


PLAN = Plan(
    space=ModuleSpec(name="toy"), task=None, devices=(), objectives=(ACCURACY, SIZE), constraints=(),
    strategy=ModuleSpec(name="bayesian"), budget=Budget(trials=40), evaluator=EvaluationSpec(kind="table", path="-"),
)  # fmt: skip


@pytest.fixture(scope="module")
def earlier() -> EarlierSearch:
    found, _ = run(dataclasses.replace(PLAN, strategy=ModuleSpec(name="random")))
    return EarlierSearch(
        name="search 1", space=SPACE.identity, evaluator=found.section()["evaluator"],  # type: ignore[arg-type]
        objectives=(ACCURACY, SIZE), results=found.results,
    )  # fmt: skip


def test_earlier_front_comes_first_and_knowledge_is_no_trial(earlier: EarlierSearch) -> None:
    found, recorder = run(dataclasses.replace(PLAN, budget=Budget(trials=20)), (earlier,))
    section = found.section()
    first = section["warm_start"]["first_trials"]  # type: ignore[index]  # plain data
    assert section["warm_start"]["results"] == 40  # type: ignore[index]
    assert len(found.results) == len(recorder) == 20  # what is known takes none of the budget
    known = {row.tobytes(): value for row, value in zip(earlier.results.genomes, earlier.results.values, strict=True)}
    for row, value in zip(found.results.genomes[:first], found.results.values[:first], strict=True):
        np.testing.assert_array_equal(known[row.tobytes()], value)
    cold, _ = run(dataclasses.replace(PLAN, budget=Budget(trials=20)))
    assert found.results.values[:, 0].min() <= earlier.results.values[:, 0].min()
    assert "warm_start" not in cold.section()


def test_costs_and_constraints_are_those_of_the_new_search(earlier: EarlierSearch) -> None:
    plan = dataclasses.replace(
        PLAN, objectives=(ACCURACY,), constraints=(Constraint(name="size", bound=6.0),), budget=Budget(trials=12)
    )
    found, _ = run(plan, (earlier,))
    assert found.results.feasible.all()
    assert found.section()["warm_start"]["first_trials"] == 1  # type: ignore[index]  # the best of the feasible


def test_values_that_cannot_be_compared_are_refused(earlier: EarlierSearch) -> None:
    with pytest.raises(ConfigError, match="evaluated by the same task, recipe and seed"):
        run(PLAN, (dataclasses.replace(earlier, evaluator="other"),))
    with pytest.raises(ConfigError, match="was not recorded"):
        run(PLAN, (dataclasses.replace(earlier, evaluator=None),))
    with pytest.raises(ConfigError, match="same space"):
        run(PLAN, (dataclasses.replace(earlier, space="elsewhere"),))
    values = dataclasses.replace(earlier.results, values=earlier.results.values[:, 1:], sources=("predicted:test",))
    with pytest.raises(ConfigError, match="objective accuracy"):
        run(PLAN, (dataclasses.replace(earlier, objectives=(SIZE,), results=values),))
    with pytest.raises(ConfigError, match="full effort only"):
        run(dataclasses.replace(PLAN, strategy=ModuleSpec(name="asha")), (earlier,))


@pytest.mark.parametrize("name", [name for name in catalog.names() if not catalog.multi_fidelity(name)])
def test_knowledge_takes_no_numbers_and_may_be_proposed_again(name: str, earlier: EarlierSearch) -> None:
    from archsmith.search.problem import Problem

    problem = Problem(space=SPACE, objectives=(ACCURACY, SIZE), known=dict(Costs.known))
    strategy = catalog.get(name, problem, 0)
    assert isinstance(strategy, BaseStrategy)
    known: Results = earlier.results
    strategy.know(known)
    assert strategy.told == 0
    assert not strategy.archive.holds(known.genomes).any()
    assert len(strategy.ask(2)) == 2
