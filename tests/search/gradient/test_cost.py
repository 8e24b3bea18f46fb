"""Costs: tables, penalties, multipliers and projection, against brute force and finite differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.errors import ConfigError, InfeasibleError
from archsmith.search.gradient.cost_table import CostTable
from archsmith.search.gradient.cost_terms import PENALTIES, Lagrangian, Penalty
from archsmith.search.gradient.distribution import places_of
from archsmith.search.gradient.knapsack import best_within
from archsmith.search.gradient.mixing import Mixer
from archsmith.search.gradient.parameters import ArchitectureParameters
from archsmith.search.gradient.pricing import Pricing
from archsmith.search.gradient.projection import lift, project
from archsmith.search.gradient.relaxation import Draw, Learns, Moment
from archsmith.search.gradient.relaxations import RELAXATIONS
from archsmith.search.gradient.settings import CostSettings
from archsmith.spaces.elastic.mixture import MixedPlace, one_hot


def table_of(name: str, preset: str = "tiny") -> tuple[spaces.SearchSpace, CostTable]:
    space = spaces.get(name, preset)
    return space, CostTable.of(space, "macs", lambda g: space.macs(g).astype(np.float64), np.random.default_rng(0))


def toy_table(costs: dict[str, list[float]], constant: float = 0.0) -> CostTable:
    places = tuple(MixedPlace(name=name, choices=tuple(map(str, range(len(c))))) for name, c in costs.items())
    return CostTable(
        quantity="macs",
        places=places,
        constant=constant,
        costs={name: np.array(values) for name, values in costs.items()},
        error=0.0,
    )


@pytest.mark.parametrize("name", ["fbnet", "single_path_nas", "proxylessnas"])
def test_table_tells_the_cost_of_every_network(name: str) -> None:
    space, table = table_of(name)
    genomes = space.sample(40, np.random.default_rng(1))
    told = [table.total(space.choices_of(genome)) for genome in genomes]
    assert told == pytest.approx(space.macs(genomes).tolist(), rel=1e-9)
    assert table.error < 1e-9
    assert table.least <= min(told)


def test_table_of_cells_is_nearly_additive_and_states_its_error() -> None:
    """Nodes that compute the same are run once, which no additive table tells."""
    space, table = table_of("darts")
    genomes = space.sample(100, np.random.default_rng(1))
    told = np.array([table.total(space.choices_of(genome)) for genome in genomes])
    errors = np.abs(told / space.macs(genomes) - 1)
    assert np.median(errors) < 0.02
    assert errors.max() < 2 * table.error + 0.02


@pytest.mark.parametrize("name", ["fbnet", "darts"])
def test_expected_cost_of_one_network_is_its_cost(name: str) -> None:
    space, table = table_of(name)
    genome = space.sample(1, np.random.default_rng(2))[0]
    chosen = space.choices_of(genome)
    weights = {name: weight.double() for name, weight in one_hot(table.places, chosen).weights.items()}
    kept = {}
    for place in table.places:
        if place.kept:
            kept.setdefault(place.node, []).append(float(chosen[place.name] is not None))
    draw = Draw(weights=weights, chances=weights, kept={node: torch.tensor(shares) for node, shares in kept.items()})
    assert float(table.expected(draw)) == pytest.approx(table.total(chosen), rel=1e-9)


def test_table_of_the_same_quantity_has_the_same_identity() -> None:
    assert table_of("fbnet")[1].identity == table_of("fbnet")[1].identity
    space = spaces.get("fbnet", "tiny")
    params = CostTable.of(space, "params", lambda g: space.params(g).astype(float), np.random.default_rng(0))
    assert params.identity != table_of("fbnet")[1].identity


def test_gradient_of_expected_latency_matches_finite_differences() -> None:
    _, table = table_of("fbnet")
    parameters = ArchitectureParameters(table.places, seed=3)
    for logits in parameters.logits.values():
        logits.data = torch.randn(len(logits), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mixer = Mixer(parameters, RELAXATIONS["gumbel"]())

    def cost() -> torch.Tensor:
        generator = torch.Generator().manual_seed(4)
        return table.expected(mixer.draw(Moment(learns=Learns.CHOICES, generator=generator, temperature=0.7)))

    first = parameters.logits[table.places[1].name]
    (found,) = torch.autograd.grad(cost(), first)
    for index in range(len(first)):
        with torch.no_grad():
            first[index] += 1e-5
            up = float(cost())
            first[index] -= 2e-5
            down = float(cost())
            first[index] += 1e-5
        assert float(found[index]) == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


def test_of_two_choices_equally_good_the_cheap_one_wins() -> None:
    """FBNet's loss: equal cross-entropies, costs of 10 and 100 units."""
    table = toy_table({"p": [10.0, 100.0]})
    logits = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    penalty = Penalty(name="fbnet", strength=0.2, exponent=0.6, reference=100.0, unit=1.0)
    for _ in range(200):
        chances = torch.softmax(logits, 0)
        loss = penalty(torch.tensor(1.0), table.expected(Draw(weights={}, chances={"p": chances})))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(torch.softmax(logits, 0)[0].detach()) > 0.9


