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

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError

__all__ = ["Calibration", "calibrate", "held_out_report"]

STRENGTHS: Final = tuple(10.0**power for power in np.arange(-3.0, 3.5, 0.5))
"""Ridge strengths tried for the corrections, relative to the mean diagonal."""

MIN_NETWORKS: Final = 12

DISTURBED: Final = 0.1
"""Relative error below which no network counts as disturbed."""

_FAR: Final = 6.0
"""Standard deviations of the networks' errors, from their median, above which one counts as disturbed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How kernels cost inside networks.

    Attributes:
        overhead_ms: per-run cost of a network, on top of its kernels.
        scale: factor on kernel times measured alone.
        entry_ms: what a kernel measured alone pays and one inside a network does not.
        corrections_ms: [K] per kernel, 0 where no calibration network holds it.
        strength: ridge strength of the corrections, inf for none.
        left_out: [N] relative error at each network of the fit when it is left out.
        disturbed: how many networks are not in the fit, for their measurements seem disturbed.
    """

    overhead_ms: float
    scale: float
    entry_ms: float
    corrections_ms: NDArray[np.float64]
    strength: float
    left_out: NDArray[np.float64]
    disturbed: int = 0

    @property
    def loo_relative_rmse(self) -> float:
        """Leave-one-out error of the fit on the calibration networks, relative."""
        return float(np.sqrt(np.mean(self.left_out**2)))

    def kernels_ms(self, alone_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """[K] costs inside networks, for [K] times measured alone."""
        return self.scale * alone_ms - self.entry_ms + self.corrections_ms


def calibrate(
    alone_ms: NDArray[np.float64],
    counts: NDArray[np.float64],
    network_ms: NDArray[np.float64],
) -> Calibration:
    """Fit the model above.

    A network that is missed by far more than the others is left out and the fit repeated: other work on the machine
    doubles a time now and then. At most a tenth of them is, and none that is missed by less than `DISTURBED`.

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
    kept = np.arange(len(network_ms))
    while True:
        found = _calibrate(alone_ms, counts[kept], network_ms[kept])
        missed = np.abs(found.left_out)
        disturbed = len(network_ms) - len(kept)
        # One at a time, for one that is far off pulls the fit away from others.
        if (
            missed.max() <= max(_FAR * 1.4826 * float(np.median(missed)), DISTURBED)
            or disturbed >= len(network_ms) // 10
        ):
            return dataclasses.replace(found, disturbed=disturbed)
        kept = np.delete(kept, missed.argmax())


def _calibrate(
    alone_ms: NDArray[np.float64], counts: NDArray[np.float64], network_ms: NDArray[np.float64]
) -> Calibration:
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
    dual = best.dual if np.isfinite(best.strength) else np.zeros(len(counts))
    return Calibration(
        overhead_ms=overhead,
        scale=scale,
        entry_ms=entry,
        corrections_ms=alone_ms * (features.T @ dual),
        strength=best.strength,
        left_out=best.left_out,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """Coefficients [3] of the base columns, dual weights [N] of the corrections, leave-one-out errors [N]."""

    coefficients: NDArray[np.float64]
    dual: NDArray[np.float64]
    strength: float
    left_out: NDArray[np.float64]

    @property
    def loo_rmse(self) -> float:
        return float(np.sqrt(np.mean(self.left_out**2)))


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
    return _Fit(coefficients=coefficients, dual=dual, strength=strength, left_out=left_out)


def held_out_report(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], std: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Errors of predictions [N] against measurements [N] that no fit has seen.

    Args:
        predicted: what the model says.
        measured: what was observed.
        std: [N] the uncertainty that the model states, to be held against its errors.

    Returns:
        `kendall_tau` (tau-b), `spearman`, `within_5_percent` and `within_10_percent` (shares), `rmse` (in the
        quantity's unit), `relative_rmse`, `mape`, `n`; with `std`, `coverage_1sd` and `coverage_2sd`: the shares of
        errors within one and two stated standard deviations, 0.68 and 0.95 where they are right.

    Raises:
        PredictorError: a measurement that is not finite and positive.
    """
    from scipy import stats

    if not (np.isfinite(measured).all() and (measured > 0).all()):
        raise PredictorError(
            f"report: got a measurement of {measured[~(measured > 0)][:1]}; all must be finite and positive. Measure "
            "those networks again, or leave them out."
        )
    relative = predicted / measured - 1.0
    report = {
        "kendall_tau": _correlation(stats.kendalltau, predicted, measured),
        "spearman": _correlation(stats.spearmanr, predicted, measured),
        "within_5_percent": float(np.mean(np.abs(relative) <= 0.05)),
        "within_10_percent": float(np.mean(np.abs(relative) <= 0.10)),
        "rmse": float(np.sqrt(np.mean((predicted - measured) ** 2))),
        "relative_rmse": float(np.sqrt(np.mean(relative**2))),
        "mape": float(np.mean(np.abs(relative))),
        "n": float(len(measured)),
    }
    if std is not None:
        for count in (1, 2):
            report[f"coverage_{count}sd"] = float(np.mean(np.abs(predicted - measured) <= count * std))
    return report


def _correlation(statistic: Callable[..., Any], predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    """A rank correlation; 0 where one side is constant, which ranks nothing."""
    if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return 0.0
    return float(statistic(predicted, measured).statistic)
