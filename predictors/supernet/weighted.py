"""Predictor-weighted sampling: what is predicted to be accurate is trained more often.

Now and then the shared weights score some architectures; a predictor is fitted to the scores, and from then on each
random path is drawn from a pool with chances that grow with its predicted accuracy, at first hardly, later strongly.

Source: Perez-Rua et al., Efficient Progressive Neural Architecture Search, BMVC 2018,
https://arxiv.org/abs/1808.00391 (chances and temperature; there, architectures grow block by block).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...spaces.gene import Population
from ...spaces.space import SearchSpace
from ..encodings import encode
from ..regressors.ridge import RidgeRegressor
from .path import Path, Target, generator, random_architectures, uniform_choices

__all__ = ["PredictorWeighted", "sampling_chances", "temperature"]

_POOL: Final = 256
"""Genomes that the random paths of a step are drawn from."""

_STREAM: Final = 12

_FIRST, _LAST, _SPREAD = 10.0, 0.2, 4.0
"""Temperatures T_0 and T_f, and sigma, of the source."""


def temperature(fit: int) -> float:
    """Of the chances after the predictor's `fit`-th fit, from 1: the annealing of the source.

    >>> [round(temperature(fit), 2) for fit in (1, 4, 12)]
    [9.41, 3.81, 0.2]
    """
    return (_FIRST - _LAST) * math.exp(-(fit**2) / _SPREAD**2) + _LAST


def sampling_chances(accuracies: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """[B] chances that are proportional to accuracies [B] to the power of 1 / `temperature`; they add up to 1.

    >>> sampling_chances(np.array([0.2, 0.6]), 1.0).round(2).tolist()
    [0.25, 0.75]
    """
    logarithms = np.log(np.clip(accuracies, 1e-3, 1.0)) / temperature
    weights = np.exp(logarithms - logarithms.max())
    return weights / weights.sum()


class PredictorWeighted:
    """The sandwich rule, whose random paths are drawn by predicted accuracy. A `LearningSampler`.

    Before the first fit the random paths are drawn uniformly.

    Args:
        space: what to sample.
        random_paths: per step.
        steps: of the whole training.
        fits: how often the predictor is fitted, evenly over the training.
        scored: architectures scored for each fit.
        seed: of all draws.
    """

    def __init__(self, space: SearchSpace, *, random_paths: int, steps: int, fits: int, scored: int, seed: int) -> None:
        self.space, self.random_paths, self.seed = space, max(random_paths, 1), seed
        self.every, self.scored = max(1, steps // (fits + 1)), max(scored, RidgeRegressor.least)
        self._largest = Path(space.decode(space.largest()), Target.LABELS)
        self._smallest = Path(space.decode(space.smallest()), Target.TEACHER)
        self._fits = 0
        self._genomes: Population = np.zeros((0, len(space.genes)), dtype=np.int16)
        self._scores = np.zeros(0)
        self._predictor: RidgeRegressor | None = None

    def asks(self, step: int) -> Population:
        """[B, G] random genomes before every refit, else none."""
        if step == 0 or step % self.every:
            return self._genomes[:0]
        rng = np.random.default_rng([self.seed, step, _STREAM])
        return np.unique(uniform_choices(self.space, self.scored, rng), axis=0)

    def learn(self, step: int, genomes: Population, scores: NDArray[np.float64]) -> None:
        """Fit anew to the scores [B] of genomes [B, G]: older ones are those of other weights."""
        self._take(step // self.every, genomes, scores)

    def state(self) -> dict[str, Any]:
        """The scores of the last fit, which the predictor follows from."""
        return {"fits": self._fits, "genomes": self._genomes.tolist(), "scores": self._scores.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Fit to the scores that `state` returned."""
        genomes = np.array(state["genomes"], dtype=np.int16).reshape(-1, len(self.space.genes))
        self._take(int(state["fits"]), genomes, np.array(state["scores"], dtype=np.float64))

    def paths(self, step: int) -> tuple[Path, ...]:
        """Largest, smallest, and the random ones by their chances."""
        rng = generator(self.seed, step)
        if self._predictor is None:
            drawn = random_architectures(self.space, self.random_paths, rng)
        else:
            pool = uniform_choices(self.space, _POOL, rng)
            accuracies, _ = self._predictor.predict(encode(self.space, pool, "one_hot"))
            chances = sampling_chances(accuracies, temperature(self._fits))
            drawn = tuple(self.space.decode(pool[row]) for row in rng.choice(_POOL, self.random_paths, p=chances))
        return (self._largest, self._smallest, *(Path(item, Target.TEACHER) for item in drawn))

    def _take(self, fits: int, genomes: Population, scores: NDArray[np.float64]) -> None:
        self._fits, self._genomes, self._scores = fits, genomes, scores
        if len(genomes) >= RidgeRegressor.least:
            self._predictor = RidgeRegressor(robust=False)
            self._predictor.fit(encode(self.space, genomes, "one_hot"), scores)
