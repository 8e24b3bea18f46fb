from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import PredictorError
from archsmith.predictors.curves import FEATURES, CurveModel, curve_features, extrapolate
from archsmith.predictors.ranking import kendall_tau


def runs(n, length, seed=0, noise=0.0):
    """Losses that fall by power laws of different strength: late winners start badly."""
    rng = np.random.default_rng(seed)
    end, drop, power = rng.normal(2.0, 0.1, n), rng.uniform(0.5, 3.0, n), rng.uniform(0.5, 1.5, n)
    t = np.arange(1.0, length + 1.0)
    return end[:, None] + drop[:, None] * t ** -power[:, None] + rng.normal(0.0, noise, (n, length))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extrapolation_is_nearer_the_end_than_the_last_value(sign):
    curves = sign * runs(100, 50)
    end, spread = extrapolate(curves[:, :10], 50)
    far, near = abs(curves[:, 9] - curves[:, -1]), abs(end - curves[:, -1])
    assert near.mean() < 0.4 * far.mean()
    assert (spread >= 0).all()
    assert kendall_tau(end, curves[:, -1]) > kendall_tau(curves[:, 9], curves[:, -1]) + 0.1


def test_extrapolation_moves_and_scales_with_the_curve():
    curves = runs(20, 30)[:, :8]
    end, spread = extrapolate(curves, 30)
    moved, wider = extrapolate(5.0 + 3.0 * curves, 30)
    np.testing.assert_allclose(moved, 5.0 + 3.0 * end, rtol=1e-6)
    np.testing.assert_allclose(wider, 3.0 * spread, rtol=1e-4, atol=1e-9)


def test_flat_finished_and_single_values_stay_as_they_are():
    flat = np.full((3, 6), 1.5)
    np.testing.assert_allclose(extrapolate(flat, 40)[0], 1.5)
    curves = runs(5, 20)
    np.testing.assert_array_equal(extrapolate(curves, 20)[0], curves[:, -1])
    np.testing.assert_array_equal(extrapolate(curves[:, :1], 20)[0], curves[:, 0])
    assert np.isfinite(curve_features(curves[:, :1], 20)).all()
    assert curve_features(curves, 20).shape == (5, len(FEATURES))


def test_finished_runs_teach_how_unfinished_ones_end():
    curves = runs(160, 50, noise=0.02)
    model = CurveModel(length=50)
    model.fit(curves[:60])
    mean, std = model.predict(curves[60:, :6])
    error = abs(mean - curves[60:, -1])
    assert error.mean() < abs(extrapolate(curves[60:, :6], 50)[0] - curves[60:, -1]).mean()
    assert 0.5 < np.mean(error < std) < 0.9
    done, certain = model.predict(curves[60:])
    np.testing.assert_array_equal(done, curves[60:, -1])
    np.testing.assert_array_equal(certain, 0.0)


def test_features_of_architectures_help_where_they_tell_the_end():
    curves = runs(120, 40)
    noise = np.random.default_rng(1).normal(0.0, 0.3, curves.shape)
    noise[:, -1] = 0.0
    told = curves[:, -1:]
    blind, seeing = CurveModel(length=40), CurveModel(length=40)
    blind.fit(curves[:60] + noise[:60])
    seeing.fit(curves[:60] + noise[:60], told[:60])
    asked = (curves + noise)[60:, :4]
    errors = [
        abs(mean - curves[60:, -1]).mean() for mean in (blind.predict(asked)[0], seeing.predict(asked, told[60:])[0])
    ]
    assert errors[1] < 0.7 * errors[0]


def test_errors_say_what_is_wrong():
    curves = runs(10, 20)
    model = CurveModel(length=20)
    with pytest.raises(PredictorError, match="nothing was fitted"):
        model.predict(curves[:, :3])
    with pytest.raises(PredictorError, match="finished curves of 20"):
        model.fit(curves[:, :10])
    with pytest.raises(PredictorError, match="not finite"):
        model.fit(np.where(curves > curves.mean(), np.inf, curves))
    model.fit(curves)
    with pytest.raises(PredictorError, match="both fit and predict"):
        model.predict(curves[:, :3], np.zeros((10, 1)))
    with pytest.raises(PredictorError, match="T from 1 to 20"):
        model.predict(np.zeros((2, 21)))
    with pytest.raises(PredictorError, match="at least 2 epochs"):
        CurveModel(length=1)
