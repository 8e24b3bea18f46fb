"""Derivation: from a learned distribution to one network.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055 (two edges per node); Xu et al., PC-DARTS, ICLR
2020, https://arxiv.org/abs/1907.05737 (times the edges' shares); Wu et al., FBNet, CVPR 2019,
https://arxiv.org/abs/1812.03443 (sampling).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import InfeasibleError, StrategyError
from ...spaces.elastic.mixture import MixedPlace
from .cost_table import CostTable
from .distribution import Chosen, Distribution, choosable, options_of
from .knapsack import best_within
from .parameters import edges_of

__all__ = ["DERIVATIONS", "Limit", "argmax", "feasible", "sampled", "top_edges"]

DRAWS: Final = 256
"""Networks that a sampled derivation draws at most to find one within the limit."""

_TIGHTER: Final = 0.99
_ATTEMPTS: Final = 60

_LEAST_CHANCE: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a derived network must not cost more than.

    Attributes:
        table: additive costs.
        bound: in the table's unit.
        least_use: share of the bound that a network should at least cost, where one does.
        true_cost: of a network, as the search believes it; the table may miss it by its error.
    """

    table: CostTable
    bound: float
    least_use: float
    true_cost: Callable[[Chosen], float]

    def holds(self, chosen: Chosen) -> bool:
        """Whether a network keeps the bound."""
        return self.true_cost(chosen) <= self.bound


def argmax(learned: Distribution, rng: np.random.Generator, limit: Limit | None = None) -> Chosen:
    """The most likely choice of every place; of a node the edges with the largest shares.

    Raises:
        StrategyError: a node keeps some of its edges, but nothing was learned about which.
    """
    del rng, limit
    if open_nodes := [
        node for node, edges in edges_of(learned.places).items() if edges[0].kept and node not in learned.edges
    ]:
        raise StrategyError(
            f"derivation argmax: nothing says which edges of node {open_nodes[0]!r} to keep; derive by top_edges, or "
            "let edges compete (relaxation.edges: softmax or sampled)."
        )
    return _keeping(learned, lambda node, edges: learned.edges[node])


def top_edges(learned: Distribution, rng: np.random.Generator, limit: Limit | None = None) -> Chosen:
    """DARTS: of each node the edges whose best choice other than `NONE` is likeliest, times their share if learned."""
    del rng, limit

    def worth(node: str, edges: tuple[MixedPlace, ...]) -> NDArray[np.float64]:
        best = np.array([learned.chances[edge.name][list(choosable(edge))].max() for edge in edges])
        return best * learned.edges.get(node, np.ones(len(edges)))

    return _keeping(learned, worth)


def sampled(learned: Distribution, rng: np.random.Generator, limit: Limit | None = None) -> Chosen:
    """FBNet: a draw; under a limit the first of many that keeps it, else the best within the limit."""
    for _ in range(DRAWS):
        chosen = learned.draw(rng)
        if limit is None or limit.holds(chosen):
            return chosen
    return feasible(learned, rng, limit)


def feasible(learned: Distribution, rng: np.random.Generator, limit: Limit | None = None) -> Chosen:
    """The likeliest network within the limit, found exactly over the additive table.

    Where the table misses the true cost, the search goes on under a tighter bound until the true cost keeps the limit.

    Raises:
        InfeasibleError: no network keeps it.
    """
    if limit is None:
        decided = all(not edges[0].kept or node in learned.edges for node, edges in edges_of(learned.places).items())
        return (argmax if decided else top_edges)(learned, rng)
    groups = options_of(learned.places)
    costs = [np.array([limit.table.added(option) for option in group]) for group in groups]
    scores = _scores(learned, groups)
    bound = limit.bound
    for _ in range(_ATTEMPTS):
        least = limit.least_use * bound - limit.table.constant
        selection = best_within(costs, scores, bound - limit.table.constant, least)
        if selection is None:
            break
        chosen: Chosen = {}
        for group, option in zip(groups, selection, strict=True):
            chosen |= group[option]
        if limit.holds(chosen):
            return chosen
        bound *= _TIGHTER
    raise InfeasibleError(
        f"derivation: no network keeps {limit.table.quantity} <= {limit.bound:g}; the cheapest costs "
        f"{limit.table.least:g}. Loosen the limit."
    )


def _scores(learned: Distribution, groups: list[list[Chosen]]) -> list[NDArray[np.float64]]:
    """For each group, [options] logarithms of their chances; edges that are kept count with their shares."""
    weights = {place.name: learned.chances[place.name] for place in learned.places}
    for node, edges in edges_of(learned.places).items():
        if edges[0].kept and node in learned.edges:
            weights |= {edge.name: weights[edge.name] * learned.edges[node][at] for at, edge in enumerate(edges)}
    logs = {name: np.log(np.maximum(values, _LEAST_CHANCE)) for name, values in weights.items()}

    def score(option: Chosen) -> float:
        return sum(float(logs[name][choice]) for name, choice in option.items() if choice is not None)

    return [np.array([score(option) for option in group]) for group in groups]


def _keeping(learned: Distribution, worth: Callable[[str, tuple[MixedPlace, ...]], NDArray[np.float64]]) -> Chosen:
    """The likeliest choice everywhere, and of nodes that keep some edges those worth most, earlier ones first."""
    chosen: Chosen = {}
    for place in learned.places:
        allowed = list(choosable(place))
        chosen[place.name] = allowed[int(learned.chances[place.name][allowed].argmax())]
    for node, edges in edges_of(learned.places).items():
        if edges[0].kept:
            order = np.argsort(-worth(node, edges), kind="stable")
            chosen |= {edges[index].name: None for index in order[edges[0].kept :]}
    return chosen


Derivation = Callable[[Distribution, np.random.Generator, Limit | None], Chosen]

DERIVATIONS: Final[Mapping[str, Derivation]] = MappingProxyType({
    "argmax": argmax,
    "feasible": feasible,
    "sampled": sampled,
    "top_edges": top_edges,
})  # fmt: skip
"""By name, from a learned distribution to a network; a limit binds `feasible` and `sampled` alone."""
