"""Timing: one interface for every runtime, and the statistics they share.

A timer repeats a run until the confidence interval of the median is narrow, or a limit is hit. A reference kernel is
run in between: other work on the machine, the clock and the temperature slow both down alike, so their ratio is
steadier than either (see `reference.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...spaces.op import Op
from ..measurement import Measurement
from .reference import Reference

__all__ = ["Runner", "Timer", "TimerSettings", "median_interval", "repeat"]

Runner = Callable[[int], NDArray[np.float64]]
"""Runs a prepared network n times and returns the n durations in milliseconds, [n]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerSettings:
    """When a measurement is good enough, and when it is given up.

    Attributes:
        threads: intra-operator threads.
        warmup_runs: runs before the first counted one.
        batch_runs: runs between two looks at the reference kernel.
        min_repeats: counted runs at least.
        max_repeats: counted runs at most.
        max_seconds: time for one measurement at most, reference included.
        precision: half width of the median's 95 % interval, relative to the median, at which repeating stops.
        noisy_above: half width above which the measurement is marked noisy.
    """

    threads: int = 1
    warmup_runs: int = 5
    batch_runs: int = 8
    min_repeats: int = 96
    max_repeats: int = 400
    max_seconds: float = 0.1
    precision: float = 0.01
    noisy_above: float = 0.05

    def __post_init__(self) -> None:
        for name in ("threads", "batch_runs", "min_repeats", "max_repeats", "max_seconds", "precision", "noisy_above"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"timer.{name}", getattr(self, name), "a number above 0")
        if self.warmup_runs < 0 or self.max_repeats < self.min_repeats:
            raise ConfigError("timer.max_repeats", self.max_repeats, f"at least min_repeats = {self.min_repeats}")


@runtime_checkable
class Timer(Protocol):
    """Measures how long the network of some Ops takes on one device, batch 1."""

    device: str
    conditions: Mapping[str, str | int | float | bool]

    def measure(self, ops: tuple[Op, ...]) -> Measurement:
        """Median latency_ms of one run."""
        ...

    def state(self) -> dict[str, float]:
        """What another process needs to measure on the same scale, e.g. the reference kernel's nominal time."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Take over a stored `state`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What repeating gave: median and quartile range in ms, the relative half width of its interval, and the drift."""

    median_ms: float
    iqr_ms: float
    half_width: float
    count: int
    drift: float


def median_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median of [n] values with its distribution-free 95 % confidence interval (lower, median, upper).

    Source: order statistics with the normal approximation of the binomial; Conover, Practical Nonparametric Statistics,
    section 3.2: ranks n/2 -+ 0.98 sqrt(n).

    >>> median_interval(np.arange(101.0))
    (40.0, 50.0, 60.0)
    """
    ordered = np.sort(values)
    half = 0.98 * math.sqrt(len(ordered))
    low = max(math.floor((len(ordered) - 1) / 2 - half), 0)
    high = min(math.ceil((len(ordered) - 1) / 2 + half), len(ordered) - 1)
    return float(ordered[low]), float(np.median(ordered)), float(ordered[high])


def repeat(run: Runner, reference: Reference | None, settings: TimerSettings) -> Repeats:
    """Run until the median is known to `settings.precision`, interleaved with the reference kernel.

    Every batch is divided by the slow-down that the reference kernel shows around it.
    """
    if settings.warmup_runs:
        run(settings.warmup_runs)
    batches: list[NDArray[np.float64]] = []
    factors: list[float] = []
    spent_s, count = 0.0, 0
    before = reference.slowdown() if reference else 1.0
    while True:
        raw = run(settings.batch_runs)
        after = reference.slowdown() if reference else 1.0
        factors.append((before + after) / 2)
        batches.append(raw / factors[-1])
        before = after
        count += len(raw)
        spent_s += raw.sum() / 1e3 + (reference.last_cost_s if reference else 0.0)
        if count < settings.min_repeats and spent_s < settings.max_seconds:
            continue
        values = np.concatenate(batches)
        low, median, high = median_interval(values)
        half_width = (high - low) / (2 * median)
        if half_width <= settings.precision or count >= settings.max_repeats or spent_s >= settings.max_seconds:
            quartiles = np.percentile(values, [25, 75])
            return Repeats(
                median_ms=median,
                iqr_ms=float(quartiles[1] - quartiles[0]),
                half_width=half_width,
                count=count,
                drift=float(np.median(factors)),
            )
