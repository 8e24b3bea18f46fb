"""NSGA-III: as NSGA-II, but the front that fills the population is thinned by reference directions.

Reference directions spread over the simplex keep many-objective fronts covered where crowding distance no longer tells
members apart.

Source: Deb and Jain, "An evolutionary many-objective optimization algorithm using reference-point-based nondominated
sorting approach, part I", IEEE Transactions on Evolutionary Computation 18(4), 2014,
https://doi.org/10.1109/TEVC.2013.2281535; directions after Das and Dennis (1998). We deviate in normalisation: by the
ideal and the nadir of the first front instead of by the hyperplane of extreme points, which is often degenerate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..pareto import rank
from ..problem import Problem
from .members import Members
from .nsga2 import NSGA2

__all__ = ["NSGA3", "niching", "reference_directions"]


class NSGA3(NSGA2):
    """Elitist evolution that keeps one niche per reference direction.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        population: survivors of each merge; also about how many reference directions there are.
        crossover: share of children with two parents.
        rate: mutation probability per gene; None = one of all genes on average.
    """

    name = "nsga3"

    def __init__(
        self, problem: Problem, seed: int, *, population: int = 100, crossover: float = 0.9, rate: float | None = None
    ) -> None:
        if population < 2 or not 0.0 <= crossover <= 1.0:
            raise StrategyError(
                f"nsga3: got population {population} and crossover {crossover}; "
                "population must be at least 2 and crossover within 0 to 1."
            )
        super().__init__(problem, seed, population=population, crossover=crossover, rate=rate)
        self._directions = reference_directions(len(problem.objectives), population)

    def _keep(self, joined: Members) -> NDArray[np.intp]:
        """Best first: whole fronts, then the members of the last one that serve the emptiest niches."""
        ranks = rank(joined.values, joined.violation)
        if len(joined) <= self.population:
            return np.argsort(ranks, kind="stable")
        last = int(np.partition(ranks, self.population - 1)[self.population - 1])
        sure = np.flatnonzero(ranks < last)
        sure = sure[np.argsort(ranks[sure], kind="stable")]
        rest = np.flatnonzero(ranks == last)
        chosen = niching(
            joined.values[np.concatenate([sure, rest])], len(sure), self.population, self._directions, self.rng
        )
        return np.concatenate([sure, rest[chosen]])


def reference_directions(objectives: int, count: int) -> NDArray[np.float64]:
    """[D, M] directions: the finest simplex lattice of at most `count` points, and at least the M corners.

    >>> reference_directions(2, 3).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    if objectives == 1:
        return np.ones((1, 1))
    parts = 1
    while math.comb(parts + objectives, objectives - 1) <= count:
        parts += 1
    points = np.array(list(_compositions(parts, objectives)), dtype=np.float64)
    return points / parts


def _compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in _compositions(total - first, parts - 1)]


def niching(
    values: NDArray[np.float64],
    kept: int,
    population: int,
    directions: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Which of the last front fill the population.

    Args:
        values: [B, M] minimised; the first `kept` rows are in the population, the others are the last front.
        kept: how many are in.
        population: how many there shall be.
        directions: [D, M].
        rng: breaks ties.

    Returns:
        [population - kept] indices into the last front, in the order chosen.
    """
    low = values.min(axis=0)
    span = values.max(axis=0) - low
    scaled = (values - low) / np.where(span > 0, span, 1.0)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    along = scaled @ unit.T
    distance = np.sqrt(np.maximum((scaled**2).sum(axis=1)[:, None] - along**2, 0.0))  # [B, D] to each line
    niche = distance.argmin(axis=1)
    gap = distance[np.arange(len(values)), niche]
    crowd = np.bincount(niche[:kept], minlength=len(directions)).astype(np.float64)
    open_rows = np.ones(len(values) - kept, dtype=np.bool_)
    chosen: list[int] = []
    while len(chosen) < population - kept:
        waiting = np.unique(niche[kept:][open_rows])
        emptiest = waiting[crowd[waiting] == crowd[waiting].min()]
        target = emptiest[rng.integers(len(emptiest))]
        members = np.flatnonzero(open_rows & (niche[kept:] == target))
        # An empty niche takes its closest member, another one any: as published.
        pick = members[gap[kept:][members].argmin()] if crowd[target] == 0 else members[rng.integers(len(members))]
        chosen.append(int(pick))
        open_rows[pick] = False
        crowd[target] += 1
    return np.array(chosen, dtype=np.intp)
