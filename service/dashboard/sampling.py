"""Which of a million trials to draw: an even sample over the plane, so that rare regions stay visible."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_POINTS", "pack_points", "stratified_rows"]

MAX_POINTS: Final = 50_000
"""Background points per chart; software WebGL still draws them in a third of a second."""

_CELLS: Final = 160
"""Grid cells per axis."""


def stratified_rows(
    x: NDArray[np.float64], y: NDArray[np.float64], limit: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows to draw: all of them where they are few, else evenly over a grid of cells.

    Every cell gives up at most the same number of points (the largest that keeps the sum within `limit`), chosen at
    random inside the cell, so a lone point at the edge is kept while a dense heap is thinned. Notation: N trials.

    Args:
        x: [N] float64; rows where x or y is not finite are never drawn.
        y: [N] float64.
        limit: at most this many rows.
        rng: chooses within a cell.

    Returns:
        [K] int64 rows in ascending order, K <= limit.
    """
    rows = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(rows) <= limit:
        return rows
    cell = _bins(x[rows]) * _CELLS + _bins(y[rows])
    counts = np.bincount(cell, minlength=_CELLS * _CELLS)
    cap = _per_cell(counts, limit)
    # Sorting a random permutation by cell (stably) leaves each cell's rows in random order; the first `cap` stay.
    shuffled = rng.permutation(len(rows))
    by_cell = shuffled[np.argsort(cell[shuffled], kind="stable")]
    first = np.cumsum(counts) - counts
    rank = np.arange(len(rows)) - first[cell[by_cell]]
    kept = by_cell[rank < cap]
    if len(kept) > limit:  # more occupied cells than points: one of each is already too many
        kept = rng.permutation(kept)[:limit]
    return np.sort(rows[kept])


def pack_points(x: NDArray[np.float64], y: NDArray[np.float64], feasible: NDArray[np.bool_]) -> bytes:
    """The wire form that `static/js/data.js` reads: K float32 x, K float32 y, K bytes (1 = feasible), little-endian."""
    return x.astype("<f4").tobytes() + y.astype("<f4").tobytes() + feasible.astype(np.uint8).tobytes()


def _bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    low, high = values.min(), values.max()
    if high <= low:
        return np.zeros(len(values), dtype=np.int64)
    return np.minimum(((values - low) / (high - low) * _CELLS).astype(np.int64), _CELLS - 1)


def _per_cell(counts: NDArray[np.int64], limit: int) -> int:
    """The largest cap whose capped sum stays within `limit`, but at least 1."""
    low, high = 1, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= limit:
            low = middle
        else:
            high = middle - 1
    return low
