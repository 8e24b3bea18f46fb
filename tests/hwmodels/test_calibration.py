from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import PredictorError
from archsmith.hwmodels.calibration import _solve, calibrate, held_out_report


def _world(rng, n=80, k=30):
    alone = rng.uniform(0.01, 0.05, k)
    counts = rng.integers(0, 2, (n, k)).astype(np.float64)
    return alone, counts


def test_additive_world_is_recovered_exactly():
    alone, counts = _world(np.random.default_rng(0))
    networks = 0.02 + counts @ (1.1 * alone - 0.003)
    found = calibrate(alone, counts, networks)
    assert (found.overhead_ms, found.scale, found.entry_ms) == pytest.approx((0.02, 1.1, 0.003), rel=1e-9)
    assert found.overhead_ms + counts @ found.kernels_ms(alone) == pytest.approx(networks, rel=1e-12)


def test_kernels_that_cost_more_inside_networks_are_corrected():
    rng = np.random.default_rng(0)
    alone, counts = _world(rng, n=240)
    inside = alone * rng.uniform(0.8, 1.2, len(alone))
    networks = 0.02 + counts @ inside
    found = calibrate(alone, counts[:200], networks[:200])
    error = np.abs(found.kernels_ms(alone) - inside).mean()
    assert np.isfinite(found.strength)
    assert error < 0.3 * np.abs(found.scale * alone - found.entry_ms - inside).mean()
    predicted = found.overhead_ms + counts[200:] @ found.kernels_ms(alone)
    assert held_out_report(predicted, networks[200:])["relative_rmse"] < 0.01


def test_leave_one_out_error_matches_refitting():
    rng = np.random.default_rng(1)
    base = np.stack([np.ones(20), rng.uniform(0.5, 1.5, 20), rng.uniform(0.5, 1.5, 20)], axis=1)
    features = rng.normal(size=(20, 8))
    for strength in (0.3, np.inf):
        gram = features @ features.T
        left_out = []
        for row in range(20):
            keep = np.arange(20) != row
            fit = _solve(base[keep], gram[np.ix_(keep, keep)], strength=strength)
            share = gram[row, keep] @ fit.dual if np.isfinite(strength) else 0.0
            left_out.append(1.0 - base[row] @ fit.coefficients - share)
        assert _solve(base, gram, strength=strength).loo_rmse == pytest.approx(np.sqrt(np.mean(np.square(left_out))))


def test_too_few_networks_is_an_error():
    alone, counts = _world(np.random.default_rng(0), n=5)
    with pytest.raises(PredictorError, match="got 5 whole networks; at least 12"):
        calibrate(alone, counts, counts @ alone)


def test_report_golden_values():
    report = held_out_report(np.array([1.0, 2.12, 3.0, 3.84]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert report["kendall_tau"] == report["spearman"] == 1.0
    assert (report["within_5_percent"], report["within_10_percent"], report["n"]) == (0.75, 1.0, 4.0)
    assert report["rmse"] == pytest.approx(np.sqrt((0.12**2 + 0.16**2) / 4))
    assert report["mape"] == pytest.approx((0.06 + 0.04) / 4)


def test_report_holds_stated_uncertainty_against_errors():
    measured = np.full(100, 2.0)
    predicted = measured + np.random.default_rng(0).normal(scale=0.1, size=100)
    report = held_out_report(predicted, measured, np.full(100, 0.1))
    assert report["coverage_1sd"] == pytest.approx(0.68, abs=0.12)
    assert report["coverage_2sd"] == pytest.approx(0.95, abs=0.05)
    assert held_out_report(predicted, measured, np.full(100, 0.01))["coverage_2sd"] < 0.3


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_report_refuses_what_cannot_be_measured(value):
    with pytest.raises(PredictorError, match="must be finite and positive"):
        held_out_report(np.ones(3), np.array([1.0, value, 1.0]))


def test_disturbed_networks_do_not_move_the_fit():
    rng = np.random.default_rng(2)
    alone, counts = _world(rng)
    networks = 0.02 + counts @ (1.1 * alone - 0.003)
    networks *= 1.0 + 0.01 * rng.normal(size=len(networks))
    steady = calibrate(alone, counts, networks)
    networks[[3, 17, 40]] *= [2.5, 0.3, 1.8]
    found = calibrate(alone, counts, networks)
    assert (steady.disturbed, found.disturbed) == (0, 3)
    assert found.loo_relative_rmse == pytest.approx(steady.loo_relative_rmse, rel=0.3)
