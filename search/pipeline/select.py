"""Which architectures `verify` looks at: members spread over the front, and random ones as an audit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..problem import Population, Problem

__all__ = ["random_feasible", "spread_members"]


def spread_members(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Choose front members spread over the front.

    The best member of each objective comes first; then, one at a time, the member farthest from those chosen (greedy
    farthest-point selection, in objectives scaled to [0, 1]).

    Args:
        values: [F, M] minimised objectives of the front.
        count: how many to choose; all where the front is smaller.

    Returns:
        [min(count, F)] indices, in the order chosen.

    >>> spread_members(np.array([[0.0, 4.0], [1.0, 3.0], [2.0, 2.0], [4.0, 0.0]]), 3).tolist()
    [0, 3, 2]
    """
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    span = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
    chosen: list[int] = []
    for best in scaled.argmin(axis=0):
        if int(best) not in chosen and len(chosen) < count:
            chosen.append(int(best))
    distance = np.full(len(values), np.inf)
    for index in chosen:
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[index], axis=1))
    while len(chosen) < min(count, len(values)):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
    return np.array(chosen, dtype=np.int64)


def random_feasible(problem: Problem, count: int, rng: np.random.Generator, *, rounds: int = 200) -> Population:
    """Up to `count` different random genomes that satisfy the known constraints, uniform among those.

    Rejection sampling in at most `rounds` batches; fewer rows come back where feasible architectures are that rare.
    """
    found = np.zeros((0, len(problem.space.genes)), dtype=np.int16)
    for _ in range(rounds):
        batch = problem.space.sample(max(4 * count, 256), rng)
        batch = batch[(problem.known_violations(batch) <= 0).all(axis=1)]
        both = np.concatenate([found, batch])
        _, first = np.unique(problem.space.keys(both), axis=0, return_index=True)
        found = both[np.sort(first)]
        if len(found) >= count:
            break
    return found[:count]
