from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from archsmith.errors import DeviceError, PredictorError
from archsmith.hwmodels import catalog
from archsmith.hwmodels.cost import CostModel, Prediction
from archsmith.hwmodels.device import load_device
from archsmith.hwmodels.energy import EnergyModel, EnergyTerms, fit_terms
from archsmith.hwmodels.traffic import bytes_moved, traffic
from archsmith.spaces.op import total_macs

DEVICE = load_device(
    """
name: toy
title: A toy
kind: cpu
energy_per_mac_pj: {float32: {value: 10, source: test}, int8: {value: 2, source: test}}
energy_per_byte_pj: {value: 100, source: test}
idle_power_w: {value: 2, source: test}
energy_relative_std: {value: 0.3, source: test}
"""
)


class ConstantLatency:
    quantity = "latency_ms"
    device = "toy"

    def predict(self, space, genomes):
        n = len(genomes)
        return Prediction(
            quantity="latency_ms", mean=np.full(n, 5.0), std=np.full(n, 0.5), source="predicted:test",
            in_range=np.arange(n) > 0,
        )  # fmt: skip

    def report(self):
        return {}


def test_energy_is_work_plus_traffic_plus_waiting(tiny):
    model = EnergyModel(DEVICE, ConstantLatency())
    genomes = tiny.sample(30, np.random.default_rng(0))
    found = model.predict(tiny, genomes)
    for row, genome in enumerate(genomes):
        ops = tiny.ops(tiny.decode(genome))
        millijoules = 1e-9 * (10 * total_macs(ops) + 100 * bytes_moved(ops)) + 2 * 5.0
        assert found.mean[row] == pytest.approx(millijoules, rel=1e-12)
    assert found.std == pytest.approx(np.hypot(0.3 * found.mean, 2 * 0.5))
    assert found.source == "predicted:energy-model"
    assert found.in_range.tolist() == [False] + [True] * 29
    assert isinstance(model, CostModel)
    assert model.report() == {}


def test_data_type_changes_the_work_and_its_price(tiny):
    model = EnergyModel(DEVICE, ConstantLatency(), data_type="int8")
    genomes = tiny.sample(5, np.random.default_rng(0))
    for row, genome in enumerate(genomes):
        ops = tiny.ops(tiny.decode(genome))
        millijoules = 1e-9 * (2 * total_macs(ops) + 100 * bytes_moved(ops, "int8")) + 2 * 5.0
        assert model.predict(tiny, genomes).mean[row] == pytest.approx(millijoules, rel=1e-12)
    with pytest.raises(DeviceError, match=r"no energy_per_mac_pj\.float16 \(it has float32, int8\)"):
        EnergyModel(DEVICE, ConstantLatency(), data_type="float16")


PRIOR = EnergyTerms(mac_pj=10, weight_byte_pj=100, activation_byte_pj=100, idle_power_w=2, relative_std=0.3)
TRUE = EnergyTerms(mac_pj=25, weight_byte_pj=300, activation_byte_pj=60, idle_power_w=1, relative_std=0.0)


def _work(tiny, n):
    rows = []
    for genome in tiny.sample(n, np.random.default_rng(1)):
        ops = tiny.ops(tiny.decode(genome))
        moved = traffic(ops)
        rows.append((total_macs(ops), moved.weight_bytes, moved.activation_bytes, 1e-3 * len(ops)))
    return np.array(rows, dtype=np.float64)


def test_terms_are_recovered_from_exact_measurements(tiny):
    work = _work(tiny, 200)
    found, errors = fit_terms(work, work @ TRUE.coefficients, PRIOR)
    assert found.coefficients == pytest.approx(TRUE.coefficients, rel=0.1)
    assert found.weight_share == pytest.approx(300 / 360, rel=0.05)
    assert errors["within_5_percent"] == 1.0
    assert errors["n"] == 200


def test_calibrated_energy_beats_the_file_from_few_noisy_measurements(tiny):
    rng = np.random.default_rng(0)
    work = _work(tiny, 300)
    measured = work @ TRUE.coefficients * rng.lognormal(0.0, 0.03, len(work))
    found, errors = fit_terms(work[:10], measured[:10], PRIOR)
    before = np.abs(work[10:] @ PRIOR.coefficients / measured[10:] - 1).mean()
    after = np.abs(work[10:] @ found.coefficients / measured[10:] - 1).mean()
    assert after < 0.06 < before
    assert errors["relative_rmse"] == found.relative_std < 0.1


def test_idle_power_that_was_subtracted_is_not_predicted_either(tiny):
    genomes = tiny.sample(20, np.random.default_rng(2))
    model = EnergyModel(DEVICE, ConstantLatency())
    work = model._work.total(tiny, genomes)
    measured = 3 * work @ model.terms.coefficients[:3]
    fitted = model.calibrated(tiny, genomes, measured, idle_included=False)
    assert fitted.terms.idle_power_w == 0
    assert fitted.predict(tiny, genomes).mean == pytest.approx(measured, rel=1e-6)
    assert fitted.terms.mac_pj == pytest.approx(30, rel=1e-6)
    assert fitted.report()["n"] == 20
    assert fitted.predict(tiny, genomes).source == "predicted:calibrated-energy"


def test_too_few_or_broken_measurements_are_refused(tiny):
    work = _work(tiny, 8)
    with pytest.raises(PredictorError, match="got 4 measured networks; at least 5"):
        fit_terms(work[:4], np.ones(4), PRIOR)
    with pytest.raises(PredictorError, match="finite and positive"):
        fit_terms(work, np.array([1.0] * 7 + [np.nan]), PRIOR)


def test_missing_term_or_foreign_latency_is_an_error():
    with pytest.raises(DeviceError, match="'toy' has no idle_power_w"):
        EnergyModel(dataclasses.replace(DEVICE, idle_power_w=None), ConstantLatency())
    with pytest.raises(PredictorError, match="needs latency_ms on host; got latency_ms on toy"):
        EnergyModel(catalog.get("host"), ConstantLatency())