def test_penalties_at_published_values() -> None:
    """20 ms are 20,000 microseconds to FBNet, and 80 ms the reference of ProxylessNAS, whatever the unit here."""
    entropy = torch.tensor(2.0)
    assert float(Penalty.of("fbnet", reference=20.0)(entropy, torch.tensor(20.0))) == pytest.approx(
        2 * 0.2 * math.log(20_000) ** 0.6, rel=1e-6
    )
    assert float(Penalty.of("mul_log", reference=80.0)(entropy, torch.tensor(40.0))) == pytest.approx(
        2 * 0.2 * (math.log(40) / math.log(80)) ** 0.3, rel=1e-6
    )
    assert float(Penalty.of("add_linear", reference=80.0)(entropy, torch.tensor(88.0))) == pytest.approx(2.01)
    assert float(Penalty.of("add_log", reference=80.0)(entropy, torch.tensor(160.0))) == pytest.approx(
        2 + 0.02 * math.log(2)
    )
    assert float(Penalty.of("none", reference=80.0)(entropy, torch.tensor(160.0))) == 2


@pytest.mark.parametrize("name", sorted(PENALTIES))
def test_penalties_are_finite_and_rise_with_cost_even_far_from_the_reference(name: str) -> None:
    penalty = Penalty.of(name, reference=1.0)
    values = [float(penalty(torch.tensor(1.0), torch.tensor(cost))) for cost in (1e-6, 0.5, 1.0, 2.0, 1e6)]
    assert np.isfinite(values).all()
    assert values == sorted(values)


def test_multiplier_grows_while_the_limit_is_broken_and_stops_at_zero_unless_signed() -> None:
    for signed in (False, True):
        bound = Lagrangian(limit=10.0, rate=0.5, signed=signed)
        bound.observe(20.0)
        assert bound.multiplier == pytest.approx(0.5 * math.log(2))
        cost = torch.tensor(20.0, requires_grad=True)
        bound.loss(cost).backward()
        assert float(cost.grad) > 0  # type: ignore[arg-type]  # it was just set
        for _ in range(5):
            bound.observe(5.0)
        assert (bound.multiplier < 0) == signed
        below = torch.tensor(5.0, requires_grad=True)
        bound.loss(below).backward()
        assert (float(below.grad) < 0) == signed  # type: ignore[arg-type]  # it was just set


def test_dual_ascent_ends_at_the_limit() -> None:
    """A choice that accuracy prefers and the limit forbids: the expected cost settles on the limit."""
    table = toy_table({"p": [1.0, 3.0], "q": [1.0, 3.0]})
    logits = {name: torch.zeros(2, requires_grad=True) for name in "pq"}
    optimizer = torch.optim.Adam(logits.values(), lr=0.02)
    bound = Lagrangian(limit=4.0, rate=0.02, signed=True)
    costs = []
    for _ in range(1500):
        chances = {name: torch.softmax(value, 0) for name, value in logits.items()}
        cost = table.expected(Draw(weights={}, chances=chances))
        loss = -0.3 * chances["p"][1] - 0.1 * chances["q"][1] + bound.loss(cost)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bound.observe(float(cost.detach()))
        costs.append(float(cost.detach()))
    assert np.mean(costs[-500:]) == pytest.approx(4.0, rel=0.03)


# --- knapsack and projection ------------------------------------------------------------------------------------------


