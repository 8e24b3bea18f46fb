"""Regularized (ageing) evolution: the parent is the best of a small sample, and the oldest member dies.

Source: Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019,
https://arxiv.org/abs/1802.01548, algorithm 1. We deviate in two ways: several objectives are compared by
constraint-domination rank and crowding distance, and children come in batches, each from its own tournament.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members

__all__ = ["RegularizedEvolution"]


class RegularizedEvolution(BaseStrategy):
    """Ageing evolution by mutation alone.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        population: length of the queue, P in the paper.
        sample: members per tournament, S in the paper.
        rate: mutation probability per active gene; None = one gene on average.
    """

    name = "regularized_evolution"

    def __init__(
        self, problem: Problem, seed: int, *, population: int = 50, sample: int = 10, rate: float | None = None
    ) -> None:
        if population < 2 or not 1 <= sample <= population:
            raise StrategyError(
                f"regularized_evolution: got population {population} and sample {sample}; "
                "population must be at least 2 and sample between 1 and population."
            )
        super().__init__(problem, seed)
        self.population = population
        self.sample = sample
        self.rate = rate
        self.queue = Members.none(problem)
        self._place: NDArray[np.intp] | None = None

    def _candidates(self, n: int) -> Candidates:
        first = n if not len(self.queue) else min(n, max(0, self.population - len(self.archive)))
        genomes, parents = self._uniform(first)
        if first == n:
            return genomes, parents
        chosen = self._tournaments(n - first)
        children = self.space.mutate(self.queue.genomes[chosen], self.rng, self.rate)
        return np.concatenate([genomes, children]), np.concatenate([parents, self.queue.numbers[chosen]])

    def _tournaments(self, n: int) -> NDArray[np.intp]:
        """[n] queue positions of the winners; each tournament samples members without replacement."""
        if self._place is None:
            order = self.queue.best_first(len(self.queue))
            self._place = np.empty(len(order), dtype=np.intp)
            self._place[order] = np.arange(len(order))
        size = min(self.sample, len(self.queue))
        draws = self.rng.random((n, len(self.queue)))
        entrants = np.argpartition(draws, size - 1, axis=1)[:, :size]
        return entrants[np.arange(n), self._place[entrants].argmin(axis=1)]

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        joined = Members.join([self.queue, Members.successful(results, numbers)])
        self.queue = joined.take(slice(max(0, len(joined) - self.population), None))
        self._place = None

    def _memory(self) -> StrategyState:
        return StrategyState(scalars={}, arrays=self.queue.arrays("queue"))

    def _recall(self, state: StrategyState) -> None:
        self.queue = Members.from_arrays("queue", state.arrays)
        self._place = None
