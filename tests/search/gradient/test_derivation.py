"""Derivation: from learned distributions to networks, with and without a limit."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import InfeasibleError, StrategyError
from archsmith.search.gradient.cost_table import CostTable
from archsmith.search.gradient.derivation import DERIVATIONS, Limit, argmax, feasible, sampled, top_edges
from archsmith.search.gradient.distribution import Distribution, options_of, places_of
from archsmith.spaces.elastic.mixture import NONE, MixedPlace

EDGES = tuple(MixedPlace(name=f"n.{index}", choices=(NONE, "a", "b"), node="n", kept=2) for index in range(3))
RNG = np.random.default_rng(0)


def toy(rng: np.random.Generator) -> tuple[Distribution, CostTable]:
    places = tuple(MixedPlace(name=name, choices=("x", "y", "z")) for name in "pqr")
    costs = {place.name: rng.uniform(0, 3, 3) for place in places}
    chances = {place.name: rng.dirichlet(np.ones(3)) for place in places}
    table = CostTable(quantity="macs", places=places, constant=1.0, costs=costs, error=0.0)
    return Distribution(places=places, chances=chances, edges={}), table


def limit_of(table: CostTable, bound: float, least_use: float = 0.0, factor: float = 1.0) -> Limit:
    return Limit(table=table, bound=bound, least_use=least_use, true_cost=lambda chosen: factor * table.total(chosen))


def test_top_edges_keeps_the_two_edges_with_the_best_choice_that_is_not_none() -> None:
    chances = {"n.0": np.array([0.9, 0.06, 0.04]), "n.1": np.array([0.2, 0.5, 0.3]), "n.2": np.array([0.1, 0.3, 0.6])}
    learned = Distribution(places=EDGES, chances=chances, edges={})
    assert top_edges(learned, RNG) == {"n.0": None, "n.1": 1, "n.2": 2}
    with pytest.raises(StrategyError, match="top_edges"):
        argmax(learned, RNG)
    # PC-DARTS multiplies by the edges' shares, ROME looks at them alone; none is an edge with nothing on it.
    shared = Distribution(places=EDGES, chances=chances, edges={"n": np.array([0.899, 0.1, 0.001])})
    assert top_edges(shared, RNG) == {"n.0": 1, "n.1": 1, "n.2": None}
    assert argmax(shared, RNG) == {"n.0": 1, "n.1": 1, "n.2": None}


def test_feasible_is_the_likeliest_network_within_the_limit() -> None:
    for seed in range(8):
        learned, table = toy(np.random.default_rng(seed))
        bound = table.least + 1.5
        found = feasible(learned, RNG, limit_of(table, bound))
        assert table.total(found) <= bound
        within = []
        for choices in itertools.product(range(3), repeat=3):
            chosen = dict(zip("pqr", choices, strict=True))
            if table.total(chosen) <= bound - 0.005 * 1.5:
                within.append(np.prod([learned.chances[name][choice] for name, choice in chosen.items()]))
        assert np.prod([learned.chances[name][choice] for name, choice in found.items()]) >= max(within) - 1e-12  # type: ignore[index]  # no edge is left out


def test_feasible_uses_the_limit_up_where_a_network_does() -> None:
    learned, table = toy(np.random.default_rng(1))
    totals = sorted(
        table.total(dict(zip("pqr", choices, strict=True))) for choices in itertools.product(range(3), repeat=3)
    )
    for target in totals[5:]:
        cost = table.total(feasible(learned, RNG, limit_of(table, target * 1.01, least_use=0.95)))
        assert 0.95 * 1.01 * target - 1e-9 <= cost <= 1.01 * target


def test_feasible_keeps_the_true_cost_where_the_table_is_too_low() -> None:
    learned, table = toy(np.random.default_rng(2))
    limit = limit_of(table, 1.2 * (table.least + 1.0), factor=1.1)
    assert 1.1 * table.total(feasible(learned, RNG, limit)) <= limit.bound
    with pytest.raises(InfeasibleError, match="cheapest costs"):
        feasible(learned, RNG, limit_of(table, 0.5))


@pytest.mark.parametrize("name", sorted(DERIVATIONS))
def test_every_derivation_gives_a_network_of_a_space_of_cells(name: str) -> None:
    space = spaces.get("darts", "tiny")
    places = places_of(space)
    rng = np.random.default_rng(3)
    nodes: dict[str, int] = {}
    for place in places:
        nodes[place.node] = nodes.get(place.node, 0) + 1
    learned = Distribution(
        places=places,
        chances={place.name: rng.dirichlet(np.ones(len(place.choices))) for place in places},
        edges={node: rng.dirichlet(np.ones(count)) for node, count in nodes.items()},
    )

    def macs(genomes):
        return space.macs(genomes).astype(np.float64)

    table = CostTable.of(space, "macs", macs, rng)
    bound = float(np.quantile(macs(space.sample(100, rng)), 0.3))
    limit = Limit(
        table=table, bound=bound, least_use=0.8, true_cost=lambda chosen: float(macs(space.assembled(chosen)[None])[0])
    )
    for given in (None, limit):
        chosen = DERIVATIONS[name](learned, rng, given)
        genome = space.assembled(chosen)
        assert space.choices_of(genome) == chosen
        if given is not None and name in ("feasible", "sampled"):
            assert limit.holds(chosen)


def test_draws_follow_the_distribution_and_keep_edges_without_replacement() -> None:
    shares = np.array([0.6, 0.3, 0.1])
    learned = Distribution(
        places=EDGES, chances={edge.name: np.array([0.5, 0.4, 0.1]) for edge in EDGES}, edges={"n": shares}
    )
    rng, draws = np.random.default_rng(0), 3000
    kept = np.zeros(3)
    firsts = total = 0
    for _ in range(draws):
        drawn = sampled(learned, rng)
        here = [index for index in range(3) if drawn[f"n.{index}"] is not None]
        assert len(here) == 2
        assert all(drawn[f"n.{index}"] for index in here)  # never none
        kept[here] += 1
        firsts, total = firsts + sum(drawn[f"n.{index}"] == 1 for index in here), total + 2
    assert firsts / total == pytest.approx(0.8, abs=0.03)
    missing = 1 - kept / draws
    expected = [
        sum(a * b / (1 - a) for a, b in itertools.permutations(np.delete(shares, index), 2)) for index in range(3)
    ]
    assert missing.tolist() == pytest.approx(expected, abs=0.03)


def test_distribution_survives_json_and_refuses_other_places() -> None:
    learned, _ = toy(np.random.default_rng(5))
    again = Distribution.from_json(learned.places, json.loads(json.dumps(learned.to_json())))
    assert all((again.chances[name] == learned.chances[name]).all() for name in "pqr")
    assert 0 < learned.entropy < 0.99
    assert Distribution.uniform(learned.places).entropy == pytest.approx(1)
    with pytest.raises(StrategyError, match="not those of this space"):
        Distribution.from_json(EDGES, learned.to_json())


def test_options_of_a_node_are_all_pairs_of_edges_with_all_their_choices() -> None:
    (group,) = options_of(EDGES)
    assert len(group) == 3 * 2 * 2
    assert all(sum(choice is None for choice in option.values()) == 1 for option in group)
