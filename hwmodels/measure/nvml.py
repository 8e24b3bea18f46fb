"""NVIDIA's management library: the energy, power and clocks of a GPU, while another library runs the work.

Volta and later count their energy in millijoules since the driver was loaded; older GPUs tell only their present power,
which a thread samples and integrates. `pynvml` (the package nvidia-ml-py) is imported when a GPU is asked for, and not
before.

Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html; the choice between
counter and sampled power follows Zeus (ml-energy/zeus, ``zeus/monitor/energy.py``).
"""

from __future__ import annotations

import os
import threading
import time
from types import ModuleType, TracebackType
from typing import Any, Final, Self

from ...errors import DeviceError
from .energy import Unavailable

__all__ = ["NvmlMeter", "gpu_clocks", "open_gpu_meter"]

SAMPLE_S: Final = 0.01
"""Between two samples of power; NVML renews its reading every 20 to 100 ms."""


def open_gpu_meter(index: int = 0) -> NvmlMeter | Unavailable:
    """The energy meter of a GPU, or why there is none."""
    try:
        library = _library()
    except DeviceError as error:
        return Unavailable(str(error))
    try:
        return NvmlMeter(library, index)
    except library.NVMLError as error:
        return Unavailable(f"NVML cannot read the energy or power of GPU {index}: {error}")


def gpu_clocks(index: int = 0, library: Any = None) -> dict[str, str | int | float | bool]:
    """Present clocks, temperature and reasons for throttling of a GPU; what NVML does not tell is left out."""
    try:
        library = library if library is not None else _library()
    except DeviceError:
        return {}
    handle = _handle(library, index)
    queries = {
        "clock_mhz": lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_SM),
        "memory_clock_mhz": lambda: library.nvmlDeviceGetClockInfo(handle, library.NVML_CLOCK_MEM),
        "temperature_c": lambda: library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU),
        "throttle_reasons": lambda: library.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
    }
    out: dict[str, str | int | float | bool] = {}
    for name, query in queries.items():
        try:
            out[name] = int(query())
        except library.NVMLError:
            continue
    return out


class NvmlMeter:
    """Energy of one GPU since opening. An `EnergyMeter`; close it, or use it in a ``with``, where it samples power.

    Args:
        library: the module `pynvml`, initialised.
        index: which GPU, as CUDA numbers those that it is allowed to see.

    Attributes:
        instrument: ``nvml-counter``, or ``nvml-power`` where sampled power is integrated.
    """

    def __init__(self, library: Any, index: int = 0) -> None:
        self._library = library
        self._handle = _handle(library, index)
        self._sampler: _PowerSampler | None = None
        self._start_mj = 0.0
        try:
            self._start_mj = float(library.nvmlDeviceGetTotalEnergyConsumption(self._handle))
            self.instrument = "nvml-counter"
        except library.NVMLError:
            self.power_w()  # raises where the power is hidden as well
            self._sampler = _PowerSampler(self.power_w)
            self.instrument = "nvml-power"

    def read_mj(self) -> float:
        """Energy drawn by the whole GPU since opening, in millijoules."""
        if self._sampler is not None:
            return self._sampler.read_mj()
        return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)) - self._start_mj

    def power_w(self) -> float:
        """Present power in watts, averaged by NVML over up to a second."""
        return float(self._library.nvmlDeviceGetPowerUsage(self._handle)) / 1e3

    def close(self) -> None:
        """Stop sampling."""
        if self._sampler is not None:
            self._sampler.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _PowerSampler:
    """Integrates power over time in a thread of its own, by the trapezoidal rule."""

    def __init__(self, power_w: Any) -> None:
        self._power_w = power_w
        self._lock = threading.Lock()
        self._total_mj = 0.0
        self._last = (time.perf_counter(), power_w())
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml-power", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self._add()

    def _add(self) -> None:
        with self._lock:
            now = (time.perf_counter(), self._power_w())
            self._total_mj += 1e3 * (now[0] - self._last[0]) * (now[1] + self._last[1]) / 2
            self._last = now

    def read_mj(self) -> float:
        """Energy since the start, in millijoules."""
        self._add()
        with self._lock:
            return self._total_mj

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()


def _handle(library: Any, index: int) -> Any:
    """NVML numbers all GPUs of the machine, CUDA those in ``CUDA_VISIBLE_DEVICES``, by number or by name."""
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    if index >= len(visible):
        return library.nvmlDeviceGetHandleByIndex(index)
    chosen = visible[index]
    if chosen.isdecimal():
        return library.nvmlDeviceGetHandleByIndex(int(chosen))
    return library.nvmlDeviceGetHandleByUUID(chosen)


def _library() -> ModuleType:
    try:
        import pynvml
    except ImportError as error:
        raise DeviceError("reading a GPU's energy needs the package nvidia-ml-py; install it.") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise DeviceError(f"NVML does not start ({error}); is there an NVIDIA driver here?") from error
    return pynvml
