"""The reference kernel: one fixed piece of work that tells how slow the machine is right now.

A shared or throttled machine drifts: the same network takes 10 % longer a minute later. The reference kernel is run
right before and after every batch of timed runs; its slow-down against its nominal time divides the batch. A slow-down
that is not shared by both (another process thrashing one cache level) does not cancel; it widens the interval of the
median, which marks the measurement noisy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError

__all__ = ["Reference"]


class Reference:
    """A fixed kernel with a nominal time.

    Args:
        run: runs the kernel n times and returns the durations in ms, [n].
        nominal_ms: its time on the undisturbed machine; None measures it now. Give the stored value when
            measurements of several processes shall be comparable.
        runs: runs per look; the median of them counts.
    """

    def __init__(
        self, run: Callable[[int], NDArray[np.float64]], *, nominal_ms: float | None = None, runs: int = 5
    ) -> None:
        self._run = run
        self._runs = runs
        self.last_cost_s = 0.0
        if nominal_ms is None:
            run(20)
            # The lower quartile of many looks: interruptions only ever lengthen a run.
            nominal_ms = float(np.percentile([np.median(run(runs)) for _ in range(40)], 25))
        if not nominal_ms > 0:
            raise DeviceError(f"reference kernel: nominal time {nominal_ms} ms; it must be positive. Measure it again.")
        self.nominal_ms = nominal_ms

    def slowdown(self) -> float:
        """Current time over nominal time: 1.0 where the machine runs as when the nominal time was taken."""
        times = self._run(self._runs)
        self.last_cost_s = float(times.sum()) / 1e3
        return float(np.median(times)) / self.nominal_ms
