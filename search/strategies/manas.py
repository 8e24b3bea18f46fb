"""MANAS: one bandit per gene; all draw together, and the loss of the network is credited to each of them.

Notation: G genes, K choices of the gene that has most, N results.

Source: Lopes et al., "MANAS: Multi-agent neural architecture search", Machine Learning 113, 2024,
https://arxiv.org/abs/1909.01051. Printed with a plus sign, the exponential weights are for gains; we minimise losses.
We deviate in what a round is (an evaluation, where the paper trains shared weights on), in a floor under the policy,
without which importance weights explode, in crediting active genes only, and in the loss, the share of results placed
before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members
from .rewards import rewards

__all__ = ["MANAS", "exponential_weights", "least_squares_values", "zipf_policy"]

Array = NDArray[np.float64]


def exponential_weights(losses: Array, exists: NDArray[np.bool_], rate: float, floor: float) -> Array:
    """[G, K] policy: softmax of -rate * losses [G, K], mixed with `floor` of a uniform one."""
    scaled = np.where(exists, -rate * losses, -np.inf)
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    counts = exists.sum(axis=1, keepdims=True)
    return np.where(exists, (1 - floor) * weights / weights.sum(axis=1, keepdims=True) + floor / counts, 0.0)


def least_squares_values(choices: NDArray[np.int16], losses: Array, active: NDArray[np.bool_], width: int) -> Array:
    """[G, K] additive loss of every choice: ridge regression of losses [N] on stacked one-hots of choices [N, G]."""
    count, genes = choices.shape
    design = np.zeros((count, genes * width))
    rows, columns = np.nonzero(active)
    design[rows, columns * width + choices[rows, columns]] = 1.0
    gram = design.T @ design + np.eye(genes * width)  # blocks of one-hots are collinear: the ridge decides
    return np.linalg.solve(gram, design.T @ (losses - losses.mean())).reshape(genes, width)


def zipf_policy(values: Array, exists: NDArray[np.bool_]) -> Array:
    """[G, K] policy: probability 1 / rank, normalised, the choice of least loss first."""
    order = np.argsort(np.where(exists, values, np.inf), axis=1, kind="stable")
    place = np.empty(values.shape)
    np.put_along_axis(place, order, np.broadcast_to(np.arange(1.0, values.shape[1] + 1), values.shape).copy(), axis=1)
    weights = np.where(exists, 1.0 / place, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


class MANAS(BaseStrategy):
    """Bandits over genes.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        variant: `ls` (least squares, the better one in the paper) or `exp3` (exponential weights).
        rate: learning rate of `exp3`.
        floor: share of every policy of `exp3` that stays uniform.
        warm_up: results before `ls` draws by its ranks; 0 = as many as there are choices.
    """

    name = "manas"

    def __init__(
        self, problem: Problem, seed: int, *, variant: str = "ls", rate: float = 0.05, floor: float = 0.05,
        warm_up: int = 0,
    ) -> None:  # fmt: skip
        if variant not in ("ls", "exp3") or not rate > 0 or not 0 < floor <= 1 or warm_up < 0:
            raise StrategyError(
                f"manas: got variant {variant!r}, rate {rate}, floor {floor} and warm_up {warm_up}; variant must be ls "
                "or exp3, rate positive, floor within 0 to 1 and warm_up at least 0."
            )
        super().__init__(problem, seed)
        self.variant, self.rate, self.floor = variant, rate, floor
        cardinalities = self.space.table.cardinalities
        self.warm_up = warm_up or min(int(cardinalities.sum()), 100)
        self._exists = np.arange(int(cardinalities.max(initial=1))) < cardinalities[:, None]
        self.credit = np.zeros(self._exists.shape)
        self.members = Members.none(problem)
        self.losses: Array = np.empty(0)
        self._policy: Array | None = None

    @property
    def policy(self) -> Array:
        """[G, K] probabilities by which every agent draws."""
        if self._policy is None:
            self._policy = self._decide()
        return self._policy

    def _decide(self) -> Array:
        if self.variant == "exp3":
            return exponential_weights(self.credit, self._exists, self.rate, self.floor)
        if len(self.members) < self.warm_up:
            return self._exists / self._exists.sum(axis=1, keepdims=True)
        genomes = self.members.genomes
        active = self.space.table.active(genomes)
        return zipf_policy(least_squares_values(genomes, self.losses, active, self._exists.shape[1]), self._exists)

    def _candidates(self, n: int) -> Candidates:
        edges = self.policy.cumsum(axis=1)
        draws = self.rng.random((n, len(self.space.genes), 1))
        choices = np.minimum((draws > edges).sum(axis=2), self.space.table.cardinalities - 1)
        return self.space.table.canonical(choices.astype(np.int16)), np.full(n, -1, dtype=np.int64)

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        new = Members.successful(results, numbers)
        self.members = Members.join([self.members, new])
        losses = 1.0 - rewards(self.members, len(new))
        self.losses = np.concatenate([self.losses, losses])
        if self.variant == "exp3":
            rows, genes = np.nonzero(self.space.table.active(new.genomes))
            choices = new.genomes[rows, genes]
            np.add.at(self.credit, (genes, choices), losses[rows] / self.policy[genes, choices])
        self._policy = None

    def _memory(self) -> StrategyState:
        arrays = {"losses": self.losses, "credit": self.credit.copy()}
        return StrategyState(scalars={"variant": self.variant}, arrays={**self.members.arrays("members"), **arrays})

    def _recall(self, state: StrategyState) -> None:
        if state.scalars["variant"] != self.variant:
            raise StrategyError(
                f"manas.restore: the state is that of variant {state.scalars['variant']!r}, this strategy's is "
                f"{self.variant!r}. Restore with the job that wrote the state, or start a new search."
            )
        self.members = Members.from_arrays("members", state.arrays)
        self.losses = np.asarray(state.arrays["losses"], dtype=np.float64)
        self.credit = np.array(state.arrays["credit"], dtype=np.float64)
        self._policy = None
