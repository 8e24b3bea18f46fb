from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import DeviceError, PredictorError, SpaceError
from archsmith.hwmodels import catalog
from archsmith.hwmodels.cost import CostModel
from archsmith.hwmodels.kernels import Kernels
from archsmith.hwmodels.latency import LatencySettings, fit_latency, measure_network
from archsmith.hwmodels.lookup import LookupModel
from archsmith.hwmodels.measure.timer import TimerSettings
from archsmith.hwmodels.probing import Probes, ProbeSettings
from archsmith.spaces.op import op_signature

SIMULATED = dataclasses.replace(catalog.get("raspberry_pi_4"), name="simulated")
FEW = LatencySettings(
    probes=ProbeSettings(calibration_networks=24, held_out_networks=8),
    timer=TimerSettings(min_repeats=8, max_repeats=16, max_seconds=0.02),
)


def fit(space, timer, settings=None, **options):
    return fit_latency(space, SIMULATED, settings, timer=timer, **options)


def test_additive_device_is_reproduced_exactly(tiny, additive_device):
    model = fit(tiny, additive_device)
    genomes = tiny.sample(200, np.random.default_rng(5))
    truth = [additive_device.measure(tiny.ops(tiny.decode(genome))).value for genome in genomes]
    found = model.predict(tiny, genomes)
    assert isinstance(model, CostModel)
    assert np.abs(found.mean - truth).max() < 1e-9
    assert found.in_range.all()
    assert model.overhead_ms == pytest.approx(additive_device.overhead_ms, abs=1e-9)
    assert model.relative_std < 1e-9
    assert model.report()["within_5_percent"] == 1.0


def test_non_additive_device_states_a_larger_error(tiny, additive_device, crooked_device):
    model = fit(tiny, crooked_device)
    genomes = tiny.sample(300, np.random.default_rng(5))
    truth = np.array([crooked_device.measure(tiny.ops(tiny.decode(genome))).value for genome in genomes])
    found = model.predict(tiny, genomes)
    assert model.relative_std > 1e3 * fit(tiny, additive_device).relative_std
    assert 0.02 < model.relative_std < 0.2
    # The stated error is about the true one.
    assert np.sqrt(np.mean((found.mean / truth - 1) ** 2)) == pytest.approx(model.relative_std, rel=0.5)


def test_space_with_more_kernels_than_measured_says_so(additive_device):
    space = spaces.get("mobilenet", "digits")
    settings = LatencySettings(probes=ProbeSettings(kernels=60, calibration_networks=60))
    model = fit(space, additive_device, settings)
    report = model.report()
    assert report["kernels_measured"] == 60 < report["kernels"]
    assert 0 < report["kernel_fill_relative_rmse"] < 0.3
    assert report["within_10_percent"] > 0.9
    found = model.predict(space, space.sample(2000, np.random.default_rng(0)))
    assert found.in_range.any()
    assert not model.covered.all()
    assert not found.in_range.all()


def test_saved_model_predicts_the_same(tiny, crooked_device, tmp_path):
    model = fit(tiny, crooked_device)
    model.save(tmp_path / "model")
    loaded = LookupModel.load(tmp_path / "model")
    genomes = tiny.sample(50, np.random.default_rng(0))
    first, second = model.predict(tiny, genomes), loaded.predict(tiny, genomes)
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.std, second.std)
    assert (loaded.identity, loaded.report()) == (model.identity, model.report())


def test_missing_or_foreign_folder_is_a_clear_error(tiny, additive_device, tmp_path):
    with pytest.raises(PredictorError, match="no readable look-up model"):
        LookupModel.load(tmp_path)
    fit(tiny, additive_device).save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(content | {"format": 0}))
    with pytest.raises(PredictorError, match="another version"):
        LookupModel.load(tmp_path)


def test_another_space_is_refused(tiny, additive_device):
    digits = spaces.get("mobilenet", "digits")
    with pytest.raises(PredictorError, match="was fitted on space mobilenet-"):
        fit(tiny, additive_device).predict(digits, digits.sample(2, np.random.default_rng(0)))


def test_measurements_that_cannot_be_are_refused(tiny, additive_device, tmp_path):
    kernels = Kernels(tiny)
    genomes = tiny.sample(30, np.random.default_rng(0))
    good = Probes(
        kernel_ms=np.ones(len(kernels.ops)), genomes=genomes, network_ms=np.ones(30), held_out=8, noisy=0
    )  # fmt: skip
    assert LookupModel.fit(tiny, kernels, good, device="simulated").report()["n"] == 8
    for value in (np.nan, 0.0, -1.0, np.inf):
        wrong = good.network_ms.copy()
        wrong[3] = value
        with pytest.raises(PredictorError, match="finite and positive"):
            LookupModel.fit(tiny, kernels, dataclasses.replace(good, network_ms=wrong), device="simulated")
    wrong = good.kernel_ms.copy()
    wrong[0] = 0.0
    with pytest.raises(PredictorError, match="kernel latencies must be positive"):
        LookupModel.fit(tiny, kernels, dataclasses.replace(good, kernel_ms=wrong), device="simulated")
    digits = spaces.get("mobilenet", "digits")
    with pytest.raises(SpaceError, match=r"genomes: got shape \(30, 12\)"):
        LookupModel.fit(digits, Kernels(digits), good, device="simulated")
    with pytest.raises(PredictorError, match="measured for another space"):
        LookupModel.fit(tiny, kernels, dataclasses.replace(good, kernel_ms=np.ones(3)), device="simulated")


