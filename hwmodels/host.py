"""What the machine tells about itself: processor, cores, caches, memory; and, measured, its bandwidth and peak rate."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from .device import Figure

__all__ = ["cpu_clock", "cpu_name", "detect", "measure_rates"]

_CPU_FOLDER: Final = Path("/sys/devices/system/cpu/cpu0/cache")
CORE_BUSY_W: Final = 360 / 96
"""Power of one busy core of a server processor, for machines that do not tell theirs."""

_UNITS_KIB: Final = {"K": 1, "M": 1024, "G": 1024 * 1024}


def cpu_name() -> str:
    """The processor's model name, as the operating system calls it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def cpu_clock() -> dict[str, str | float]:
    """Present clock of the cores this process may use, and the governor that sets it; empty where these are hidden."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    folders = [Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq") for core in cores]
    try:
        kilohertz = [int((folder / "scaling_cur_freq").read_text()) for folder in folders]
        return {
            "clock_mhz": float(np.mean(kilohertz)) / 1e3,
            "governor": (folders[0] / "scaling_governor").read_text().strip(),
        }
    except (OSError, ValueError):
        pass
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)]
    return {"clock_mhz": float(np.mean(found))} if found else {}


def detect() -> dict[str, Any]:
    """Fields of `Device` that this machine tells about itself; those it does not tell are left out."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    out: dict[str, Any] = {
        "title": f"this machine ({cpu_name()}, {cores} cores)",
        "cores": Figure(float(cores), "detected:scheduler affinity"),
    }
    out["busy_power_w"] = Figure(
        CORE_BUSY_W * cores,
        f"derived:{CORE_BUSY_W:g} W per core (AMD EPYC 9654 data sheet, 360 W for 96), {cores} cores",
    )
    if caches := _caches():
        out["caches_kib"] = caches
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        mebibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
        out["memory_mib"] = Figure(mebibytes, "detected:sysconf")
    return out


def _caches() -> dict[str, Figure]:
    """Data caches of the first core, from sysfs."""
    out: dict[str, Figure] = {}
    for folder in sorted(_CPU_FOLDER.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        name = {"1": "l1d", "2": "l2", "3": "l3"}.get(level)
        if name and kind in ("Data", "Unified") and re.fullmatch(r"\d+[KMG]", size):
            out[name] = Figure(float(int(size[:-1]) * _UNITS_KIB[size[-1]]), "detected:sysfs")
    return out


def measure_rates(*, seconds: float = 0.4) -> dict[str, Any]:
    """Measured fields of `Device`: copy bandwidth and the peak rate of a large matrix product.

    The product runs with as many threads as NumPy's BLAS uses in this process; the copy with one.

    Args:
        seconds: time spent on each of the two.
    """
    size = 1 << 26  # 64 MiB read and 64 MiB written: beyond the last-level caches of most machines
    source, target = np.ones(size // 8), np.empty(size // 8)
    copy_s = _best_seconds(lambda: np.copyto(target, source), seconds)
    side = 768
    left = np.ones((side, side), dtype=np.float32)
    product = np.empty_like(left)
    product_s = _best_seconds(lambda: np.matmul(left, left, out=product), seconds)
    return {
        "memory_bandwidth_gb_per_s": Figure(2 * size / copy_s / 1e9, "measured:numpy copy of 64 MiB, reads and writes"),
        "peak_gmacs_per_s": {"float32": Figure(side**3 / product_s / 1e9, "measured:numpy matmul of 768 x 768")},
    }


def _best_seconds(work: Any, seconds: float) -> float:
    """Shortest run of `work` within the time given: rates are peaks, and interruptions only ever slow a run down."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best
