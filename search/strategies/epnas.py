"""EPNAS: a surrogate's prediction is a probability to be sampled, cooled from uniform towards the best.

Source: Perez-Rua et al., "Efficient progressive neural architecture search", BMVC 2018,
https://arxiv.org/abs/1808.00391. We deviate in what grows: candidates are variations of what was evaluated instead of
cells with one block more, so that any space can be searched; several objectives are first turned into one by the
hypervolume that they would add.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Population, Problem
from .bayesian import ModelBased
from .belief import Belief

__all__ = ["EPNAS", "temperature"]


class EPNAS(ModelBased):
    """Samples candidates with probability proportional to score^(1 / T).

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: first proposals, before there is a surrogate.
        pool: candidates that the surrogate scores per call.
        hot: temperature at the start, T0 in the paper.
        cold: temperature in the end, Tf in the paper.
        cooling: width of the schedule in rounds of `initial` results, sigma in the paper.
    """

    name = "epnas"

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        initial: int = 15,
        pool: int = 1000,
        hot: float = 10.0,
        cold: float = 0.2,
        cooling: float = 4.0,
    ) -> None:
        super().__init__(problem, seed, initial=initial, pool=pool)
        if not 0 < cold <= hot or not cooling > 0:
            raise StrategyError(
                f"epnas: got hot {hot}, cold {cold} and cooling {cooling}; 0 < cold <= hot and cooling > 0 are needed."
            )
        self.hot, self.cold, self.cooling = hot, cold, cooling

    def _choose(self, n: int, belief: Belief, pool: Population) -> NDArray[np.intp]:
        values = belief.expected(pool)
        merit = values[:, 0].max() - values[:, 0] if values.shape[1] == 1 else self._score(values)
        merit = merit * belief.feasibility(pool)
        top = merit.max()
        scaled = merit / top if top > 0 else np.ones(len(merit))
        t = temperature(len(self._genomes) / self.initial - 1, self.hot, self.cold, self.cooling)
        # Sampling without replacement with p ~ score^(1/T), by Gumbel noise (Efraimidis and Spirakis, 2006).
        keys = np.log(np.maximum(scaled, 1e-12)) / t + self.rng.gumbel(size=len(scaled))
        return np.argsort(-keys, kind="stable")[:n]


def temperature(round_number: float, hot: float, cold: float, width: float) -> float:
    """The published schedule: (T0 - Tf) exp(-(it + 1)^2 / sigma^2) + Tf.

    >>> round(temperature(100, 10.0, 0.2, 4.0), 6)
    0.2
    """
    return (hot - cold) * float(np.exp(-((round_number + 1.0) ** 2) / width**2)) + cold