def test_networks_visited_thrice_are_not_moved_by_one_disturbance(tiny, additive_device):
    seen: dict[object, int] = {}
    undisturbed = additive_device.measure

    def measure(ops):
        found = undisturbed(ops)
        visit = seen[op_signature(ops)] = seen.get(op_signature(ops), 0) + 1
        networks = len(ops) > 20
        return dataclasses.replace(found, value=3 * found.value) if networks and visit == 1 and measure.odd() else found

    rng = np.random.default_rng(0)
    measure.odd = lambda: rng.random() < 0.3
    additive_device.measure = measure
    stds = []
    for visits in (1, 3):
        seen.clear()
        probes = dataclasses.replace(FEW.probes, visits=visits)
        stds.append(fit(tiny, additive_device, dataclasses.replace(FEW, probes=probes)).relative_std)
    assert stds[1] < 1e-9 < 0.1 < stds[0]


def test_stated_uncertainty_is_held_against_networks_that_no_fit_saw(tiny, crooked_device):
    report = fit(tiny, crooked_device).report()
    assert 0.4 < report["coverage_1sd"] <= report["coverage_2sd"] <= 1.0
    assert report["coverage_2sd"] > 0.85


class Killed(Exception):
    pass


def test_killed_fit_resumes_without_measuring_twice(tiny, additive_device, tmp_path):
    def kill(done, total, message):
        if done == 40:
            raise Killed

    with pytest.raises(Killed):
        fit(tiny, additive_device, directory=tmp_path, progress=kill)
    (log,) = tmp_path.glob("*.jsonl")
    log.write_bytes(log.read_bytes() + b'{"key": "torn')
    steps = []
    model = fit(tiny, additive_device, directory=tmp_path, progress=lambda done, total, _: steps.append((done, total)))
    assert additive_device.measured == steps[-1][0] == steps[-1][1] == 40 + len(steps)
    assert additive_device.restored == {"clock": 1.0}
    fresh = fit(tiny, additive_device)
    assert np.array_equal(model.table_ms, fresh.table_ms)
    assert model.identity == fresh.identity


def test_log_of_something_else_is_refused(tiny, additive_device, tmp_path):
    identity = fit(tiny, additive_device, directory=tmp_path).identity
    log = tmp_path / f"{identity}.jsonl"
    log.write_text(log.read_text().replace(identity, "lookup-other"))
    with pytest.raises(DeviceError, match="belongs to 'lookup-other'"):
        fit(tiny, additive_device, directory=tmp_path)
    log.write_text("nonsense\n")
    with pytest.raises(DeviceError, match="a line is no JSON"):
        fit(tiny, additive_device, directory=tmp_path)


def test_folder_that_cannot_be_written_is_a_clear_error(tiny, additive_device, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"cannot be written .*choose another folder"):
        fit(tiny, additive_device, directory=tmp_path / "file")


def test_identity_depends_on_space_settings_and_seed(tiny, additive_device):
    base = fit(tiny, additive_device, FEW)
    assert base.identity == fit(tiny, additive_device, FEW).identity
    assert base.identity != fit(tiny, additive_device, FEW, seed=1).identity
    assert base.identity != fit(tiny, additive_device).identity


def test_space_with_too_few_networks_is_an_error(tiny, additive_device):
    settings = LatencySettings(probes=ProbeSettings(calibration_networks=4000))
    with pytest.raises(DeviceError, match="different networks"):
        fit(tiny, additive_device, settings)


def test_real_host_is_fitted_and_one_network_measured(tiny):
    model = fit_latency(tiny, catalog.get("host"), FEW)
    genomes = tiny.sample(20, np.random.default_rng(0))
    found = model.predict(tiny, genomes)
    assert (found.mean > 0).all()
    assert (found.std > 0).all()
    assert model.report()["n"] == 8
    measured = measure_network(
        tiny, tiny.decode(genomes[0]), catalog.get("host"), FEW,
        reference_ms=model.details["conditions"]["reference_ms"],
    )  # fmt: skip
    assert measured[0].quantity == "latency_ms"
    assert measured[0].value > 0
    assert all(item.source.startswith("measured:") for item in measured)


def test_device_that_is_not_here_cannot_be_measured(tiny):
    architecture = tiny.decode(tiny.smallest())
    with pytest.raises(DeviceError, match="'raspberry_pi_4' is not this machine"):
        measure_network(tiny, architecture, catalog.get("raspberry_pi_4"))
