"""One option of every group: the highest total score within a budget, by dynamic programming.

Costs are rounded up to a grid, so that what is found keeps the budget exactly; the rounding of all groups together is
at most half a percent of the budget, the price of a solution in time linear in the number of options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_within"]

_STEPS_PER_GROUP: Final = 200
"""Steps of the grid: each group is rounded by one at most."""

Array = NDArray[np.float64]


def best_within(
    costs: Sequence[Array], scores: Sequence[Array], budget: float, least: float = -np.inf
) -> list[int] | None:
    """Choose one option of each group.

    Args:
        costs: of each group, [options].
        scores: of each group, [options]; finite.
        budget: what the total cost must not exceed.
        least: what the total cost should reach, if some selection does.

    Returns:
        The option of each group, or None where no selection keeps the budget.

    >>> best_within([np.array([1.0, 4.0]), np.array([1.0, 4.0])], [np.array([0.0, 2.0]), np.array([0.0, 1.0])], 5.0)
    [1, 0]
    """
    cheapest = [float(group.min()) for group in costs]
    spare = budget - sum(cheapest)
    if spare < 0:
        return None
    steps = _STEPS_PER_GROUP * len(costs)
    grid = spare / steps or 1.0
    best = np.full(steps + 1, -np.inf)
    spent = np.full(steps + 1, np.inf)
    best[0], spent[0] = 0.0, 0.0
    trail: list[NDArray[np.int64]] = []
    for group, gains, floor in zip(costs, scores, cheapest, strict=True):
        best, spent, taken = _extended(best, spent, (group - floor, gains), grid)
        trail.append(taken)
    total = spent + sum(cheapest)
    fits = np.isfinite(best) & (total <= budget)
    enough = fits & (total >= least)
    candidates = np.where(enough if enough.any() else fits, best, -np.inf)
    return _backtrack(int(candidates.argmax()), trail, costs, grid)


def _extended(
    best: Array, spent: Array, options: tuple[Array, Array], grid: float
) -> tuple[Array, Array, NDArray[np.int64]]:
    """The best score and what it spends for every number of grid steps after one more group, and the option taken."""
    new, cost = np.full_like(best, -np.inf), np.full_like(spent, np.inf)
    taken = np.zeros(len(best), dtype=np.int64)
    for option, (extra, gain) in enumerate(zip(*options, strict=True)):
        steps = _steps(extra, grid)
        if steps >= len(best):
            continue
        score = best[: len(best) - steps] + gain
        better = score > new[steps:]
        new[steps:][better] = score[better]
        cost[steps:][better] = (spent[: len(best) - steps] + extra)[better]
        taken[steps:][better] = option
    return new, cost, taken


def _backtrack(end: int, trail: Sequence[NDArray[np.int64]], costs: Sequence[Array], grid: float) -> list[int]:
    chosen: list[int] = []
    for taken, group in zip(reversed(trail), reversed(costs), strict=True):
        option = int(taken[end])
        chosen.append(option)
        end -= _steps(float(group[option] - group.min()), grid)
    return chosen[::-1]


def _steps(extra: float, grid: float) -> int:
    return int(np.ceil(extra / grid - 1e-9))
