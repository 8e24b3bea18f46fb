"""How well one list of numbers ranks like another: correlations, regret, and intervals that admit ignorance.

Source: Kendall, The treatment of ties in ranking problems, Biometrika 33, 1945 (tau-b); Efron and Tibshirani, An
Introduction to the Bootstrap, 1993 (percentile intervals).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ..errors import PredictorError

__all__ = ["Agreement", "agreement", "bootstrap_tau", "kendall_tau", "spearman", "top_k_regret", "within_share"]

_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What a comparison of believed with actual values allows to say.

    Attributes:
        tau: Kendall's tau-b; nan where one side is constant.
        low, high: bootstrap interval of tau.
        n: number of pairs of values.
        verdict: ``agrees`` (the interval is above 0), ``disagrees`` (below 0) or ``cannot tell``.
    """

    tau: float
    low: float
    high: float
    n: int
    verdict: str


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b of two lists [N], in O(N log N); nan where N < 2 or one side is constant."""
    left, right = _paired(a, b)
    if len(left) < 2 or _constant(left) or _constant(right):
        return float("nan")
    return float(np.asarray(stats.kendalltau(left, right))[0])


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two lists [N]; nan where N < 2 or one side is constant."""
    left, right = _paired(a, b)
    if len(left) < 2 or _constant(left) or _constant(right):
        return float("nan")
    return float(np.corrcoef(stats.rankdata(left), stats.rankdata(right))[0, 1])


def top_k_regret(believed: ArrayLike, actual: ArrayLike, k: int = 1) -> float:
    """How much the best of the `k` most believed falls short of the true best; larger is better in both lists [N]."""
    left, right = _paired(believed, actual)
    if not 1 <= k <= len(left):
        raise PredictorError(f"top-k regret: k is {k}; it must be from 1 to the number of values, {len(left)}.")
    chosen = np.argsort(-left, kind="stable")[:k]
    return float(right.max() - right[chosen].max())


def within_share(predicted: ArrayLike, actual: ArrayLike, tolerance: float = 0.1) -> float:
    """Share of predictions [N] within ± `tolerance` of the actual value, relative to the actual value."""
    left, right = _paired(predicted, actual)
    if not len(left):
        return float("nan")
    return float(np.mean(np.abs(left - right) <= tolerance * np.abs(right)))


def bootstrap_tau(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of Kendall's tau-b over resampled pairs; (nan, nan) where fewer than 3 pairs are given.

    A pair drawn twice ties with itself, which pulls resampled tau-b nowhere: both numerator and denominator lose it.
    Resamples with a constant side say nothing and are left out.
    """
    left, right = _paired(a, b)
    if len(left) < 3 or _constant(left) or _constant(right):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(left), np.full(len(left), 1.0 / len(left)), size=resamples).astype(np.float64)
    signs_a, signs_b = (np.sign(side[:, None] - side[None, :]) for side in (left, right))
    agreeing = _quadratic(counts, signs_a * signs_b)
    pairs = _quadratic(counts, np.abs(signs_a)) * _quadratic(counts, np.abs(signs_b))
    taus = agreeing[pairs > 0] / np.sqrt(pairs[pairs > 0])
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(taus, [tail, 1.0 - tail])
    return float(low), float(high)


def agreement(
    believed: ArrayLike, actual: ArrayLike, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Agreement:
    """Kendall's tau-b between what was believed and what turned out, with its interval and a verdict.

    >>> agreement([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]).verdict
    'agrees'
    >>> agreement([1, 2, 3, 4], [2, 1, 4, 3]).verdict
    'cannot tell'
    """
    low, high = bootstrap_tau(believed, actual, resamples=resamples, confidence=confidence, seed=seed)
    verdict = "agrees" if low > 0 else "disagrees" if high < 0 else "cannot tell"
    left, _ = _paired(believed, actual)
    return Agreement(tau=kendall_tau(believed, actual), low=low, high=high, n=len(left), verdict=verdict)


def _quadratic(counts: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] the forms ``c @ matrix @ c`` for every row c of `counts` [R, N]."""
    out = np.empty(len(counts))
    for start in range(0, len(counts), _CHUNK):
        rows = counts[start : start + _CHUNK]
        out[start : start + _CHUNK] = ((rows @ matrix) * rows).sum(axis=1)
    return out


def _constant(values: NDArray[np.float64]) -> bool:
    return bool((values == values[0]).all())


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left, right = (np.asarray(side, dtype=np.float64) for side in (a, b))
    if left.ndim != 1 or left.shape != right.shape:
        raise PredictorError(
            f"ranking: got shapes {left.shape} and {right.shape}; two lists of equal length are needed."
        )
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise PredictorError("ranking: a value is not finite; leave failed architectures out of both lists.")
    return left, right
