"""Held-out predictions: what a regressor says of rows that it was not fitted on, and how honest its uncertainty is.

Notation: N rows, F columns, K folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from .contracts import Regressor
from .ranking import kendall_tau, spearman, within_share

__all__ = ["HeldOut", "folds", "held_out"]

Array = NDArray[np.float64]

SCALE_BOUNDS = (0.5, 4.0)
"""A stated uncertainty is never corrected by more, as few rows say little about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Predictions of rows left out.

    Attributes:
        targets: [N] what was observed.
        mean, std: [N] what was predicted without them.
    """

    targets: Array
    mean: Array
    std: Array

    @property
    def tau(self) -> float:
        """Kendall's tau-b; 0 where one side is constant, as such predictions rank nothing."""
        tau = kendall_tau(self.mean, self.targets)
        return tau if np.isfinite(tau) else 0.0

    @property
    def std_scale(self) -> float:
        """What stated deviations must be multiplied with, so that 68 % of the errors lie within one."""
        error = np.abs(self.targets - self.mean)
        ratio = error / np.maximum(self.std, 1e-12 * (1.0 + np.abs(self.targets)))
        return float(np.clip(np.quantile(ratio, 0.6827), *SCALE_BOUNDS))

    def report(self) -> dict[str, float]:
        """`kendall_tau`, `spearman`, `rmse`, `within_10_percent`, shares of errors within 1 and 2 deviations, `n`."""
        error = np.abs(self.targets - self.mean)
        return {
            "kendall_tau": self.tau,
            "spearman": spearman(self.mean, self.targets),
            "rmse": float(np.sqrt(np.mean(error**2))),
            "within_10_percent": within_share(self.mean, self.targets),
            "coverage_1sd": float(np.mean(error <= self.std)),
            "coverage_2sd": float(np.mean(error <= 2.0 * self.std)),
            "n": float(len(error)),
        }


def folds(n: int, count: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Rows 0 … n - 1 at random in `count` parts of equal size, give or take one; fewer parts where n is small."""
    return [np.sort(part) for part in np.array_split(rng.permutation(n), min(count, n))]


def held_out(
    make: Callable[[], Regressor], features: Array, targets: Array, *, parts: list[NDArray[np.intp]]
) -> HeldOut:
    """Predict every part of the rows from the others.

    Args:
        make: a fresh regressor.
        features: [N, F].
        targets: [N].
        parts: row numbers, each row in exactly one part.

    Raises:
        PredictorError: fewer than two parts.
    """
    if len(parts) < 2:
        raise PredictorError(f"cross-validation needs at least 2 parts, got {len(parts)}; give more rows.")
    mean, std = np.empty(len(targets)), np.empty(len(targets))
    for part in parts:
        rest = np.ones(len(targets), dtype=np.bool_)
        rest[part] = False
        regressor = make()
        regressor.fit(features[rest], targets[rest])
        mean[part], std[part] = regressor.predict(features[part])
    return HeldOut(targets=targets, mean=mean, std=std)
