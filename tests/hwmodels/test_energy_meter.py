from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import DeviceError
from archsmith.hwmodels.measure.energy import (
    EnergyMeter,
    RaplMeter,
    Unavailable,
    idle_power_w,
    measure_run_energy,
    open_meter,
)


@pytest.fixture
def powercap(tmp_path):
    """A powercap tree as Linux lays it out: one package with a subdomain that must not be counted twice."""
    for name, energy in (("intel-rapl:0", 999_000), ("intel-rapl:0:1", 5)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{energy}\n")
        (folder / "max_energy_range_uj").write_text("1000000\n")
    return tmp_path


def test_meter_counts_packages_and_survives_the_wrap(powercap):
    meter = open_meter(powercap)
    assert isinstance(meter, RaplMeter)
    assert isinstance(meter, EnergyMeter)
    assert meter.read_mj() == 0.0
    (powercap / "intel-rapl:0" / "energy_uj").write_text("999500\n")
    assert meter.read_mj() == pytest.approx(0.5)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("1500\n")
    assert meter.read_mj() == pytest.approx(2.5)


def test_no_meter_says_why(tmp_path):
    missing = open_meter(tmp_path / "powercap")
    assert isinstance(missing, Unavailable)
    assert "does not exist" in missing.reason
    assert "no package domain" in open_meter(tmp_path).reason
    with pytest.raises(DeviceError):
        RaplMeter(())


class Bench:
    """Virtual time: a device that draws `idle_w` always and `work_mj` per run of `run_ms` on top."""

    instrument = "bench"

    def __init__(self, *, idle_w=40.0, work_mj=6.0, run_ms=2.0):
        self.idle_w, self.work_mj, self.run_ms = idle_w, work_mj, run_ms
        self.now_s = self.energy_mj = 0.0

    def pass_time(self, seconds):
        self.now_s += seconds
        self.energy_mj += 1e3 * self.idle_w * seconds

    def run(self, n):
        self.pass_time(n * self.run_ms / 1e3)
        self.energy_mj += n * self.work_mj
        return np.full(n, self.run_ms)

    def read_mj(self):
        return self.energy_mj

    def clock(self):
        return self.now_s


def test_idle_power_is_measured_subtracted_and_said():
    bench = Bench()
    idle_w = idle_power_w(bench, seconds=0.5, clock=bench.clock, sleep=bench.pass_time)
    assert idle_w == pytest.approx(40.0)
    found = measure_run_energy(bench.run, bench, device="bench", idle_w=idle_w, clock=bench.clock)
    assert found.value == pytest.approx(6.0)
    assert found.iqr == pytest.approx(0.0, abs=1e-9)
    assert (found.quantity, found.source, found.noisy) == ("energy_mj", "measured:bench", False)
    assert found.conditions == {"idle_power_subtracted": True, "idle_power_w": idle_w}
    whole = measure_run_energy(bench.run, bench, device="bench", clock=bench.clock)
    assert whole.value == pytest.approx(6.0 + 40.0 * 2.0)
    assert whole.conditions["idle_power_subtracted"] is False


def test_twice_the_runs_cost_twice_the_energy():
    bench = Bench()
    one = measure_run_energy(bench.run, bench, device="bench", clock=bench.clock)
    two = measure_run_energy(lambda n: bench.run(2 * n), bench, device="bench", clock=bench.clock)
    assert two.value == pytest.approx(2.0 * one.value)


def test_meter_that_stands_still_or_idles_higher_is_a_clear_error():
    bench = Bench(idle_w=0.0, work_mj=0.0)
    with pytest.raises(DeviceError, match="bench did not move within"):
        measure_run_energy(bench.run, bench, device="bench", clock=bench.clock)
    busy = Bench()
    with pytest.raises(DeviceError, match="saw less than the idle power of 100 W"):
        measure_run_energy(busy.run, busy, device="bench", idle_w=100.0, clock=busy.clock)
