"""Help for choosing among front members: the balanced one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_row"]


def balanced_row(values: NDArray[np.float64]) -> int | None:
    """The member nearest to the ideal point after scaling every objective to the front's own range.

    Notation: K members, M objectives.

    Args:
        values: [K, M] float64, minimised.

    Returns:
        Row of the member, or None for an empty front. Equal distances go to the first row.

    Source: compromise programming, Zeleny, Multiple Criteria Decision Making, 1982; Euclidean distance.

    >>> balanced_row(np.array([[0.0, 1.0], [0.2, 0.2], [1.0, 0.0]]))
    1
    """
    finite = np.isfinite(values).all(axis=1)
    if not finite.any():
        return None
    low, high = values[finite].min(axis=0), values[finite].max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    distance = np.where(finite, np.linalg.norm(scaled, axis=1), np.inf)
    return int(np.argmin(distance))
