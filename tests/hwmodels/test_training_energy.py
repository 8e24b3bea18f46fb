from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from archsmith.errors import ConfigError, DeviceError, PredictorError
from archsmith.hwmodels.catalog import get
from archsmith.hwmodels.device import Device
from archsmith.hwmodels.training_energy import POOLED, PUBLISHED, PowerLaw, anchors_of, estimate_training, fit_law

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "zeus_gpu_power.csv.gz"

LAW = PowerLaw(
    max_limit_w=300.0, min_limit_w=100.0, reach=0.98, order=8.0, static_share=0.2, exponent=2.0, bound=0.0,
    bound_slope=1.0,
)  # fmt: skip
LIMITS = np.arange(100.0, 301.0, 25.0)


def runs(law, powers_w, times_s, *, noise=0.0):
    """Runs of one workload per power and time, at all limits, following a law."""
    rng = np.random.default_rng(0)
    curves = [law.curve(time_s=time, power_w=power) for time, power in zip(times_s, powers_w, strict=True)]
    workloads = np.repeat(np.arange(len(curves)), len(LIMITS))
    times = np.concatenate([curve.time_s(LIMITS) for curve in curves])
    powers = np.concatenate([curve.power_w(LIMITS) for curve in curves])
    return (
        workloads,
        np.tile(LIMITS, len(curves)),
        times * np.exp(noise * rng.normal(size=len(times))),
        powers * np.exp(noise * rng.normal(size=len(times))),
    )


def test_curve_passes_through_its_anchor():
    for limit in (150.0, 220.0, 300.0):
        curve = LAW.curve(time_s=50.0, power_w=140.0, limit_w=limit)
        assert float(curve.time_s(limit)) == pytest.approx(50.0)
        assert float(curve.power_w(limit)) == pytest.approx(140.0)
        assert float(curve.energy_j(limit)) == pytest.approx(7000.0)


def test_tighter_limits_take_longer_and_draw_less():
    curve = LAW.curve(time_s=50.0, power_w=260.0)
    assert (np.diff(curve.time_s(LIMITS)) < 0).all()
    assert (np.diff(curve.power_w(LIMITS)) > 0).all()
    assert (curve.power_w(LIMITS) <= LIMITS).all()


def test_a_limit_far_above_what_is_drawn_changes_nothing():
    curve = LAW.curve(time_s=50.0, power_w=80.0)
    np.testing.assert_allclose(curve.time_s([200.0, 250.0]), 50.0, rtol=1e-3)


def test_best_limit_rises_from_energy_to_time():
    curve = LAW.curve(time_s=50.0, power_w=260.0)
    best = [curve.best_limit_w(eta) for eta in (1.0, 0.5, 0.0)]
    assert best[0] < best[1] < best[2] == 300.0
    costs = curve.cost(np.arange(100.0, 301.0), 1.0)
    assert float(curve.cost(best[0], 1.0)) == pytest.approx(costs.min())
    np.testing.assert_allclose(curve.cost(LIMITS, 1.0), curve.energy_j(LIMITS))
    assert curve.best_limit_w(1.0, LIMITS) in LIMITS


def test_fit_finds_the_law_that_made_the_runs():
    law = fit_law(*runs(LAW, (80.0, 150.0, 220.0, 280.0), (10.0, 20.0, 30.0, 40.0)), max_limit_w=300.0)
    for power in (100.0, 200.0, 270.0):
        wanted, found = (each.curve(time_s=1.0, power_w=power).time_s(LIMITS) for each in (LAW, law))
        np.testing.assert_allclose(found, wanted, rtol=0.02)
    assert max(law.time_std, law.energy_std) < 0.01


def test_noise_of_the_runs_becomes_the_laws_uncertainty():
    law = fit_law(*runs(LAW, np.linspace(80, 280, 9), np.ones(9), noise=0.05), max_limit_w=300.0)
    assert 0.04 < law.time_std < 0.12  # the anchor's own noise is in every error too


def test_anchors_are_the_runs_at_the_greatest_limit():
    assert anchors_of(np.array([0, 0, 1, 1]), np.array([100.0, 200.0, 250.0, 150.0])).tolist() == [1, 1, 2, 2]


