"""Nested Monte-Carlo tree search: gene by gene, the best child by simulated completions is committed to.

Simulations are scored by what choices earned on average (the naive assumption of combinatorial bandits), as the
published search scores them by shared parameters. Exploration decays and pruning grows with the number of results.

Source: Wang et al., "Automated quantum circuit design with nested Monte Carlo tree search", 2022,
https://arxiv.org/abs/2207.00132. We deviate in what scores simulations, in an equal number of them per child and level
in place of bandit rounds, and in the number of children that stay, of which genes have few.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Population, Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members
from .rewards import rewards

__all__ = ["NestedMCTS"]

CALM: Final = 2.0
"""Tries by which a choice's mean is pulled to the overall one: one lucky result is no evidence."""


class NestedMCTS(BaseStrategy):
    """Nested commitment over the tree of genes.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        warm_up: uniform samples first.
        rounds: simulated completions per child and level.
        exploration: weight of the confidence bound at the start.
        decay: by which it is multiplied after every `warm_up` results.
        prune_from: share of the parent's mean below which a child is dropped, at the start.
        prune_to: the same in the end.
        keep: children that always stay.
        enough: tries of a choice before it may be dropped.
    """

    name = "nested_mcts"

    def __init__(
        self, problem: Problem, seed: int, *, warm_up: int = 20, rounds: int = 4, exploration: float = 0.4,
        decay: float = 0.95, prune_from: float = 0.2, prune_to: float = 0.9, keep: int = 2, enough: int = 10,
    ) -> None:  # fmt: skip
        if min(warm_up, rounds, keep, enough) < 1 or not 0 <= prune_from <= prune_to or not 0 < decay <= 1:
            raise StrategyError(
                f"nested_mcts: got warm_up {warm_up}, rounds {rounds}, keep {keep}, enough {enough}, decay {decay} and "
                f"prune_from {prune_from} to {prune_to}; counts must be at least 1, decay within 0 to 1, and "
                "0 <= prune_from <= prune_to."
            )
        super().__init__(problem, seed)
        self.warm_up, self.rounds, self.keep, self.enough = warm_up, rounds, keep, enough
        self.exploration, self.decay = exploration, decay
        self.prune_from, self.prune_to = prune_from, prune_to
        self.members = Members.none(problem)
        shape = (len(self.space.genes), int(self.space.table.cardinalities.max(initial=1)))
        self.tries = np.zeros(shape)
        self.earned = np.zeros(shape)
        self.simulated = 0

    def _candidates(self, n: int) -> Candidates:
        first = n if not len(self.members) else min(n, max(0, self.warm_up - len(self.archive)))
        genomes, parents = self._uniform(first)
        if first == n:
            return genomes, parents
        rows = self._commit(n - first)
        return np.concatenate([genomes, rows]), np.concatenate([parents, np.full(len(rows), -1, dtype=np.int64)])

    def _commit(self, n: int) -> Population:
        """[n, G] genomes, decided gene by gene for all rows at once."""
        table = self.space.table
        epoch = len(self.members) / self.warm_up
        explore = self.exploration * self.decay**epoch
        worth, total = self.worth()
        bound = worth + explore * np.sqrt(2.0 * np.log(total + 1.0) / (self.tries + 1.0))
        allowed = self.allowed()
        genomes = np.zeros((n, len(table.genes)), dtype=np.int16)
        decided = np.zeros(len(table.genes), dtype=np.bool_)
        for gene in table.order:
            used = table.active(table.canonical(genomes))[:, gene]  # parents are decided before
            scores = np.full((n, int(table.cardinalities[gene])), -np.inf)
            for choice in np.flatnonzero(allowed[gene]):
                scores[:, choice] = self._simulate(genomes, decided, (gene, int(choice)), worth) + bound[gene, choice]
            scores += 1e-3 * explore * self.rng.random(scores.shape)
            genomes[:, gene] = np.where(used, scores.argmax(axis=1), 0)
            decided[gene] = True
        return table.canonical(genomes)

    def _simulate(
        self, genomes: Population, decided: NDArray[np.bool_], child: tuple[int, int], worth: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """[n] best of `rounds` completions of every row after taking `child`, by what their other choices earned."""
        table = self.space.table
        gene, choice = child
        rows = np.repeat(genomes, self.rounds, axis=0)
        rows = np.where(decided, rows, table.uniform(len(rows), self.rng)).astype(np.int16)
        rows[:, gene] = choice
        self.simulated += len(rows)
        rows = table.canonical(rows)
        active = table.active(rows)
        active[:, gene] = False
        means = np.where(active, worth[np.arange(rows.shape[1]), rows], 0.0).sum(axis=1)
        return (means / np.maximum(active.sum(axis=1), 1)).reshape(-1, self.rounds).max(axis=1)

    def worth(self) -> tuple[NDArray[np.float64], float]:
        """[G, K] mean reward of every choice, pulled to 1/2 where it was tried little; and the number of results."""
        return (self.earned + 0.5 * CALM) / (self.tries + CALM), float(len(self.members))

    def allowed(self) -> NDArray[np.bool_]:
        """[G, K] choices that are not pruned; at least `keep` of every gene, or all that it has."""
        cardinalities = self.space.table.cardinalities
        exists = np.arange(self.tries.shape[1]) < cardinalities[:, None]
        worth, results = self.worth()
        share = self.prune_from + (self.prune_to - self.prune_from) * (1.0 - self.decay ** (results / self.warm_up))
        parent = self.earned.sum(axis=1, keepdims=True) / np.maximum(self.tries.sum(axis=1, keepdims=True), 1.0)
        poor = (self.tries >= self.enough) & (worth < share * parent)
        order = np.argsort(-np.where(exists, worth, -np.inf), axis=1, kind="stable")
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.broadcast_to(np.arange(order.shape[1]), order.shape).copy(), axis=1)
        return exists & (~poor | (place < self.keep))

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        new = Members.successful(results, numbers)
        self.members = Members.join([self.members, new])
        earned = rewards(self.members, len(new))
        rows, genes = np.nonzero(self.space.table.active(new.genomes))
        choices = new.genomes[rows, genes]
        np.add.at(self.tries, (genes, choices), 1.0)
        np.add.at(self.earned, (genes, choices), earned[rows])

    def _memory(self) -> StrategyState:
        arrays = {"tries": self.tries.copy(), "earned": self.earned.copy()}
        return StrategyState(scalars={}, arrays={**self.members.arrays("members"), **arrays})

    def _recall(self, state: StrategyState) -> None:
        self.members = Members.from_arrays("members", state.arrays)
        self.tries = np.array(state.arrays["tries"], dtype=np.float64)
        self.earned = np.array(state.arrays["earned"], dtype=np.float64)
