"""Monte-Carlo tree search over the tree of genes: upper confidence bounds down the tree, random completions below it.

A node is what has been decided so far, gene by gene, parents before the genes that depend on them; genes that the
decisions leave inactive are not decided. Results count at every node on their way.

Source: Negrinho and Gordon, "DeepArchitect: Automatically designing and training deep architectures", 2017,
https://arxiv.org/abs/1704.08792; UCT: Kocsis and Szepesvári, ECML 2006. We deviate in the reward, which is the share of
results that a result is placed before (`rewards.py`), and in batches: proposals not yet answered count as losses.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ...spaces.gene import GeneTable
from ..problem import Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members
from .rewards import rewards

__all__ = ["MCTS", "GeneTree"]


class Node:
    """Decisions so far: how often they were tried, what they earned, and what was decided next."""

    __slots__ = ("children", "total", "visits")

    def __init__(self) -> None:
        self.visits = 0
        self.total = 0.0
        self.children: dict[int, Node] = {}


class GeneTree:
    """Visits and rewards of partial decisions.

    Args:
        table: the genes.
        exploration: weight of the confidence bound, c in UCT.
    """

    def __init__(self, table: GeneTable, exploration: float) -> None:
        self._table = table
        self._c = exploration
        self.root = Node()
        self._conditions = [
            [
                (table.find(when.gene), {table.genes[table.find(when.gene)].index(value) for value in when.values})
                for when in gene.when
            ]
            for gene in table.genes
        ]

    def walk(self, rng: np.random.Generator) -> NDArray[np.int16]:
        """[G] a canonical genome: by confidence bounds as far as the tree goes, at random below."""
        genes = self._table.genes
        out = np.zeros(len(genes), dtype=np.int16)
        chosen: list[int | None] = [None] * len(genes)
        node: Node | None = self.root
        for index in self._table.order:
            if not all(chosen[parent] in allowed for parent, allowed in self._conditions[index]):
                continue
            if node is None:
                choice = int(rng.integers(genes[index].cardinality))
            else:
                choice = self._select(node, genes[index].cardinality, rng)
                node = node.children.get(choice)
            chosen[index] = choice
            out[index] = choice
        return out

    def _select(self, node: Node, choices: int, rng: np.random.Generator) -> int:
        """A child never tried, at random, or the one with the highest bound."""
        unseen = [choice for choice in range(choices) if choice not in node.children]
        if unseen:
            return unseen[int(rng.integers(len(unseen)))]
        spread = 2.0 * math.log(node.visits)
        bounds = [
            child.total / child.visits + self._c * math.sqrt(spread / child.visits)
            for child in (node.children[choice] for choice in range(choices))
        ]
        best = max(bounds)
        ties = [choice for choice, bound in enumerate(bounds) if bound == best]
        return ties[int(rng.integers(len(ties)))] if len(ties) > 1 else ties[0]

    def add(self, genome: NDArray[np.int16], reward: float, *, visits: int = 1) -> None:
        """Count a result at every node on its way; `visits` -1 takes back what was added with reward 0."""
        node = self.root
        node.visits += visits
        node.total += reward
        active = self._table.active(genome[None])[0]
        for index in self._table.order:
            if not active[index]:
                continue
            choice = int(genome[index])
            child = node.children.get(choice)
            if child is None:
                child = node.children[choice] = Node()
            child.visits += visits
            child.total += reward
            if child.visits == 0:
                del node.children[choice]
            node = child


class MCTS(BaseStrategy):
    """Upper confidence bounds over the tree of genes.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        exploration: weight of the confidence bound, c in UCT.
    """

    name = "mcts"

    def __init__(self, problem: Problem, seed: int, *, exploration: float = 0.3) -> None:
        if not exploration >= 0:
            raise StrategyError(f"{self.name}: got exploration {exploration}; it must be at least 0.")
        super().__init__(problem, seed)
        self.exploration = exploration
        self.members = Members.none(problem)
        self.rewards: NDArray[np.float64] = np.empty(0)
        self.tree = GeneTree(problem.space.table, exploration)

    def _candidates(self, n: int) -> Candidates:
        genomes = np.empty((n, len(self.space.genes)), dtype=np.int16)
        for row in range(n):
            genomes[row] = self.tree.walk(self.rng)
            self.tree.add(genomes[row], 0.0)  # open: others go elsewhere
        for genome in genomes:
            self.tree.add(genome, 0.0, visits=-1)
        return genomes, np.full(n, -1, dtype=np.int64)

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        new = Members.successful(results, numbers)
        self.members = Members.join([self.members, new])
        earned = rewards(self.members, len(new))
        self.rewards = np.concatenate([self.rewards, earned])
        for genome, reward in zip(new.genomes, earned.tolist(), strict=True):
            self.tree.add(genome, reward)

    def _memory(self) -> StrategyState:
        return StrategyState(scalars={}, arrays={**self.members.arrays("members"), "rewards": self.rewards})

    def _recall(self, state: StrategyState) -> None:
        self.members = Members.from_arrays("members", state.arrays)
        self.rewards = np.asarray(state.arrays["rewards"], dtype=np.float64)
        self.tree = GeneTree(self.space.table, self.exploration)
        for genome, reward in zip(self.members.genomes, self.rewards.tolist(), strict=True):
            self.tree.add(genome, reward)