def test_knapsack_finds_what_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        costs = [rng.uniform(0, 4, 4) for _ in range(4)]
        scores = [rng.normal(size=4) for _ in range(4)]
        budget = float(rng.uniform(5, 9))
        found = best_within(costs, scores, budget)
        assert found is not None
        assert sum(cost[choice] for cost, choice in zip(costs, found, strict=True)) <= budget

        def best_under(limit: float, costs=costs, scores=scores) -> float:
            every = itertools.product(range(4), repeat=4)
            return max(
                sum(score[c] for score, c in zip(scores, choice, strict=True))
                for choice in every
                if sum(cost[c] for cost, c in zip(costs, choice, strict=True)) <= limit
            )

        reached = sum(score[choice] for score, choice in zip(scores, found, strict=True))
        assert best_under(0.995 * budget) <= reached + 1e-9  # the grid costs half a percent at most
        assert reached <= best_under(budget) + 1e-9


def test_knapsack_spends_at_least_what_is_asked_where_it_can() -> None:
    costs, scores = [np.array([0.0, 1.0, 5.0])] * 2, [np.array([3.0, 0.0, 0.0])] * 2
    assert best_within(costs, scores, 6.0) == [0, 0]
    spent = best_within(costs, scores, 6.0, least=5.0)
    assert spent is not None
    assert sorted(spent) == [0, 2]
    assert best_within(costs, scores, 4.0, least=3.9) == [0, 0]
    assert best_within([np.array([2.0])], [np.array([0.0])], 1.0) is None


def test_lift_is_the_nearest_point_where_a_choice_leads() -> None:
    logits = np.array([0.2, 1.0, 0.7])
    grid = np.linspace(-0.5, 1.5, 81)
    points = np.stack([axis.ravel() for axis in np.meshgrid(grid, grid, grid, indexing="ij")], axis=1)
    for choice in range(3):
        leading = points[points[:, choice] >= points.max(axis=1) - 1e-12]
        nearest = np.sqrt(np.square(leading - logits).sum(axis=1).min())
        moved = lift(logits, choice)
        assert moved.argmax() == choice or moved[choice] == moved.max()
        assert np.linalg.norm(moved - logits) <= nearest + 1e-9
        assert nearest <= np.linalg.norm(moved - logits) + 0.05


def test_projection_is_within_five_percent_of_the_nearest_feasible_parameters() -> None:
    """Two edges of three operations that cost 0, 1 and 4, under a cap of 3."""
    table = toy_table({"x": [0.0, 1.0, 4.0], "y": [0.0, 1.0, 4.0]})
    parameters = ArchitectureParameters(table.places)
    start = {"x": np.array([0.0, 0.2, 0.9]), "y": np.array([0.1, 0.5, 0.3])}
    with torch.no_grad():
        for name, logits in parameters.logits.items():
            logits.copy_(torch.as_tensor(start[name]))
    assert project(parameters, table, 3.0)
    found = {name: logits.detach().numpy() for name, logits in parameters.logits.items()}
    assert table.total({name: int(logits.argmax()) for name, logits in found.items()}) <= 3
    moved = math.sqrt(sum(float(np.square(found[name] - start[name]).sum()) for name in start))
    grid = np.linspace(-0.2, 1.2, 29)
    points = np.stack([axis.ravel() for axis in np.meshgrid(grid, grid, grid, indexing="ij")], axis=1)
    least = {
        name: [
            float(np.square(points[points.argmax(axis=1) == choice] - start[name]).sum(axis=1).min())
            for choice in range(3)
        ]
        for name in start
    }
    nearest = math.sqrt(
        min(
            least["x"][a] + least["y"][b]
            for a, b in itertools.product(range(3), repeat=2)
            if table.costs["x"][a] + table.costs["y"][b] <= 3
        )
    )
    assert moved <= 1.05 * nearest
    assert not project(parameters, table, 3.0)  # what is feasible is left untouched
    with pytest.raises(InfeasibleError, match="cheapest costs 0"):
        project(parameters, table, -1.0)


# --- what a search says of its cost -----------------------------------------------------------------------------------


def test_a_bound_needs_a_limit_that_some_network_keeps() -> None:
    space = spaces.get("fbnet", "tiny")

    def macs(genomes):
        return space.macs(genomes).astype(np.float64)

    with pytest.raises(ConfigError, match="constraint on macs"):
        Pricing(space, CostSettings(bound="lagrangian"), macs)
    with pytest.raises(InfeasibleError, match="cheapest costs"):
        Pricing(space, CostSettings(), macs, limit=10.0)
    assert Pricing(space, CostSettings(limit=9e5), macs, limit=1e6).limit == 9e5


def test_places_of_a_space_without_mixtures_says_so() -> None:
    from archsmith.errors import StrategyError

    with pytest.raises(StrategyError, match="no mixtures"):
        places_of(spaces.get("mobilenet", "tiny"))
