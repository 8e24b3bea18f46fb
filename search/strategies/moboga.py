"""MOBOGA: a genetic algorithm proposes, and Bayesian models of objectives and constraints decide.

Source: the pattern of Yang et al., "RA-AutoML", 2020, https://arxiv.org/abs/2011.00073: one Gaussian process per
objective and per constraint, a population that evolves on the acquisition times the probability to be feasible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Population, Problem
from .bayesian import ELITE, ModelBased
from .belief import Belief

__all__ = ["MOBOGA"]


class MOBOGA(ModelBased):
    """Constraint-aware Bayesian optimisation with a genetic proposal.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: first proposals, before there is a model.
        pool: individuals of the inner population.
        generations: for which it evolves per call.
    """

    name = "moboga"

    def __init__(
        self, problem: Problem, seed: int, *, initial: int = 10, pool: int = 400, generations: int = 10
    ) -> None:
        super().__init__(problem, seed, initial=initial, pool=pool)
        if generations < 1:
            raise StrategyError(f"moboga: got {generations} generations; at least 1 is needed.")
        self.generations = generations

    def _pool(self, belief: Belief) -> Population:
        pool = self._new(np.concatenate([self._offspring(self._elite(), self.pool), self._random(self.pool)]))
        for _ in range(self.generations):
            if not len(pool):
                break
            best = pool[np.argsort(-self._merit(belief, pool), kind="stable")]
            pool = self._new(np.concatenate([best[: self.pool], self._offspring(best[:ELITE], self.pool // 4)]))
        return pool

    def _choose(self, n: int, belief: Belief, pool: Population) -> NDArray[np.intp]:
        """The best, then the best far from those chosen: similar candidates would teach the same."""
        merit = self._merit(belief, pool)
        order = np.argsort(-merit, kind="stable")[: max(8 * n, 64)]
        chosen = [int(order[0])]
        distance = (pool[order] != pool[chosen[0]]).sum(axis=1)
        while len(chosen) < min(n, len(order)):
            value = merit[order] * distance / max(int(distance.max()), 1) + 1e-12 * distance
            value[distance == 0] = -np.inf
            if not np.isfinite(value).any():
                break
            pick = int(order[int(value.argmax())])
            chosen.append(pick)
            distance = np.minimum(distance, (pool[order] != pool[pick]).sum(axis=1))
        return np.array(chosen, dtype=np.intp)

    def _merit(self, belief: Belief, pool: Population) -> NDArray[np.float64]:
        values = belief.optimistic(pool, 1.0)
        gain = values[:, 0].max() - values[:, 0] if values.shape[1] == 1 else self._score(values)
        return gain * belief.feasibility(pool)
