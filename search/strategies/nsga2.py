"""NSGA-II over genomes, vectorised, with constraint-domination and operators for categorical choices.

Source: Deb, Pratap, Agarwal, Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
Transactions on Evolutionary Computation 6(2), 2002, https://doi.org/10.1109/4235.996017. We deviate in the operators
(uniform crossover and per-gene mutation, which respect inactive genes), in a first generation that is spread from small
to large networks, in never evaluating a genome twice, and in merging whatever was told since the last proposals, which
need not be a whole generation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members
from .variation import Variation

__all__ = ["NSGA2"]


class NSGA2(BaseStrategy):
    """Elitist evolution towards the whole Pareto front.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        population: survivors of each merge, and how many first proposals have no parents.
        crossover: share of children with two parents.
        rate: mutation probability per gene; None = one of all genes on average.
    """

    name = "nsga2"

    def __init__(
        self, problem: Problem, seed: int, *, population: int = 100, crossover: float = 0.9, rate: float | None = None
    ) -> None:
        if population < 2 or not 0.0 <= crossover <= 1.0:
            raise StrategyError(
                f"nsga2: got population {population} and crossover {crossover}; "
                "population must be at least 2 and crossover within 0 to 1."
            )
        super().__init__(problem, seed)
        self.population = population
        self.crossover = crossover
        self.rate = 1.0 / len(self.space.genes) if rate is None else rate
        self.survivors = Members.none(problem)
        self._waiting: list[Members] = []
        self._variation = Variation(problem.space)

    def _candidates(self, n: int) -> Candidates:
        self._survive()
        first = n if not len(self.survivors) else min(n, max(0, self.population - len(self.archive)))
        if first == n:
            return self._spread(n)
        children, parents = self._offspring(n - first)
        if not first:
            return children, parents
        genomes, none = self._spread(first)
        return np.concatenate([genomes, children]), np.concatenate([none, parents])

    def _spread(self, n: int) -> Candidates:
        return self._variation.spread(n, self.rng), np.full(n, -1, dtype=np.int64)

    def _survive(self) -> None:
        """Keep the best of survivors and newcomers, best first: a tournament is then won by the lower index."""
        if not self._waiting:
            return
        joined = Members.join([self.survivors, *self._waiting])
        self._waiting = []
        if len(joined):
            self.survivors = joined.take(self._keep(joined))

    def _keep(self, joined: Members) -> NDArray[np.intp]:
        """Which members survive, best first."""
        return joined.best_first(self.population)

    def _offspring(self, n: int) -> Candidates:
        """[n, G] children of binary-tournament winners."""
        first, second = self.rng.integers(0, len(self.survivors), size=(2, 2, n)).min(axis=0)
        filled = self._variation.fill(self.survivors.genomes, self.rng)
        children = filled[first]
        alone = n - round(n * self.crossover)  # winners come in random order: the first share is a random share
        children[alone:] = self._variation.cross(children[alone:], filled[second[alone:]], self.rng)
        # A child with one parent must mutate, or it would be that parent again.
        self._variation.mutate(children, self.rng, self.rate, slice(0, alone))
        return self._variation.finish(children), self.survivors.numbers[first]

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        self._waiting.append(Members.successful(results, numbers))

    def _memory(self) -> StrategyState:
        # Newcomers are kept apart: merging here would make proposals depend on when the state was taken.
        waiting = Members.join(self._waiting) if self._waiting else Members.none(self.problem)
        return StrategyState(scalars={}, arrays={**self.survivors.arrays("survivors"), **waiting.arrays("waiting")})

    def _recall(self, state: StrategyState) -> None:
        self.survivors = Members.from_arrays("survivors", state.arrays)
        waiting = Members.from_arrays("waiting", state.arrays)
        self._waiting = [waiting] if len(waiting) else []
