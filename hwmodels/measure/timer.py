"""Timing: one interface for every runtime, and the statistics they share.

A timer repeats a run until the confidence interval of the median is narrow, or a limit is hit. A reference kernel is
run in between: other work on the machine, the clock and the temperature slow both down alike, so their ratio is
steadier than either (see `reference.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...spaces.op import Op, Tensor, make_op
from ..device import check_data_type
from ..measurement import Measurement
from .reference import Reference

__all__ = [
    "Conditions",
    "NetworkTimer",
    "Runner",
    "RunnerTimer",
    "Timer",
    "TimerSettings",
    "median_interval",
    "reference_ops",
    "repeat",
]

Conditions = Mapping[str, str | int | float | bool]
"""What a measurement was made under; JSON-able scalars."""

Runner = Callable[[int], NDArray[np.float64]]
"""Runs a prepared network n times and returns the n durations in milliseconds, [n]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerSettings:
    """When a measurement is good enough, and when it is given up.

    Attributes:
        threads: intra-operator threads.
        data_type: what the network computes in; the runtimes list what they can.
        batch: samples per run; a latency is that of the whole run.
        warmup_runs: runs before the first counted one.
        batch_runs: runs between two looks at the reference kernel.
        min_repeats: counted runs at least.
        max_repeats: counted runs at most.
        max_seconds: time for one measurement at most, reference included.
        precision: half width of the median's 95 % interval, relative to the median, at which repeating stops.
        noisy_above: half width above which the measurement is marked noisy.
    """

    threads: int = 1
    data_type: str = "float32"
    batch: int = 1
    warmup_runs: int = 5
    batch_runs: int = 8
    min_repeats: int = 96
    max_repeats: int = 400
    max_seconds: float = 0.1
    precision: float = 0.01
    noisy_above: float = 0.05

    def __post_init__(self) -> None:
        check_data_type(self.data_type, "timer.data_type")
        for name in (
            "threads",
            "batch",
            "batch_runs",
            "min_repeats",
            "max_repeats",
            "max_seconds",
            "precision",
            "noisy_above",
        ):
            if not getattr(self, name) > 0:
                raise ConfigError(f"timer.{name}", getattr(self, name), "a number above 0")
        if self.warmup_runs < 0 or self.max_repeats < self.min_repeats:
            raise ConfigError("timer.max_repeats", self.max_repeats, f"at least min_repeats = {self.min_repeats}")


@runtime_checkable
class Timer(Protocol):
    """Measures how long the network of some Ops takes on one device."""

    device: str
    conditions: Conditions

    def measure(self, ops: tuple[Op, ...]) -> Measurement:
        """Median latency_ms of one run."""
        ...

    def state(self) -> dict[str, float]:
        """What another process needs to measure on the same scale, e.g. the reference kernel's nominal time."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Take over a stored `state`."""
        ...


@runtime_checkable
class NetworkTimer(Timer, Protocol):
    """A timer that tells more of a whole network than its latency."""

    def measure_network(self, ops: tuple[Op, ...]) -> list[Measurement]:
        """latency_ms, and what else the device tells, such as energy_mj."""
        ...


def reference_ops(channels: int = 32, size: int = 12) -> tuple[Op, ...]:
    """The reference kernel: two pointwise convolutions around a depthwise one, as in small convolutional networks."""
    image = Tensor("reference.input", (channels, size, size))
    wide = 3 * channels
    expand = make_op("reference.expand", "conv2d", image, out_channels=wide, kernel=1)
    depthwise = make_op(
        "reference.depthwise", "conv2d", expand.output, out_channels=wide, kernel=3, padding=1, groups=wide
    )
    project = make_op("reference.project", "conv2d", depthwise.output, out_channels=channels, kernel=1)
    return (expand, depthwise, project)


class RunnerTimer(ABC):
    """What all timers share: statistics over the runs of a prepared network, beside the reference kernel. A `Timer`.

    Args:
        device: the name that measurements carry.
        settings: precision and limits.
        reference_ms: nominal time of the reference kernel, so that several processes agree; None measures it.

    Attributes:
        instrument: what measurements name as their source.
        conditions: what stays the same from one measurement to the next.
    """

    instrument: str
    reference_size: tuple[int, int] = (32, 12)
    """Channels and width of the reference kernel: large enough for the clock, small enough to run often."""

    def __init__(self, device: str, settings: TimerSettings | None, *, reference_ms: float | None = None) -> None:
        self.device = device
        self.settings = settings or TimerSettings()
        self.conditions: Conditions = {
            **self.runtime(),
            "threads": self.settings.threads,
            "dtype": self.settings.data_type,
            "batch": self.settings.batch,
        }
        self.reference = Reference(self.prepare(reference_ops(*self.reference_size)), nominal_ms=reference_ms)

    @abstractmethod
    def runtime(self) -> Conditions:
        """What performs the work: runtime with version, processor."""

    @abstractmethod
    def prepare(self, ops: tuple[Op, ...]) -> Runner:
        """The network of these Ops with random weights and inputs; the runner times each call alone."""

    def clocks(self) -> Conditions:
        """Clock rates right now, where the machine tells them."""
        return {}

    def state(self) -> dict[str, float]:
        """The reference kernel's nominal time."""
        return {"reference_ms": self.reference.nominal_ms}

    def restore(self, state: Mapping[str, float]) -> None:
        """Measure on the scale of another process."""
        self.reference.nominal_ms = float(state["reference_ms"])

    def measure(self, ops: tuple[Op, ...]) -> Measurement:
        """Median latency_ms of one run of the network of these Ops, corrected for the drift of the machine."""
        return self.measure_runs(self.prepare(ops))

    def measure_runs(self, run: Runner) -> Measurement:
        """Median latency_ms of a prepared network."""
        found = repeat(run, self.reference, self.settings)
        return Measurement(
            quantity="latency_ms",
            value=found.median_ms,
            iqr=found.iqr_ms,
            repeats=found.count,
            device=self.device,
            source=f"measured:{self.instrument}",
            noisy=found.half_width > self.settings.noisy_above,
            conditions={
                **self.conditions,
                **self.clocks(),
                "reference_ms": self.reference.nominal_ms,
                "slowdown_corrected": found.drift,
                "precision": found.half_width,
            },
        )


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
