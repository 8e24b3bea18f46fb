"""What the conformance kit leaves out of Optuna's samplers: their models, their distributions, and their quiet."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest
from contracts.strategy_kit import evaluate, toy_problem, toy_space

from archsmith.errors import StrategyError
from archsmith.search.problem import Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategies.optuna_samplers import OptunaGP, OptunaNSGA2, OptunaTPE
from archsmith.search.strategy import StrategyState
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.space import GeneSpace


def test_gaussian_process_resumes_with_its_model():
    problem = toy_problem(toy_space(6), bound=9.0)
    options = {"initial": 6, "suggestions": 1, "rows": 10}
    whole = OptunaGP(problem, 1, **options)
    for _ in range(4):
        whole.tell(evaluate(problem, whole.ask(2)))
    resumed = OptunaGP(problem, 7, **options)
    state = whole.state()
    resumed.restore(StrategyState(scalars=json.loads(json.dumps(state.scalars)), arrays=state.arrays))
    np.testing.assert_array_equal(resumed.ask(2).genomes, whole.ask(2).genomes)


def test_tpe_is_asked_for_active_genes_alone():
    space = GeneSpace(
        [Gene("kind", ("a", "b")), Gene("size", (1, 2, 3), kind="ordered", when=(When("kind", ("b",)),))], name="cond"
    )
    problem = Problem(
        space=space,
        objectives=(Objective(name="size", direction="max"),),
        known={"size": lambda genomes: genomes[:, 1].astype(float)},
    )
    strategy = OptunaTPE(problem, 0, initial=2)
    strategy.tell(evaluate(problem, strategy.ask(4)))
    told = [trial for trial in strategy._study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert {tuple(sorted(trial.params)) for trial in told} == {("kind",), ("kind", "size")}
    assert told[0].distributions["kind"] == optuna.distributions.CategoricalDistribution((0, 1))


def test_constraints_reach_optuna():
    problem = toy_problem(toy_space(), bound=3.0)
    strategy = OptunaNSGA2(problem, 0, population=4)
    strategy.tell(evaluate(problem, strategy.ask(6)))
    told = [trial for trial in strategy._study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert [trial.system_attrs["constraints"] for trial in told] == strategy._violations.tolist()


@pytest.mark.parametrize("name", ["optuna_cmaes", "optuna_nsga2", "optuna_tpe"])
def test_samplers_beat_random_on_one_max(name):
    space = GeneSpace([Gene(f"bit{index}", (0, 1)) for index in range(16)], name="one_max")
    ones = {"ones": lambda genomes: genomes.sum(axis=1).astype(float)}
    problem = Problem(space=space, objectives=(Objective(name="ones", direction="max"),), known=ones)

    def best(name: str, seed: int) -> float:
        strategy = catalog.get(name, problem, seed)
        values = []
        for _ in range(10):
            results = evaluate(problem, strategy.ask(12))
            strategy.tell(results)
            values.append(results.values.min())
        return min(values)

    assert sum(best(name, seed) for seed in range(3)) < sum(best("random", seed) for seed in range(3))


def test_verbosity_of_optuna_stays_the_users():
    problem = toy_problem(toy_space())
    before = optuna.logging.get_verbosity()
    OptunaTPE(problem, 0).ask(2)
    assert optuna.logging.get_verbosity() == before


def test_options_out_of_range_are_refused():
    problem = toy_problem(toy_space())
    with pytest.raises(StrategyError, match="suggestions 0"):
        OptunaTPE(problem, 0, suggestions=0)
    with pytest.raises(StrategyError, match="population 1"):
        OptunaNSGA2(problem, 0, population=1)


def test_gaussian_process_is_asked_once_per_call_from_fewer_starts_the_more_genes(monkeypatch):
    wide = GeneSpace([Gene(f"g{index}", (0, 1, 2), kind="ordered") for index in range(40)], name="wide")
    total = {"total": lambda genomes: genomes.sum(axis=1).astype(float)}
    problem = Problem(space=wide, objectives=(Objective(name="total", direction="max"),), known=total)
    strategy = OptunaGP(problem, 0, initial=4, rows=8)
    several = Problem(space=wide, objectives=(problem.objectives[0], *_others(3)), known=total | _known(3))
    assert OptunaGP(several, 0).starts < strategy.starts == 10
    asked = []
    suggest = strategy._suggest
    monkeypatch.setattr(strategy, "_suggest", lambda seed, n: asked.append(n) or suggest(seed, n))
    strategy.tell(evaluate(problem, strategy.ask(12)))
    strategy.tell(evaluate(problem, strategy.ask(12)))
    assert asked == [1, 1]
    assert strategy._sampler(0)._n_local_search == strategy.starts


def _others(count):
    return [Objective(name=f"first{number}", direction="min") for number in range(count)]


def _known(count):
    return {f"first{number}": lambda genomes, n=number: genomes[:, n].astype(float) for number in range(count)}
