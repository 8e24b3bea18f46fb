"""Each strategy does what its paper says, and the catalog what its errors say."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.strategy_kit import evaluate, toy_problem, toy_space

from archsmith.errors import ConfigError, StrategyError
from archsmith.search.pareto import hypervolume
from archsmith.search.problem import Constraint, Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategies.nsga2 import NSGA2
from archsmith.search.strategies.random import RandomSearch
from archsmith.search.strategies.regularized_evolution import RegularizedEvolution
from archsmith.search.strategies.repair import repair
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace


def run(strategy, problem, evaluations, batch):
    parts = []
    while strategy.told < evaluations:
        results = evaluate(problem, strategy.ask(min(batch, evaluations - strategy.told)))
        parts.append(results.values[results.feasible])
        strategy.tell(results)
    return np.concatenate(parts)


def one_max():
    space = GeneSpace([Gene(f"bit{index}", (0, 1)) for index in range(20)], name="one_max")
    ones = {"ones": lambda genomes: genomes.sum(axis=1).astype(float)}
    return Problem(space=space, objectives=(Objective(name="ones", direction="max"),), known=ones)


def test_ageing_evolution_on_one_max_beats_random_in_18_of_20_seeds():
    problem = one_max()
    wins = 0
    for seed in range(20):
        ours = run(RegularizedEvolution(problem, seed, population=10, sample=3), problem, 500, 1).min()
        wins += ours < run(RandomSearch(problem, seed), problem, 500, 50).min()
    assert wins >= 18


def test_ageing_evolution_queue_members_survive_population_cycles():
    problem = one_max()
    strategy = RegularizedEvolution(problem, 0, population=10, sample=3)
    for cycle in range(40):
        strategy.tell(evaluate(problem, strategy.ask(1)))
        assert strategy.queue.numbers.tolist() == list(range(max(0, cycle - 9), cycle + 1))


@pytest.mark.parametrize("seed", range(3))
def test_nsga2_under_a_constraint_has_more_hypervolume_than_random(seed):
    problem = toy_problem(toy_space(16), bound=20.0)
    reference = np.array([0.0, 21.0])
    ours = hypervolume(run(NSGA2(problem, seed, population=40), problem, 800, 20), reference)
    assert ours > 1.05 * hypervolume(run(RandomSearch(problem, seed), problem, 800, 20), reference)


def test_nsga2_survivors_are_best_first_and_elitist():
    problem = toy_problem(toy_space())
    strategy = NSGA2(problem, 0, population=20)
    volumes = []
    for _ in range(15):
        strategy.tell(evaluate(problem, strategy.ask(20)))
        strategy.ask(1)
        assert len(strategy.survivors) == 20
        volumes.append(strategy.survivors.values[:, 0].min())
    assert volumes == sorted(volumes, reverse=True)


def test_no_feasible_genome_proposes_the_least_violating():
    problem = toy_problem(toy_space(30), bound=-1.0)
    proposals = NSGA2(problem, 0).ask(8)
    assert len(proposals) == 8
    assert (
        problem.known["size"](proposals.genomes).mean()
        < problem.known["size"](problem.space.sample(500, np.random.default_rng(0))).mean()
    )


def test_repair_moves_towards_the_bound_and_leaves_feasible_rows_alone():
    problem = toy_problem(toy_space(), bound=10.0)
    genomes = problem.space.sample(200, np.random.default_rng(1))
    before = problem.known_violations(genomes).sum(axis=1)
    repaired, after = repair(problem, genomes, np.random.default_rng(2))
    np.testing.assert_array_equal(after, problem.known_violations(repaired).sum(axis=1))
    np.testing.assert_array_equal(repaired[before == 0], genomes[before == 0])
    assert (before > 0).sum() > 50
    assert (after == 0).mean() > 0.95


def test_random_search_under_a_constraint_stays_uniform():
    space = GeneSpace([Gene("a", tuple(range(30))), Gene("b", tuple(range(30)))], name="grid")
    problem = Problem(
        space=space,
        objectives=(Objective(name="a", direction="min"),),
        constraints=(Constraint(name="a", bound=9.0),),
        known={"a": lambda genomes: genomes[:, 0].astype(float)},
    )
    genomes = RandomSearch(problem, 0).ask(300).genomes
    np.testing.assert_array_equal(np.bincount(genomes[:, 0], minlength=30), [30] * 10 + [0] * 20)


def test_catalog_unknown_names_and_options_list_the_choices():
    with pytest.raises(ConfigError, match=r"nsga9.*nsga2.*random.*regularized_evolution"):
        catalog.get("nsga9", one_max(), 0)
    with pytest.raises(ConfigError, match=r"strategy.options.populaton.*population \(default 100\)"):
        catalog.get("nsga2", one_max(), 0, populaton=3)
    with pytest.raises(ConfigError, match=r"population: got '9'; allowed: an integer \(default 100\)"):
        catalog.get("nsga2", one_max(), 0, population="9")
    with pytest.raises(StrategyError, match="population must be at least 2"):
        catalog.get("nsga2", one_max(), 0, population=1)
