"""Pareto dominance over whole populations, everything minimised: ranks, crowding, hypervolume, incremental fronts.

Notation: B points, M objectives, C constraints. Values are finite; failed evaluations are left out by the caller.

Source: Deb, Pratap, Agarwal, Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
Transactions on Evolutionary Computation 6(2), 2002, https://doi.org/10.1109/4235.996017 (ranks, crowding distance,
constraint-domination). Sorting and hypervolume are computed by moocore, https://multi-objective.github.io/moocore/.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import StrategyError

__all__ = [
    "crowding",
    "hypervolume",
    "hypervolume_ratio",
    "merge_front",
    "nondominated_mask",
    "rank",
    "reference_point",
    "total_violation",
]

Values = NDArray[np.float64]


def nondominated_mask(values: Values) -> NDArray[np.bool_]:
    """[B] True where no other point dominates; points with equal values do not dominate each other.

    >>> nondominated_mask(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])).tolist()
    [True, True, False, True]
    """
    import moocore

    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=np.bool_)


def total_violation(violations: Values) -> Values:
    """[B] sum over constraints of [B, C] violations; [B] input is taken as that sum."""
    return violations if violations.ndim == 1 else violations.sum(axis=1)


def rank(values: Values, violations: Values | None = None) -> NDArray[np.int64]:
    """Constraint-domination rank: 0 is best.

    Args:
        values: [B, M].
        violations: [B, C] or their sums [B]; 0 = satisfied. None = all feasible.

    Returns:
        [B] int64. Feasible points take the index of their non-dominated front; infeasible ones follow after the last of
        them, ordered by total violation, equal violations sharing a rank.

    >>> rank(np.array([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]), np.array([0.0, 0.0, 3.0])).tolist()
    [0, 1, 2]
    """
    import moocore

    if not len(values):
        return np.zeros(0, dtype=np.int64)
    if violations is None:
        return moocore.pareto_rank(values).astype(np.int64, copy=False)
    total = total_violation(violations)
    feasible = total <= 0
    if feasible.all():
        return moocore.pareto_rank(values).astype(np.int64, copy=False)
    out = np.empty(len(values), dtype=np.int64)
    worst = -1
    if feasible.any():
        out[feasible] = moocore.pareto_rank(values[feasible])
        worst = int(out[feasible].max())
    out[~feasible] = worst + 1 + np.unique(total[~feasible], return_inverse=True)[1]
    return out


def crowding(values: Values, ranks: NDArray[np.int64]) -> Values:
    """Crowding distance within each rank: large where a point is alone, infinite at the extremes of a front.

    Args:
        values: [B, M].
        ranks: [B], which front each point belongs to.

    Returns:
        [B] float64: sum over objectives of the gap between a point's two neighbours in its front, relative to the
        front's extent. An objective that is constant in a front adds nothing there. Points with equal coordinates are
        neighbours in the order given, so of several equal extremes one is infinite.
    """
    count = len(values)
    out = np.zeros(count)
    if not count:
        return out
    single = bool((ranks == ranks[0]).all())
    if single:
        begins, ends, front = np.array([0]), np.array([count - 1]), np.zeros(count, dtype=np.intp)
    else:  # where fronts begin and end in sorted order is the same for every objective
        _, front, sizes = np.unique(ranks, return_inverse=True, return_counts=True)
        ends = np.cumsum(sizes) - 1
        begins = ends - sizes + 1
        front = front.astype(np.uint16 if len(sizes) < 1 << 16 else np.int64)  # 16 bits sort by radix
    for column in values.T:
        gap = np.zeros(count)
        order = np.argsort(column, kind="stable")
        if not single:
            order = order[np.argsort(front[order], kind="stable")]
        ordered = column[order]
        extent = ordered[ends] - ordered[begins]
        gap[1:-1] = ordered[2:] - ordered[:-2]
        # A constant objective divides by infinity: it adds nothing, and has no extremes.
        gap /= np.where(extent > 0, extent, np.inf)[0 if single else front[order]]
        gap[begins] = gap[ends] = np.where(extent > 0, np.inf, 0.0)
        out[order] += gap
    return out


def reference_point(values: Values, margin: float = 0.1) -> Values:
    """The reference point that a search fixes once, from a sample it has at its beginning, and never moves.

    Rule: the worst value of each objective in the sample, plus `margin` of the sample's extent in that objective (of
    the value's magnitude, or 1, where the extent is 0). Whatever lies beyond adds no hypervolume.

    Args:
        values: [B, M], B >= 1, minimised values of evaluated architectures; the search uses its first feasible batch.
        margin: share of the extent.

    Returns:
        [M] float64.

    >>> reference_point(np.array([[0.0, 10.0], [1.0, 30.0]])).tolist()
    [1.1, 32.0]
    """
    if not len(values):
        raise StrategyError("reference point: got no values; at least one evaluated architecture is needed.")
    worst = values.max(axis=0)
    extent = worst - values.min(axis=0)
    scale = np.where(extent > 0, extent, np.where(worst != 0, np.abs(worst), 1.0))
    return worst + margin * scale


def hypervolume(values: Values, reference: Values) -> float:
    """Volume dominated by `values` [B, M] and bounded by `reference` [M]; 0 where no point lies below the reference.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    3.0
    """
    import moocore

    inside = (values < reference).all(axis=1)
    if not inside.any():
        return 0.0
    return float(moocore.hypervolume(values[inside], ref=reference))


def hypervolume_ratio(values: Values, baseline: Values, reference: Values) -> float:
    """Hypervolume of `values` over that of `baseline`; infinite where only the baseline's is 0, 1 where both are."""
    ours, theirs = hypervolume(values, reference), hypervolume(baseline, reference)
    if theirs > 0:
        return ours / theirs
    return np.inf if ours > 0 else 1.0


def merge_front(front: Values, batch: Values) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Merge a batch into a front without looking at anything that left the front before.

    Args:
        front: [F, M], mutually non-dominated.
        batch: [B, M], new points.

    Returns:
        [F] which members stay, and [B] which new points enter. Points with equal values are all kept.
    """
    # Most of a batch is dominated by the front: the union is what has to be sorted, and it is small.
    union = nondominated_mask(np.concatenate([front, batch]))
    return union[: len(front)], union[len(front) :]
