from __future__ import annotations

import pytest

from archsmith.errors import DeviceError
from archsmith.hwmodels.measure.energy import EnergyMeter, RaplMeter, Unavailable, open_meter


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
