"""Hierarchical evolution: tournaments over everything evaluated, and mutation that first picks a level, then a motif.

Genes are grouped by their names: the first part says the level (``motifs``, ``cell``), all but the last the motif
(``motifs.2``). So every level changes equally often, however many genes it has; in the family `hierarchical` a mutation
replaces the operation of one edge of one motif.

Source: Liu et al., "Hierarchical representations for efficient architecture search", ICLR 2018,
https://arxiv.org/abs/1711.00436, section 3. We deviate in the first members (uniform samples, where the paper mutates a
trivial network many times), and for several objectives, which constraint-domination and crowding compare.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Population, Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members

__all__ = ["HierarchicalEvolution", "levels_of"]


class HierarchicalEvolution(BaseStrategy):
    """Tournament evolution whose population only grows.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: uniform samples before the first tournament.
        share: of the population that takes part in a tournament.
    """

    name = "hierarchical_evolution"

    def __init__(self, problem: Problem, seed: int, *, initial: int = 50, share: float = 0.05) -> None:
        if initial < 2 or not 0 < share <= 1:
            raise StrategyError(
                f"hierarchical_evolution: got initial {initial} and share {share}; initial must be at least 2 and "
                "share within 0 to 1."
            )
        super().__init__(problem, seed)
        self.initial = initial
        self.share = share
        self.members = Members.none(problem)
        self._levels, self._motifs = levels_of([gene.name for gene in self.space.genes])
        self._place: NDArray[np.intp] | None = None

    def _candidates(self, n: int) -> Candidates:
        first = n if not len(self.members) else min(n, max(0, self.initial - len(self.archive)))
        genomes, parents = self._uniform(first)
        if first == n:
            return genomes, parents
        chosen = self._tournaments(n - first)
        children = self.mutate(self.members.genomes[chosen])
        return np.concatenate([genomes, children]), np.concatenate([parents, self.members.numbers[chosen]])

    def _tournaments(self, n: int) -> NDArray[np.intp]:
        """[n] members that won; entrants are drawn with replacement."""
        if self._place is None:
            order = self.members.best_first(len(self.members))
            self._place = np.empty(len(order), dtype=np.intp)
            self._place[order] = np.arange(len(order))
        size = max(2, math.ceil(self.share * len(self.members)))
        entrants = self.rng.integers(0, len(self.members), (n, size))
        return entrants[np.arange(n), self._place[entrants].argmin(axis=1)]

    def mutate(self, genomes: Population) -> Population:
        """[B, G] children: one gene of one motif of one level, each picked uniformly, takes another of its choices.

        A gene that this makes active takes a random choice.
        """
        table = self.space.table
        able = table.active(genomes) & (table.cardinalities > 1)
        able = self._only_one(able, self._levels)
        able = self._only_one(able, self._motifs)
        able = self._only_one(able, np.arange(len(table.genes)))
        rows, genes = np.nonzero(able)
        filled = np.where(table.active(genomes), genomes, table.uniform(len(genomes), self.rng)).astype(np.int16)
        steps = 1 + (self.rng.random(len(rows)) * (table.cardinalities[genes] - 1)).astype(np.int16)
        filled[rows, genes] = (filled[rows, genes] + steps) % table.cardinalities[genes]
        return table.canonical(filled)

    def _only_one(self, able: NDArray[np.bool_], groups: NDArray[np.intp]) -> NDArray[np.bool_]:
        """[B, G] of the genes that may change, those of one group, picked uniformly among the groups that have any."""
        count = int(groups.max(initial=-1)) + 1
        member = groups[:, None] == np.arange(count)
        present = (able[:, :, None] & member).any(axis=1)
        score = np.where(present, self.rng.random(present.shape), -1.0)
        return able & (groups == score.argmax(axis=1)[:, None])

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        self.members = Members.join([self.members, Members.successful(results, numbers)])
        self._place = None

    def _memory(self) -> StrategyState:
        return StrategyState(scalars={}, arrays=dict(self.members.arrays("members")))

    def _recall(self, state: StrategyState) -> None:
        self.members = Members.from_arrays("members", state.arrays)
        self._place = None


def levels_of(names: list[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """[G] number of each gene's level, and [G] of its motif.

    >>> [numbers.tolist() for numbers in levels_of(["motifs.0.0-1", "motifs.1.0-1", "cell.0-1"])]
    [[0, 0, 1], [0, 1, 2]]
    """
    levels = [name.split(".")[0] for name in names]
    motifs = [name.rpartition(".")[0] or name for name in names]
    return _numbered(levels), _numbered(motifs)


def _numbered(words: list[str]) -> NDArray[np.intp]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.intp)
