"""Derived: the network that gradient-based search derived, then draws from the distribution that it learned.

Source: Wu et al., FBNet, CVPR 2019, https://arxiv.org/abs/1812.03443, section 3.3: several networks are drawn from the
learned distribution, trained, and the best is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..problem import Problem
from ..strategy import Results
from .base import BaseStrategy, Candidates

if TYPE_CHECKING:
    from ..gradient.distribution import Distribution  # needs torch, which a list of strategies does not

__all__ = ["Derived"]


class Derived(BaseStrategy):
    """Proposes what was learned before the search; results do not change it.

    The pipeline hands it what was learned (`follow`); without that it draws uniformly.

    Args:
        problem: what is searched.
        seed: decides every proposal.
    """

    name = "derived"

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._learned: Distribution | None = None
        self._first = np.empty((0, len(problem.space.genes)), dtype=np.int16)

    def follow(self, learned: Distribution, first: NDArray[np.int16]) -> None:
        """Draw from what was learned, `first` [G] before all others."""
        self._learned = learned
        self._first = first[None].astype(np.int16)

    def _candidates(self, n: int) -> Candidates:
        """The first one again and again: what was proposed before is dropped from the candidates."""
        if self._learned is None:
            return self._uniform(n)
        drawn = self._learned.sample(self.space, n, self.rng)
        genomes = np.concatenate([self._first, drawn])
        return genomes, np.full(len(genomes), -1, dtype=np.int64)

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        """Nothing: what is proposed does not depend on results."""
