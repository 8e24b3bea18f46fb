"""CARBS: local search around the cost-performance front, with improvement judged at the candidate's own cost.

The last objective is the cost, the others are performance; with one objective the cost is the number of parameters.
Candidates lie near members of the front; one is good if its performance is expected to beat the front's performance at
its own cost, weighted by the probability that it stays within unknown constraints.

Source: Fetterman et al., "Tune as you scale: hyperparameter optimization for compute efficient training", 2023,
https://arxiv.org/abs/2306.08055; https://github.com/imbue-ai/carbs. We deviate in what near means (a few genes changed,
where CARBS draws Gaussians in a scaled continuous space) and take a known cost as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ...errors import StrategyError
from ..problem import Population, Problem
from .bayesian import ModelBased
from .belief import Belief

__all__ = ["CARBS"]

_ROOT_TAU = float(np.sqrt(2 * np.pi))


class CARBS(ModelBased):
    """Local search around the front by expected improvement at equal cost.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: first proposals, before there is a model.
        pool: candidates around the front per call.
        radius: mean number of genes that a candidate differs in from its member of the front.
    """

    name = "carbs"

    def __init__(
        self, problem: Problem, seed: int, *, initial: int = 10, pool: int = 1000, radius: float = 2.0
    ) -> None:
        super().__init__(problem, seed, initial=initial, pool=pool)
        if not radius > 0:
            raise StrategyError(f"carbs: got radius {radius}; it must be positive.")
        self.radius = radius

    def _pool(self, belief: Belief) -> Population:
        """Members of the front with a few genes changed."""
        del belief
        elite = self._elite()
        parents = elite[self.rng.integers(0, len(elite), self.pool)]
        rate = min(self.radius / max(len(self.space.genes), 1), 1.0)
        near = self._new(self.space.mutate(parents, self.rng, rate))
        return near if len(near) else self._new(self._random(self.pool))

    def _choose(self, n: int, belief: Belief, pool: Population) -> NDArray[np.intp]:
        values, better = belief.expected(pool), belief.optimistic(pool, 1.0)
        cost = self._cost(values, pool)
        own = self._cost(self._values, self._genomes)
        feasible = (self._violations <= 0).all(axis=1)
        rows = feasible if feasible.any() else np.ones(len(own), dtype=np.bool_)
        merit = np.ones(len(pool))
        for column in range(max(values.shape[1] - 1, 1)):
            best = _front_at(cost, own[rows], self._values[rows, column])
            merit *= 1e-12 + _expected_improvement(
                values[:, column], np.abs(values[:, column] - better[:, column]), best
            )
        merit *= belief.feasibility(pool)
        return self._spread_over_costs(merit, cost, n)

    def _cost(self, values: NDArray[np.float64], genomes: Population) -> NDArray[np.float64]:
        if values.shape[1] > 1:
            return values[:, -1]
        return self.space.params(genomes).astype(np.float64)

    def _spread_over_costs(self, merit: NDArray[np.float64], cost: NDArray[np.float64], n: int) -> NDArray[np.intp]:
        """The best candidate of each of `n` ranges of cost, in random order; then the best of what is left."""
        order = np.argsort(cost, kind="stable")
        bests = [part[merit[part].argmax()] for part in np.array_split(order, min(n, len(order)))]
        return self.rng.permutation(np.array(bests, dtype=np.intp))


def _front_at(
    cost: NDArray[np.float64], costs: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[B] best value found at or below each cost; the worst of all where nothing was found that cheap."""
    order = np.argsort(costs, kind="stable")
    best = np.minimum.accumulate(values[order])
    place = np.searchsorted(costs[order], cost, side="right") - 1
    return np.where(place >= 0, best[place.clip(min=0)], values.max())


def _expected_improvement(
    mean: NDArray[np.float64], std: NDArray[np.float64], best: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[B] of a minimised value under a Gaussian belief."""
    std = np.maximum(std, 1e-12)
    z = (best - mean) / std
    return std * (z * ndtr(z) + np.exp(-0.5 * z * z) / _ROOT_TAU)
