"""The meter of a GPU against a library that behaves like NVML: a counter, or only present power."""

from __future__ import annotations

import time

import pytest

from archsmith.hwmodels.measure.energy import EnergyMeter
from archsmith.hwmodels.measure.nvml import NvmlMeter, gpu_clocks


class NotSupportedError(Exception):
    pass


class Library:
    """NVML's functions for a GPU that draws a known power; an old one has no counter."""

    NVMLError = NotSupportedError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, *, power_w=250.0, counter=True, power=True):
        self.power_w, self.counter, self.power = power_w, counter, power
        self.began = time.perf_counter()

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle):
        if not self.counter:
            raise NotSupportedError
        return 7_000_000 + int(1e3 * self.power_w * (time.perf_counter() - self.began))

    def nvmlDeviceGetPowerUsage(self, _handle):
        if not self.power:
            raise NotSupportedError
        return int(1e3 * self.power_w)

    def nvmlDeviceGetClockInfo(self, _handle, kind):
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetTemperature(self, _handle, _kind):
        raise NotSupportedError

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _handle):
        return 4


@pytest.mark.parametrize(("counter", "instrument"), [(True, "nvml-counter"), (False, "nvml-power")])
def test_energy_is_power_times_time(counter, instrument):
    with NvmlMeter(Library(counter=counter)) as meter:
        assert isinstance(meter, EnergyMeter)
        assert meter.instrument == instrument
        start_mj, start = meter.read_mj(), time.perf_counter()
        time.sleep(0.1)
        grown_mj, spent_s = meter.read_mj() - start_mj, time.perf_counter() - start
        assert grown_mj == pytest.approx(250e3 * spent_s, rel=0.05)
        assert meter.power_w() == 250.0


def test_changing_power_is_integrated_by_the_sampler():
    library = Library(counter=False, power_w=100.0)
    with NvmlMeter(library) as meter:
        start_mj = meter.read_mj()
        began = time.perf_counter()
        time.sleep(0.1)
        low_s = time.perf_counter() - began
        library.power_w = 300.0
        began = time.perf_counter()
        time.sleep(0.1)
        high_s = time.perf_counter() - began
        assert meter.read_mj() - start_mj == pytest.approx(100e3 * low_s + 300e3 * high_s, rel=0.15)


def test_gpu_that_hides_both_is_an_error_of_the_library():
    with pytest.raises(NotSupportedError):
        NvmlMeter(Library(counter=False, power=False))


def test_clocks_leave_out_what_is_hidden():
    found = gpu_clocks(library=Library())
    assert found == {"clock_mhz": 1980, "memory_clock_mhz": 2619, "throttle_reasons": 4}


def test_stopped_sampler_keeps_its_energy():
    meter = NvmlMeter(Library(counter=False))
    time.sleep(0.02)
    meter.close()
    assert meter.read_mj() > 0


@pytest.mark.parametrize(
    ("visible", "index", "handle"), [(None, 1, 1), ("3,5", 1, 5), ("GPU-8a,GPU-7b", 1, "GPU-7b"), ("", 0, 0)]
)
def test_gpu_is_the_one_that_cuda_means(monkeypatch, visible, index, handle):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert NvmlMeter(Library(), index)._handle == handle
