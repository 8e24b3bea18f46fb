"""Calibration: from kernels measured alone to their cost inside whole networks.

A kernel measured alone pays the runtime's entry and the reordering of its input; a network pays them once for all its
kernels. So the latency of a network of n kernels, measured alone as k_1 … k_n, is modelled as::

    y = overhead + scale * (k_1 + … + k_n) - entry * n + sum of small corrections d_i per kernel

The fit minimises relative errors. `overhead`, `scale` and `entry` are free; the corrections are shrunk towards 0, a
kernel's in proportion to its time, and the strength of that ridge is chosen by leave-one-out error, "none" included.
The result stays additive over sites: t_i = scale * k_i - entry + d_i.

Notation: N networks, K distinct kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError

__all__ = ["Calibration", "calibrate", "held_out_report"]

STRENGTHS: Final = tuple(10.0**power for power in np.arange(-3.0, 3.5, 0.5))
"""Ridge strengths tried for the corrections, relative to the mean diagonal."""

MIN_NETWORKS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How kernels cost inside networks.

    Attributes:
        overhead_ms: per-run cost of a network, on top of its kernels.
        scale: factor on kernel times measured alone.
        entry_ms: what a kernel measured alone pays and one inside a network does not.
        corrections_ms: [K] per kernel, 0 where no calibration network holds it.
        strength: ridge strength of the corrections, inf for none.
        loo_relative_rmse: leave-one-out error of the fit on the calibration networks, relative.
    """

    overhead_ms: float
    scale: float
    entry_ms: float
    corrections_ms: NDArray[np.float64]
    strength: float
    loo_relative_rmse: float

    def kernels_ms(self, alone_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """[K] costs inside networks, for [K] times measured alone."""
        return self.scale * alone_ms - self.entry_ms + self.corrections_ms


def calibrate(
    alone_ms: NDArray[np.float64], counts: NDArray[np.float64], network_ms: NDArray[np.float64]
) -> Calibration:
    """Fit the model above.

    Args:
        alone_ms: [K] kernel times measured alone.
        counts: [N, K] how often each network holds each kernel.
        network_ms: [N] measured networks.

    Raises:
        PredictorError: fewer than `MIN_NETWORKS` networks.
    """
    if len(network_ms) < MIN_NETWORKS:
        raise PredictorError(
            f"calibration: got {len(network_ms)} whole networks; at least {MIN_NETWORKS} are needed. Measure more."
        )
    weights = 1.0 / network_ms
    base = np.stack([np.ones(len(counts)), counts @ alone_ms, -counts.sum(axis=1)], axis=1) * weights[:, None]
    # Columns of very different size are scaled, so that the rank decision below is about the data, not about units.
    norms = np.linalg.norm(base, axis=0)
    features = counts * alone_ms * weights[:, None]  # a kernel's correction is expected in proportion to its time
    gram = features @ features.T
    # Infinite strength, no corrections, comes first: corrections must earn their place.
    fits = [_solve(base / norms, np.zeros_like(gram), strength=np.inf)]
    fits += [
        _solve(base / norms, gram, strength=strength * float(np.trace(gram)) / len(gram)) for strength in STRENGTHS
    ]
    best = min(fits, key=lambda fit: fit.loo_rmse)
    overhead, scale, entry = (float(value) for value in best.coefficients / norms)
    return Calibration(
        overhead_ms=overhead,
        scale=scale,
        entry_ms=entry,
        corrections_ms=alone_ms * (features.T @ best.dual) if np.isfinite(best.strength) else np.zeros(len(alone_ms)),
        strength=best.strength,
        loo_relative_rmse=best.loo_rmse,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """Coefficients [3] of the base columns, dual weights [N] of the corrections, leave-one-out error."""

    coefficients: NDArray[np.float64]
    dual: NDArray[np.float64]
    strength: float
    loo_rmse: float


def _solve(base: NDArray[np.float64], gram: NDArray[np.float64], *, strength: float) -> _Fit:
    """Fit relative latency, which is 1 for every network, by free base columns plus ridge corrections.

    Source: universal kriging, with its exact leave-one-out residual dual_i / Q_ii: Dubrule, Cross Validation of Kriging
    in a Unique Neighborhood, Mathematical Geology 15, 1983.

    Args:
        base: [N, 3] columns without penalty.
        gram: [N, N] inner products of the corrections' features.
        strength: ridge penalty; inf leaves plain least squares, whatever `gram` is.
    """
    n = len(base)
    inverse = np.linalg.inv(gram + strength * np.eye(n)) if np.isfinite(strength) else np.eye(n)
    weighted = inverse @ base
    normal = np.linalg.pinv(base.T @ weighted, rcond=1e-12, hermitian=True)
    coefficients = normal @ weighted.sum(axis=0)
    dual = inverse @ (1.0 - base @ coefficients)
    leverage = np.diag(inverse) - np.einsum("ni,ij,nj->n", weighted, normal, weighted)
    left_out = dual / np.maximum(leverage, 1e-12)
    error = float(np.sqrt(np.mean(left_out**2)))
    return _Fit(coefficients=coefficients, dual=dual, strength=strength, loo_rmse=error)


def held_out_report(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> dict[str, float]:
    """Errors of predictions [N] against measurements [N] that no fit has seen.

    Returns:
        `kendall_tau` (tau-b), `spearman`, `within_5_percent` and `within_10_percent` (shares), `rmse` (in the
        quantity's unit), `relative_rmse`, `mape`, `n`.
    """
    from scipy import stats

    relative = predicted / measured - 1.0
    return {
        "kendall_tau": _scalar(stats.kendalltau(predicted, measured)),
        "spearman": _scalar(stats.spearmanr(predicted, measured)),
        "within_5_percent": float(np.mean(np.abs(relative) <= 0.05)),
        "within_10_percent": float(np.mean(np.abs(relative) <= 0.10)),
        "rmse": float(np.sqrt(np.mean((predicted - measured) ** 2))),
        "relative_rmse": float(np.sqrt(np.mean(relative**2))),
        "mape": float(np.mean(np.abs(relative))),
        "n": float(len(measured)),
    }


def _scalar(result: Any) -> float:
    """The statistic of a SciPy result object, whose classes are not typed."""
    return float(result.statistic)
