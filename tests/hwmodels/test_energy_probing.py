"""Measured energies on the way from a device to a calibrated energy model."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from archsmith.errors import ConfigError, PredictorError
from archsmith.hwmodels import catalog
from archsmith.hwmodels.energy import EnergyModel
from archsmith.hwmodels.energy_probing import EnergyProbes, EnergySource, Metered, collect_energies, energy_probes
from archsmith.hwmodels.latency import LatencySettings, fit_latency
from archsmith.hwmodels.lookup import LookupModel
from archsmith.hwmodels.measure.onnx_runtime import OnnxRuntimeTimer
from archsmith.hwmodels.measure.timer import TimerSettings
from archsmith.hwmodels.measurement import Measurement
from archsmith.hwmodels.probing import ProbeLog, ProbeSettings
from archsmith.spaces.op import total_macs


class ProcessorTime:
    """A counter of 20 W per busy core on top of 5 W: what RAPL would show of this process."""

    instrument = "processor-time"

    def read_mj(self) -> float:
        return 1e3 * (20.0 * time.process_time() + 5.0 * time.perf_counter())


class Known:
    """A device elsewhere: energy in proportion to the work; of networks beyond a size it cannot tell."""

    energy_instrument = "rapl"

    def __init__(self, most_macs=float("inf")):
        self.most_macs = most_macs
        self.asked = 0

    def energies(self, subjects):
        self.asked += len(subjects)
        return iter([self._energy(ops) for ops in subjects])

    def _energy(self, ops):
        macs = total_macs(ops)
        if macs > self.most_macs:
            return None
        return Measurement(
            quantity="energy_mj", value=5e-8 * macs, iqr=0.0, repeats=5, device="host", source="measured:rapl"
        )


class Clockless:
    """A timer of which only the state is asked."""

    device = "host"

    def __init__(self):
        self.conditions = {}

    def state(self):
        return {}

    def restore(self, state):
        """Nothing to restore."""


def quiet(done):
    """Nobody listens."""


def log_at(path):
    return ProbeLog(path, "energies", Clockless())


def test_energies_are_measured_once_and_survive_a_kill(tiny, tmp_path):
    source, told = Known(), []
    collect_energies(tiny, source, 8, seed=0, log=log_at(tmp_path / "log"), told=told.append)()
    assert told == list(range(1, 9))
    again = Known()
    found = collect_energies(tiny, again, 8, seed=0, log=log_at(tmp_path / "log"), told=quiet)()
    assert again.asked == 0
    assert found is not None
    assert (len(found.genomes), found.source) == (8, "measured:rapl")
    macs = tiny.macs(found.genomes)
    assert found.energy_mj == pytest.approx(5e-8 * macs)


def test_what_the_device_cannot_tell_is_left_out_and_too_little_is_nothing(tiny):
    macs = np.sort(tiny.macs(tiny.sample(200, np.random.default_rng(0))))
    part = collect_energies(tiny, Known(macs[150]), 20, seed=0, log=log_at(None), told=quiet)()
    assert part is not None
    assert 5 <= len(part.genomes) < 20
    assert (tiny.macs(part.genomes) <= macs[150]).all()
    assert collect_energies(tiny, Known(0), 20, seed=0, log=log_at(None), told=quiet)() is None


def test_probes_calibrate_the_model_and_travel_with_it(tiny):
    found = collect_energies(tiny, Known(), 12, seed=0, log=log_at(None), told=quiet)()
    assert found is not None
    kept = energy_probes(json.loads(json.dumps({"energy": found.to_json()})))
    assert isinstance(kept, EnergyProbes)
    assert energy_probes({}) is None
    with pytest.raises(PredictorError, match="fit the model again"):
        energy_probes({"energy": {"genomes": [[0]]}})


def test_host_with_a_meter_gets_a_calibrated_energy_model(tiny, tmp_path):
    """Real runs of ONNX Runtime, by a meter of processor time: energy above idle is 20 W times the time of a run."""
    quick = TimerSettings(min_repeats=16, max_repeats=32, max_seconds=0.02)
    settings = LatencySettings(
        probes=ProbeSettings(kernels=56, calibration_networks=12, held_out_networks=4, energy_networks=6), timer=quick
    )
    timer, meter = OnnxRuntimeTimer(settings=quick), ProcessorTime()
    assert isinstance(Metered(timer, meter), EnergySource)
    model = fit_latency(tiny, catalog.get("host"), settings, timer=timer, meter=meter, directory=tmp_path / "a")
    model.save(tmp_path / "model")
    loaded = LookupModel.load(tmp_path / "model")
    found = energy_probes(loaded.details)
    assert found is not None
    assert found.source == "measured:processor-time"
    energy = found.calibrate(EnergyModel(catalog.get("host"), loaded), tiny)
    genomes = tiny.sample(20, np.random.default_rng(0))
    predicted = energy.predict(tiny, genomes)
    assert predicted.source == "predicted:calibrated-energy"
    assert energy.report()["n"] == len(found.genomes)
    ratio = predicted.mean / (20.0 * loaded.predict(tiny, genomes).mean)
    assert 0.2 < np.median(ratio) < 5.0


def test_no_energies_are_measured_where_none_are_asked_for(tiny):
    with pytest.raises(ConfigError, match="0, or at least 5"):
        ProbeSettings(energy_networks=3)
    quick = TimerSettings(min_repeats=16, max_repeats=32, max_seconds=0.02)
    probes = ProbeSettings(kernels=56, calibration_networks=12, held_out_networks=4, energy_networks=0)
    settings = LatencySettings(probes=probes, timer=quick)
    timer = OnnxRuntimeTimer(settings=quick)
    model = fit_latency(tiny, catalog.get("host"), settings, timer=timer, meter=ProcessorTime())
    assert "energy" not in model.details
