"""Is the search better than random sampling of the same space, at the same number of evaluations? Said honestly.

Notation: B architectures, M minimised objectives, n networks per side, R bootstrap replicates.

Source: Yang, Esperança, Carlucci, "NAS evaluation is frustratingly hard", ICLR 2020,
https://arxiv.org/abs/1912.12522: relative improvement over the average random architecture trained by the same recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import StrategyError
from .pareto import hypervolume, hypervolume_ratio

__all__ = ["FrontComparison", "Improvement", "Verdict", "compare_fronts", "relative_improvement"]

Verdict = Literal["better", "cannot tell", "not better"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontComparison:
    """Hypervolume of a search beside that of random sampling.

    Attributes:
        evaluations: number of evaluations compared, the same on both sides.
        found, sampled: the two hypervolumes.
        ratio: found / sampled.
        low, high: bootstrap interval of the ratio.
        confidence: of that interval.
        verdict: ``better`` where the interval lies above 1, ``not better`` where the ratio is at most 1.
        text: the verdict for people.
    """

    evaluations: int
    found: float
    sampled: float
    ratio: float
    low: float
    high: float
    confidence: float
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """Relative improvement of searched over random networks, in percent of the random mean.

    Attributes:
        percent: 100 (mean of searched - mean of random) / |mean of random|.
        points: the difference of the means itself; near a ceiling it says more than the percentage.
        low, high: bootstrap interval of `percent`.
        confidence: of that interval.
        verdict: ``better`` where the interval lies above 0, ``not better`` where the improvement is at most 0.
        text: the verdict for people.
    """

    percent: float
    points: float
    low: float
    high: float
    confidence: float
    verdict: Verdict
    text: str


def compare_fronts(
    found: NDArray[np.float64],
    sampled: NDArray[np.float64],
    reference: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    evaluations: int,
    replicates: int = 1000,
    confidence: float = 0.95,
) -> FrontComparison:
    """Compare a search with random sampling by hypervolume.

    The interval resamples the feasible results of both sides with replacement. That thins a front, and a search's more
    than a random one's, so the interval errs towards "cannot tell".

    Args:
        found: [B, M] minimised values of the search's feasible results, of `evaluations` evaluations.
        sampled: [B', M] those of random sampling, of as many evaluations.
        reference: [M] reference point, fixed before the search.
        rng: source of the resampling.
        evaluations: how many evaluations each side spent, infeasible and failed ones included.
        replicates: R.
        confidence: of the interval.
    """
    if max(len(found), len(sampled)) > evaluations:
        raise StrategyError(
            f"compare_fronts: got {len(found)} and {len(sampled)} results for {evaluations} evaluations each; "
            "compare equal numbers of evaluations, e.g. by cutting the longer run."
        )
    ratio = hypervolume_ratio(found, sampled, reference)
    ratios = np.array(
        [hypervolume_ratio(_resample(found, rng), _resample(sampled, rng), reference) for _ in range(replicates)]
    )
    low, high = _interval(ratios, confidence)
    verdict: Verdict = "not better" if ratio <= 1 else "better" if low > 1 else "cannot tell"
    shown = f"{ratio:.3f} times the hypervolume of random sampling at {evaluations} evaluations each"
    interval = f"{confidence:.0%} interval {low:.3f} to {high:.3f}"
    text = {
        "better": f"Better than random: {shown} ({interval}).",
        "cannot tell": f"Cannot tell from random sampling: {shown}, but the {interval} includes 1.",
        "not better": f"Not better than random sampling: {shown} ({interval}).",
    }[verdict]
    return FrontComparison(
        evaluations=evaluations,
        found=hypervolume(found, reference),
        sampled=hypervolume(sampled, reference),
        ratio=float(ratio),
        low=low,
        high=high,
        confidence=confidence,
        verdict=verdict,
        text=text,
    )


def relative_improvement(
    searched: NDArray[np.float64],
    sampled: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    replicates: int = 10_000,
    confidence: float = 0.95,
) -> Improvement:
    """Relative improvement over average random networks, all trained by the same recipe.

    Args:
        searched: [n] a quality where larger is better (accuracy) of the searched networks.
        sampled: [n'] of uniformly sampled ones.
        rng: source of the resampling.
        replicates: R.
        confidence: of the interval.

    >>> same = np.array([0.91, 0.92, 0.93])
    >>> relative_improvement(same, same, np.random.default_rng(0)).percent
    0.0
    """
    if not len(searched) or not len(sampled):
        raise StrategyError(
            f"relative_improvement: got {len(searched)} searched, {len(sampled)} random networks; each needs one."
        )
    base = float(np.mean(sampled))
    if base == 0 or not np.isfinite(base):
        raise StrategyError(
            f"relative_improvement: the random networks' mean is {base}; a percentage of it means nothing."
        )
    points = float(np.mean(searched)) - base
    percent = 100.0 * points / abs(base)
    means = rng.choice(searched, (replicates, len(searched))).mean(axis=1)
    bases = rng.choice(sampled, (replicates, len(sampled))).mean(axis=1)
    low, high = _interval(100.0 * (means - bases) / abs(base), confidence)
    # One network has no spread: its interval would claim a certainty that is not there.
    alone = min(len(searched), len(sampled)) < 2
    verdict: Verdict = "not better" if percent <= 0 else "better" if low > 0 and not alone else "cannot tell"
    shown = f"{percent:+.2f} % relative to the mean of {len(sampled)} random networks ({points:+.4f} absolute)"
    interval = f"{confidence:.0%} interval {low:+.2f} to {high:+.2f} %"
    reason = "one network on a side has no spread to judge by" if alone else f"the {interval} includes 0"
    text = {
        "better": f"Better than random: {shown}; {interval}.",
        "cannot tell": f"Cannot tell from random: {shown}, but {reason}.",
        "not better": f"Not better than random: {shown}; {interval}.",
    }[verdict]
    return Improvement(
        percent=percent, points=points, low=low, high=high, confidence=confidence, verdict=verdict, text=text
    )


def _resample(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return values[rng.integers(0, len(values), len(values))] if len(values) else values


def _interval(replicates: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Percentile interval; order statistics, so that an infinite ratio does not turn it into NaN."""
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1.0 - tail], method="nearest")
    return float(low), float(high)
