"""Energy meters: what a stretch of work drew, where the machine can tell; with the idle power told apart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np

from ...errors import DeviceError
from ...spaces.op import Op
from ..measurement import Measurement
from .timer import Conditions, Runner, RunnerTimer

__all__ = [
    "NOISY_ENERGY",
    "EnergyMeter",
    "RaplMeter",
    "Unavailable",
    "idle_power_w",
    "measure_energy",
    "measure_run_energy",
    "open_meter",
]

POWERCAP: Final = Path("/sys/class/powercap")

NOISY_ENERGY: Final = 0.2
"""Quartile range of the windows, over their median, above which an energy is marked noisy."""


@runtime_checkable
class EnergyMeter(Protocol):
    """A counter of energy that only grows."""

    instrument: str

    def read_mj(self) -> float:
        """Energy drawn since the meter was opened, in millijoules."""
        ...


class RaplMeter:
    """Intel and AMD processors' package energy, from the Linux powercap interface.

    Source: Linux kernel documentation, Power Capping Framework; ``energy_uj`` wraps at ``max_energy_range_uj``.

    Args:
        folders: package domains, each with ``energy_uj`` and ``max_energy_range_uj``.
    """

    instrument = "rapl"

    def __init__(self, folders: tuple[Path, ...]) -> None:
        if not folders:
            raise DeviceError("RAPL: no package domain given; open the meter with open_meter().")
        self._folders = folders
        self._ranges_uj = [_read(folder / "max_energy_range_uj") for folder in folders]
        self._last_uj = [_read(folder / "energy_uj") for folder in folders]
        self._total_uj = 0

    def read_mj(self) -> float:
        """Energy of all packages since opening, in millijoules; read at least once per wrap (minutes)."""
        for index, folder in enumerate(self._folders):
            now = _read(folder / "energy_uj")
            grown = now - self._last_uj[index]
            self._total_uj += grown if grown >= 0 else grown + self._ranges_uj[index]
            self._last_uj[index] = now
        return self._total_uj / 1e3


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why there is no energy meter, for people."""

    reason: str


def open_meter(root: Path = POWERCAP) -> RaplMeter | Unavailable:
    """The machine's energy meter, or why there is none."""
    if not root.is_dir():
        return Unavailable(f"{root} does not exist: no RAPL on this machine or not passed into this container")
    domains = []
    for folder in sorted(root.glob("*rapl:*")):
        # Packages are intel-rapl:0; their subdomains intel-rapl:0:1 (core, dram, uncore) would be counted twice.
        if folder.name.count(":") == 1 and (folder / "energy_uj").exists():
            domains.append(folder)
    if not domains:
        return Unavailable(f"{root} holds no package domain")
    try:
        return RaplMeter(tuple(domains))
    except PermissionError as error:
        return Unavailable(f"{error.filename} is not readable; grant read access to it, or run as root")


def _read(path: Path) -> int:
    return int(path.read_text().strip())


def idle_power_w(
    meter: EnergyMeter,
    *,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Power that the meter sees while this process waits, in watts: what other processes draw is in it.

    Args:
        meter: of the device.
        seconds: how long to wait; meters renew their reading every 1 ms (RAPL) to 100 ms (NVML).
        clock: seconds now.
        sleep: waits.
    """
    start_mj, start_s = meter.read_mj(), clock()
    sleep(seconds)
    return (meter.read_mj() - start_mj) / (clock() - start_s) / 1e3


def measure_run_energy(
    run: Runner,
    meter: EnergyMeter,
    *,
    device: str,
    conditions: Conditions | None = None,
    idle_w: float = 0.0,
    seconds: float = 1.0,
    windows: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """Energy of one run of a prepared network, over many runs in a row.

    The runs are split into windows; the median of the windows' energies per run is the value, so that one disturbed
    window does not count, and their quartile range the spread.

    Args:
        run: a timer's runner.
        meter: of the device that runs it.
        device: the name that the measurement carries.
        conditions: those of the timer.
        idle_w: idle power that is subtracted, from `idle_power_w`; 0 leaves it in.
        seconds: how long in all; at least a second for NVML, whose counter moves every 20 to 100 ms.
        windows: how many.
        clock: seconds now.

    Raises:
        DeviceError: the meter stood still, or the idle power is above what the runs drew.
    """
    step = max(int(1e3 * seconds / windows / max(float(run(5).mean()), 1e-6)), 1)
    values = []
    for _ in range(windows):
        start_mj, start_s = meter.read_mj(), clock()
        run(step)
        grown_mj, spent_s = meter.read_mj() - start_mj, clock() - start_s
        if grown_mj <= 0:
            raise DeviceError(
                f"energy of {device}: {meter.instrument} did not move within {spent_s:.3f} s; measure for longer "
                f"(now {seconds} s in {windows} windows)."
            )
        values.append((grown_mj - 1e3 * idle_w * spent_s) / step)  # W x s = J
    value = float(np.median(values))
    if value <= 0:
        raise DeviceError(
            f"energy of {device}: {meter.instrument} saw less than the idle power of {idle_w:.3g} W; other work "
            "stopped meanwhile. Measure the idle power again."
        )
    low, high = np.percentile(values, [25, 75])
    return Measurement(
        quantity="energy_mj",
        value=value,
        iqr=float(high - low),
        repeats=step * windows,
        device=device,
        source=f"measured:{meter.instrument}",
        noisy=bool(high - low > NOISY_ENERGY * value),
        conditions={**(conditions or {}), "idle_power_subtracted": idle_w > 0, "idle_power_w": idle_w},
    )


def measure_energy(timer: RunnerTimer, ops: tuple[Op, ...], meter: EnergyMeter, *, seconds: float = 1.0) -> Measurement:
    """Energy of one run, over many runs in a row: the whole device's, less its idle power just before.

    Raises:
        DeviceError: the meter does not move, or other work on the machine hides the network's.
    """
    run = timer.prepare(ops)
    idle_w = idle_power_w(meter, seconds=seconds / 2)
    return measure_run_energy(
        run, meter, device=timer.device, conditions=timer.conditions, idle_w=idle_w, seconds=seconds
    )
