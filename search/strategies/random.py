"""Random search: uniform over the canonical genomes that satisfy the known constraints; the baseline of every claim."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..strategy import Results
from .base import BaseStrategy, Candidates

__all__ = ["RandomSearch"]


class RandomSearch(BaseStrategy):
    """Uniform sampling without repetition.

    Under known constraints infeasible draws are drawn again, so that feasible genomes stay equally likely; only where
    that finds none are they repaired.
    """

    name = "random"

    DRAWS = 64
    """Draws per missing genome, at most, before infeasible ones are handed to the repair."""

    def _candidates(self, n: int) -> Candidates:
        genomes, parents = self._uniform(n)
        if not self._constrained:
            return genomes, parents
        bad = self._infeasible(genomes, np.arange(n))
        drawn = 1
        while len(bad) and drawn < self.DRAWS:
            # Doubling keeps the number of rounds logarithmic where feasible genomes are rare.
            share = min(drawn, self.DRAWS - drawn)
            fresh = self.space.sample(len(bad) * share, self.rng)
            feasible = np.flatnonzero((self.problem.known_violations(fresh) <= 0).all(axis=1))[: len(bad)]
            genomes[bad[: len(feasible)]] = fresh[feasible]
            bad = bad[len(feasible) :]
            drawn += share
        return genomes, parents

    def _infeasible(self, genomes: NDArray[np.int16], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows[~(self.problem.known_violations(genomes[rows]) <= 0).all(axis=1)]

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        """Nothing: what is proposed does not depend on results."""
