"""One number per result for strategies that know rewards only: the share of all results that it is placed before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .members import Members

__all__ = ["rewards"]


def rewards(members: Members, new: int) -> NDArray[np.float64]:
    """[new] rewards in (0, 1) of the last `new` members; 1 is best.

    The order is that of constraint-domination, then the less crowded first: scale-free, so that it suits any number of
    objectives in any unit. A reward stays what it was when its result came.
    """
    count = len(members)
    place = np.empty(count)
    place[members.best_first(count)] = np.arange(count)
    return 1.0 - (place[count - new :] + 0.5) / max(count, 1)
