"""Budgets and meters: how much a search may spend, and what it has spent.

The meter reads an injected clock and an injected energy counter, so that a resumed search goes on counting from what it
had spent, and tests need neither time nor hardware.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ..errors import ConfigError

__all__ = ["Budget", "EnergyCounter", "Meter", "ModelCounter", "RaplCounter", "open_energy_counter"]

JOULES_PER_WATT_HOUR: Final = 3600.0
POWERCAP: Final = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a search may spend; whichever limit is met first ends it. None = no such limit.

    Attributes:
        trials: evaluations, failed ones included.
        minutes: wall-clock time of the search stage, pauses not counted.
        watt_hours: energy of this machine, or of the named device's model, during that time.

    >>> Budget(trials=100, minutes=5.0).reached(trials=10, seconds=301.0, watt_hours=0.0)
    'minutes'
    """

    trials: int | None = None
    minutes: float | None = None
    watt_hours: float | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "minutes", "watt_hours"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"budget.{name}", value, "a positive number, or nothing for no such limit")
        if self.trials is None and self.minutes is None and self.watt_hours is None:
            raise ConfigError("budget", {}, "at least one of trials, minutes and watt_hours")

    def reached(self, *, trials: int, seconds: float, watt_hours: float) -> str | None:
        """Which limit is met: ``trials``, ``minutes`` or ``watt_hours``; None while there is budget left."""
        if self.trials is not None and trials >= self.trials:
            return "trials"
        if self.minutes is not None and seconds >= 60.0 * self.minutes:
            return "minutes"
        if self.watt_hours is not None and watt_hours >= self.watt_hours:
            return "watt_hours"
        return None

    def trials_left(self, trials: int) -> int | None:
        """Trials that may still be started; None = no limit."""
        return None if self.trials is None else max(0, self.trials - trials)


class EnergyCounter(Protocol):
    """A counter that only goes up while it is read by one process."""

    source: str

    def joules(self) -> float:
        """Energy since the counter was opened."""
        ...


class RaplCounter:
    """Package energy by the processor's own counters; covers everything that runs on the machine, not this search only.

    Args:
        domains: sysfs folders, each with `energy_uj` and `max_energy_range_uj`, that do not contain each other.
    """

    source = "measured:rapl"

    def __init__(self, domains: list[Path]) -> None:
        self._domains = domains
        self._ranges = [_read_microjoules(domain / "max_energy_range_uj") for domain in domains]
        self._last = [_read_microjoules(domain / "energy_uj") for domain in domains]
        self._joules = 0.0

    def joules(self) -> float:
        """Energy since the counter was opened; read at least once per overflow (minutes at full load)."""
        for index, domain in enumerate(self._domains):
            now = _read_microjoules(domain / "energy_uj")
            # The register wraps at its range; a difference below zero is one wrap.
            self._joules += ((now - self._last[index]) % (self._ranges[index] + 1)) / 1e6
            self._last[index] = now
        return self._joules


class ModelCounter:
    """Device power times elapsed time, where the machine has no readable counter.

    Args:
        power_w: average power of the device under load.
        clock: seconds, monotonic.
    """

    source = "predicted:device-power"

    def __init__(self, power_w: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not (math.isfinite(power_w) and power_w >= 0):
            raise ConfigError("power_w", power_w, "a finite number of watts, at least 0")
        self._power_w = power_w
        self._clock = clock
        self._start = clock()

    def joules(self) -> float:
        """Energy since the counter was opened."""
        return self._power_w * (self._clock() - self._start)


def open_energy_counter(
    power_w: float, *, clock: Callable[[], float] = time.monotonic, powercap: Path = POWERCAP
) -> EnergyCounter:
    """RAPL where its counters are readable, else the device's power times elapsed time, marked as predicted."""
    domains = sorted(powercap.glob("intel-rapl:?")) + sorted(powercap.glob("intel-rapl:??"))
    try:
        if domains:
            return RaplCounter(domains)
    except (OSError, ValueError):
        pass  # present but unreadable without root rights on most systems since 2020
    return ModelCounter(power_w, clock)


def _read_microjoules(path: Path) -> int:
    return int(path.read_text().strip())


class Meter:
    """What a search has spent so far, over all its runs.

    Args:
        energy: counter opened for this run; None = energy is not counted.
        clock: seconds, monotonic.
        seconds: spent by earlier runs of the same search.
        watt_hours: spent by earlier runs of the same search.
    """

    def __init__(
        self,
        energy: EnergyCounter | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = 0.0,
        watt_hours: float = 0.0,
    ) -> None:
        self._energy = energy
        self._clock = clock
        self._start = clock()
        self._seconds = seconds
        self._watt_hours = watt_hours

    @property
    def energy_source(self) -> str | None:
        """Where `watt_hours` comes from; None where energy is not counted."""
        return self._energy.source if self._energy else None

    @property
    def seconds(self) -> float:
        """Wall-clock seconds, earlier runs included."""
        return self._seconds + self._clock() - self._start

    @property
    def watt_hours(self) -> float:
        """Energy, earlier runs included; stays at theirs where energy is not counted."""
        return self._watt_hours + (self._energy.joules() / JOULES_PER_WATT_HOUR if self._energy else 0.0)
