"""Energy meters: what a stretch of work drew, where the machine can tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from ...errors import DeviceError

__all__ = ["EnergyMeter", "RaplMeter", "open_meter"]

POWERCAP: Final = Path("/sys/class/powercap")


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