def test_estimate_is_work_over_rate_and_scales_with_epochs():
    one, two = (estimate_training(get("v100"), macs=4.1e9, samples=1.28e6, epochs=epochs) for epochs in (1.0, 2.0))
    assert two.energy_wh == pytest.approx(2.0 * one.energy_wh)
    assert one.time_s == pytest.approx(3 * 4.1e9 * 1.28e6 / (7850e9 * 0.4))
    assert one.std_wh == pytest.approx(one.relative_std * one.energy_wh)
    assert one.source == "predicted:training-roofline"


def test_a_tighter_limit_saves_energy_and_widens_the_uncertainty():
    free = estimate_training(get("v100"), macs=4.1e9, samples=1.28e6)
    tight = free.under(200.0)
    assert tight.energy_wh < free.energy_wh
    assert tight.time_s > free.time_s
    assert tight.relative_std > free.relative_std
    assert (tight.limit_w, tight.source) == (200.0, "predicted:power-law")
    assert free.under(150.0, PUBLISHED["v100"].scaled(300.0, 100.0)).time_s > free.time_s


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LAW.curve(time_s=0.0, power_w=100.0), PredictorError, "time_s is 0"),
        (lambda: LAW.curve(time_s=1.0, power_w=float("nan")), PredictorError, "power_w is nan"),
        (lambda: LAW.curve(time_s=1.0, power_w=100.0, limit_w=400.0), PredictorError, "outside 100 to 300 W"),
        (lambda: LAW.curve(time_s=1.0, power_w=100.0).cost(200.0, 1.5), PredictorError, r"eta is 1\.5"),
        (lambda: estimate_training(get("v100"), macs=-1.0, samples=1.0), ConfigError, "macs"),
        (lambda: estimate_training(Device(name="x", title="x", kind="cpu"), macs=1.0, samples=1.0), DeviceError, "x"),
        (lambda: estimate_training(get("epyc_9654"), macs=1e9, samples=1.0).under(50.0), PredictorError, "give the"),
        (lambda: estimate_training(get("v100"), macs=1e9, samples=10.0).under(5.0), PredictorError, "covers"),
        (lambda: fit_law(*(part[:5] for part in runs(LAW, (200.0,), (1.0,))), max_limit_w=300.0),
         PredictorError, "at least 12"),
        (lambda: fit_law(np.zeros(2, int), np.ones(2), np.array([1.0, 0.0]), np.ones(2), max_limit_w=1.0),
         PredictorError, "times_s must be"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.data
def test_published_laws_are_those_of_the_measurements_and_carry_over_to_an_unseen_card():
    if not DATA.exists():
        pytest.skip(f"needs {DATA}")
    with gzip.open(DATA, "rt") as file:
        rows = list(csv.DictReader(file))
    card = np.array([row["gpu"] for row in rows])
    keys = [tuple(row[name] for name in ("gpu", "dataset", "network", "batch_size", "optimizer")) for row in rows]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    workload = np.array([numbers[key] for key in keys])
    limit, time, power = (
        np.array([float(row[name]) for row in rows]) for name in ("power_limit", "time_per_epoch", "average_power")
    )
    greatest = np.array([limit[card == name].max() for name in card])

    def fitted(chosen):
        return fit_law(workload[chosen], limit[chosen], time[chosen], power[chosen], max_limit_w=greatest[chosen])

    asked = np.arange(150.0, 251.0, 25.0)
    for name, law in [*PUBLISHED.items(), ("", POOLED)]:
        again = fitted(card == name if name else np.ones(len(card), bool))
        for drawn in (100.0, 180.0, 230.0):
            stored, found = (each.curve(time_s=1.0, power_w=drawn).energy_j(asked) for each in (law, again))
            np.testing.assert_allclose(stored, found, rtol=0.01)
    unseen = card == "v100"
    law = fitted(~unseen).scaled(250.0, 100.0)
    errors = []
    for number in np.unique(workload[unseen]):
        mine = np.flatnonzero((workload == number) & (limit >= 125.0))
        first = mine[np.argmax(limit[mine])]
        curve = law.curve(time_s=time[first], power_w=power[first])
        errors.append(np.abs(curve.energy_j(limit[mine]) / (time[mine] * power[mine]) - 1.0))
    assert np.concatenate(errors).mean() < 0.1
