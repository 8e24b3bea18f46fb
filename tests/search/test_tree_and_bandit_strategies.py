"""BANANAS, tree searches, bandits and hierarchical evolution do what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.strategy_kit import evaluate, toy_problem, toy_space

from archsmith import spaces
from archsmith.errors import ConfigError, StrategyError
from archsmith.search.problem import Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategies.hierarchical_evolution import HierarchicalEvolution
from archsmith.search.strategies.manas import MANAS, exponential_weights, least_squares_values, zipf_policy
from archsmith.search.strategies.mcts import GeneTree
from archsmith.search.strategies.members import Members
from archsmith.search.strategies.nested_mcts import NestedMCTS
from archsmith.search.strategies.rewards import rewards
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.space import GeneSpace


def additive(genes: int = 8, choices: int = 4, seed: int = 0) -> Problem:
    """A cost that is a sum over genes, each with one choice much better than the others."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(0.5, 1.0, (genes, choices))
    table[np.arange(genes), rng.integers(0, choices, genes)] = 0.0
    space = GeneSpace([Gene(f"g{i}", tuple(range(choices))) for i in range(genes)], name="additive")
    return Problem(
        space=space,
        objectives=(Objective(name="cost", direction="min"),),
        known={"cost": lambda genomes: table[np.arange(genes), genomes].sum(axis=1)},
    )


def best_after(name: str, problem: Problem, seed: int, batches: int = 20, batch: int = 10, **options) -> float:
    strategy = catalog.get(name, problem, seed, **options)
    values = []
    for _ in range(batches):
        results = evaluate(problem, strategy.ask(batch))
        strategy.tell(results)
        values.append(results.values.min())
    return min(values)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bananas", {"steps": 60, "members": 3, "refit": 30}),
        ("hierarchical_evolution", {}),
        ("manas", {}),
        ("manas", {"variant": "exp3"}),
        ("mcts", {}),
        ("nested_mcts", {}),
    ],
)
def test_strategies_beat_random_on_an_additive_cost(name, options):
    ours = [best_after(name, additive(seed=seed), seed, **options) for seed in range(3)]
    random = [best_after("random", additive(seed=seed), seed) for seed in range(3)]
    assert np.mean(ours) < np.mean(random)


def test_rewards_put_feasible_before_infeasible_and_better_before_worse():
    members = Members(
        genomes=np.zeros((4, 1), dtype=np.int16),
        values=np.array([[3.0], [1.0], [0.0], [2.0]]),
        violation=np.array([0.0, 0.0, 5.0, 0.0]),
        numbers=np.arange(4),
    )
    np.testing.assert_allclose(rewards(members, 4), [0.375, 0.875, 0.125, 0.625])
    np.testing.assert_allclose(rewards(members, 2), [0.125, 0.625])


def test_upper_confidence_bounds_find_the_one_good_leaf():
    """ALGORITHMS C13: three levels of four branches, one leaf of 0.9, the others uniform in [0, 0.5], 300 rounds."""
    space = GeneSpace([Gene(f"g{i}", (0, 1, 2, 3)) for i in range(3)], name="leaves")
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        leaves = rng.uniform(0.0, 0.5, (4, 4, 4))
        best = tuple(rng.integers(0, 4, 3))
        leaves[best] = 0.9
        tree = GeneTree(space.table, 1.0)
        seen = set()
        for _ in range(300):
            genome = tree.walk(rng)
            seen.add(tuple(genome))
            tree.add(genome, float(leaves[tuple(genome)]))
        found += best in seen
    assert found >= 38


def test_tree_decides_active_genes_only_and_takes_back_open_visits():
    space = GeneSpace(
        [Gene("a", (0, 1)), Gene("b", (0, 1, 2), when=(When("a", (1,)),)), Gene("c", (0, 1))], name="conditional"
    )
    tree = GeneTree(space.table, 0.5)
    rng = np.random.default_rng(0)
    genomes = np.array([tree.walk(rng) for _ in range(50)])
    np.testing.assert_array_equal(space.canonical(genomes), genomes)
    tree.add(np.array([0, 0, 1], dtype=np.int16), 0.5)
    assert list(tree.root.children[0].children) == [1]  # gene b is not decided
    tree.add(np.array([1, 2, 0], dtype=np.int16), 0.0)
    tree.add(np.array([1, 2, 0], dtype=np.int16), 0.0, visits=-1)
    assert (tree.root.visits, list(tree.root.children)) == (1, [0])


