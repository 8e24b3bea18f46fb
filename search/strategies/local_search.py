"""Local search: evaluate the neighbours of the best member whose neighbourhood has not been seen, best first.

Where all neighbours of the best are known and none improves on it, the next best is expanded; so the search needs no
restarts and never ends before the space does.

Source: White, Nolen, Savani, "Exploring the loss landscape in neural architecture search", UAI 2021,
https://arxiv.org/abs/2005.02960. We deviate for several objectives: best is by constraint-domination rank, then the
less crowded; the published search has one objective and starts again at local optima.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members

__all__ = ["LocalSearch"]


class LocalSearch(BaseStrategy):
    """Best-first expansion of neighbourhoods.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: uniform samples before the first neighbourhood.
        width: how many of the best unexpanded members a call may expand at a time; 1 is the greediest.
    """

    name = "local_search"

    def __init__(self, problem: Problem, seed: int, *, initial: int = 10, width: int = 1) -> None:
        if initial < 1 or width < 1:
            raise StrategyError(f"local_search: got initial {initial} and width {width}; both must be at least 1.")
        super().__init__(problem, seed)
        self.initial = initial
        self.width = width
        self.members = Members.none(problem)
        self._expanded = np.empty(0, dtype=np.bool_)

    def _candidates(self, n: int) -> Candidates:
        first = n if not len(self.members) else min(n, max(0, self.initial - len(self.archive)))
        genomes, parents = self._uniform(first)
        if first == n:
            return genomes, parents
        around = self._around_the_best(n - first)
        return np.concatenate([genomes, around[0]]), np.concatenate([parents, around[1]])

    def _around_the_best(self, n: int) -> Candidates:
        """New neighbours of the best members in turn, shuffled within each; members without any are done with."""
        parts: list[Candidates] = []
        found = taken = 0
        for index in self.members.best_first(len(self.members)):
            if self._expanded[index]:
                continue
            near = self.space.neighbors(self.members.genomes[index])
            new = near[~self.archive.holds(near)]
            if not len(new):
                self._expanded[index] = True
                continue
            new = new[self.rng.permutation(len(new))]
            parts.append((new, np.full(len(new), self.members.numbers[index])))
            found, taken = found + len(new), taken + 1
            if found >= n and taken >= self.width:
                break
        if not parts:
            return self._uniform(n)
        genomes = np.concatenate([genomes for genomes, _ in parts])
        parents = np.concatenate([parents for _, parents in parts])
        if self.width > 1:
            order = self.rng.permutation(len(genomes))
            genomes, parents = genomes[order], parents[order]
        return genomes[:n], parents[:n]

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        new = Members.successful(results, numbers)
        self.members = Members.join([self.members, new])
        self._expanded = np.concatenate([self._expanded, np.zeros(len(new), dtype=np.bool_)])

    def _memory(self) -> StrategyState:
        return StrategyState(
            scalars={}, arrays={**self.members.arrays("members"), "expanded": self._expanded.astype(np.uint8)}
        )

    def _recall(self, state: StrategyState) -> None:
        self.members = Members.from_arrays("members", state.arrays)
        self._expanded = np.asarray(state.arrays["expanded"]).astype(np.bool_)