def test_nested_search_spends_its_rounds_at_every_level_and_keeps_children():
    problem = additive(genes=5, choices=4)
    strategy = NestedMCTS(problem, 0, warm_up=40, rounds=3, prune_from=0.9, prune_to=0.99, enough=2, keep=2)
    strategy.tell(evaluate(problem, strategy.ask(40)))
    allowed = strategy.allowed()
    assert (allowed.sum(axis=1) >= 2).all()
    assert not allowed.all()
    before = strategy.simulated
    strategy._commit(7)
    assert strategy.simulated - before == 7 * 3 * allowed.sum()


def test_least_squares_bandits_recover_every_agents_best_choice():
    """ALGORITHMS A10: additive toy, 6 agents of 4 operations, 200 rounds."""
    rng = np.random.default_rng(0)
    costs = rng.uniform(0, 1, (6, 4))
    choices = rng.integers(0, 4, (200, 6)).astype(np.int16)
    losses = costs[np.arange(6), choices].sum(axis=1) + rng.normal(0, 0.05, 200)
    values = least_squares_values(choices, losses, np.ones((200, 6), dtype=bool), 4)
    np.testing.assert_array_equal(values.argmin(axis=1), costs.argmin(axis=1))
    policy = zipf_policy(values, np.ones((6, 4), dtype=bool))
    np.testing.assert_allclose(np.sort(policy, axis=1)[:, ::-1], np.tile([0.48, 0.24, 0.16, 0.12], (6, 1)))


def test_exponential_weights_put_most_mass_on_the_best_choice():
    """ALGORITHMS A10: after 2,000 rounds at rate 0.05 and a floor of 5 %, mean mass of at least 0.7."""
    rng = np.random.default_rng(1)
    costs = rng.uniform(0, 1, (6, 4))
    costs[np.arange(6), rng.integers(0, 4, 6)] = 0.0
    exists = np.ones((6, 4), dtype=bool)
    credit = np.zeros((6, 4))
    agents = np.arange(6)
    policy = exponential_weights(credit, exists, 0.05, 0.05)
    for _ in range(2000):
        policy = exponential_weights(credit, exists, 0.05, 0.05)
        chosen = (rng.random((6, 1)) > policy.cumsum(axis=1)).sum(axis=1).clip(max=3)
        credit[agents, chosen] += costs[agents, chosen].mean() / policy[agents, chosen]
    assert policy[agents, costs.argmin(axis=1)].mean() >= 0.7
    assert policy.min() >= 0.05 / 4 - 1e-12


def test_bandits_refuse_the_state_of_the_other_variant():
    problem = toy_problem(toy_space())
    with pytest.raises(StrategyError, match="variant"):
        MANAS(problem, 0, variant="exp3").restore(MANAS(problem, 0).state())
    with pytest.raises(ConfigError, match="text"):
        catalog.get("manas", problem, 0, variant=3)


def test_hierarchical_mutation_changes_one_edge_of_one_motif():
    space = spaces.get("hierarchical", "tiny")
    problem = Problem(
        space=space, objectives=(Objective(name="sum", direction="min"),), known={"sum": lambda g: g.sum(axis=1) * 1.0}
    )
    strategy = HierarchicalEvolution(problem, 0)
    parents = space.sample(2000, strategy.rng)
    children = strategy.mutate(parents)
    changed = children != parents
    np.testing.assert_array_equal(changed.sum(axis=1), 1)
    levels = np.array([gene.name.split(".")[0] for gene in space.genes])
    share = changed[:, levels == "cell"].any(axis=1).mean()
    assert 0.45 < share < 0.55  # levels change equally often, though motifs have more genes
