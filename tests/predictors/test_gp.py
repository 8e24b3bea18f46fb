from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import approx_fprime

from archsmith.errors import PredictorError
from archsmith.predictors.contracts import Regressor
from archsmith.predictors.regressors.covariance import SHAPES, Block, Covariance
from archsmith.predictors.regressors.gp import GaussianProcess, GaussianProcessSettings, _Objective
from archsmith.predictors.regressors.warp import Warp


def data(n, *, seed=0, columns=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns))
    return x, np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + rng.normal(0.0, 0.1, n)


def every_shape():
    return [Block(name=shape, columns=(0, 1, 2, 4), groups=(0, 0, 1, 2), shape=shape) for shape in SHAPES]


def test_covariance_equals_its_formula_pair_by_pair():
    x, _ = data(6)
    covariance = Covariance(every_shape())
    parameters = covariance.start(x) + np.random.default_rng(1).normal(0.0, 0.3, covariance.size)
    scales, lengths = np.exp(parameters[:4]), np.exp(parameters[4:]).reshape(4, 3)
    expected = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            for block, shape in enumerate(SHAPES):
                theta = lengths[block][[0, 0, 1, 2]]
                a, b = x[i, [0, 1, 2, 4]], x[j, [0, 1, 2, 4]]
                q = float(theta @ (a - b) ** 2)
                r = np.sqrt(5.0 * q)
                value = {
                    "linear": float(theta @ (a * b)),
                    "rbf": np.exp(-q),
                    "laplace": np.exp(-np.sqrt(q)),
                    "matern52": (1 + r + r * r / 3) * np.exp(-r),
                }[shape]
                expected[i, j] += scales[block] * value
    # Distances by a matrix product are exact to about 1e-15, and the Laplace shape takes their root.
    np.testing.assert_allclose(covariance.matrix(parameters, x, x), expected, rtol=1e-6)
    np.testing.assert_allclose(covariance.value_and_pullback(parameters, x)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(covariance.diagonal(parameters, x), np.diag(expected), rtol=1e-6)


def test_gradient_of_the_objective_equals_finite_differences():
    x, y = data(30)
    covariance = Covariance(every_shape())
    objective = _Objective(covariance, Warp.fit(y), x, y, 0.7)
    rng = np.random.default_rng(2)
    values = np.concatenate([[0.3, -0.4, -2.0], covariance.start(x)]) + rng.normal(0.0, 0.2, 3 + covariance.size)
    numeric = np.asarray(approx_fprime(values, lambda point: objective(point)[0], 1e-6))
    np.testing.assert_allclose(objective(values)[1], numeric, rtol=1e-3, atol=1e-3)


def test_prediction_equals_the_textbook_formula():
    x, y = data(25)
    gp = GaussianProcess([Block(name="all", columns=tuple(range(5)))], settings=GaussianProcessSettings(warp=False))
    gp.fit(x, y)
    asked, _ = data(7, seed=3)
    theta, scale = np.exp(gp._parameters[1]), np.exp(gp._parameters[0])

    def k(a, b):
        return scale * np.exp(-theta * ((a[:, None] - b[None]) ** 2).sum(axis=2))

    inverse = np.linalg.inv(k(x, x) + (gp.noise_variance + 1e-8) * np.eye(25))
    t = (y - y.mean()) / y.std()
    mean, std = gp.predict_latent(asked)
    np.testing.assert_allclose(mean, k(asked, x) @ inverse @ t, atol=1e-6)
    variance = scale - np.einsum("bn,nm,bm->b", k(asked, x), inverse, k(asked, x))
    np.testing.assert_allclose(std**2, variance, atol=1e-6)
    posterior = gp.posterior(asked)
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-9)
    np.testing.assert_allclose(np.diag(posterior.covariance), std**2, atol=1e-7)
    np.testing.assert_allclose(gp.predict(asked)[0], y.mean() + y.std() * mean, atol=1e-6)


def test_leave_one_out_equals_leaving_each_row_out():
    x, y = data(20)
    gp = GaussianProcess()
    gp.fit(x, y)
    mean, std = gp.leave_one_out()
    matrix = gp._covariance.matrix(gp._parameters, x, x, gp._keep) + (gp.noise_variance + 1e-8) * np.eye(20)
    t = gp.to_latent(y)
    for row in range(20):
        rest = np.arange(20) != row
        weights = np.linalg.solve(matrix[np.ix_(rest, rest)], matrix[rest, row])
        assert mean[row] == pytest.approx(weights @ t[rest], abs=1e-6)
        assert std[row] ** 2 == pytest.approx(matrix[row, row] - weights @ matrix[rest, row], abs=1e-6)


def test_rows_added_later_equal_a_posterior_of_all_rows():
    x, y = data(40)
    gp = GaussianProcess()
    gp.fit(x[:30], y[:30])
    more = gp.with_rows(x[30:], y[30:])
    assert abs(more.predict(x[30:])[0] - y[30:]).mean() < 0.5 * abs(gp.predict(x[30:])[0] - y[30:]).mean()
    np.testing.assert_array_equal(gp.predict(x)[0], gp.predict(x)[0])
    pending = gp.with_pending(x[30:])
    np.testing.assert_allclose(pending.predict_latent(x[30:])[0], gp.predict_latent(x[30:])[0], atol=0.02)
    assert (pending.predict_latent(x[30:])[1] < gp.predict_latent(x[30:])[1]).all()


def test_stated_deviations_hold_what_they_promise():
    """Over many draws of noise, about 68 and 95 % of new observations lie within one and two deviations."""
    inside = []
    for seed in range(8):
        x, y = data(260, seed=seed)
        gp = GaussianProcess()
        gp.fit(x[:60], y[:60])
        mean, std = gp.predict(x[60:])
        inside.append([np.mean(abs(mean - y[60:]) < bound * std) for bound in (1, 2)])
    one, two = np.mean(inside, axis=0)
    assert 0.55 < one < 0.82
    assert 0.85 < two < 0.995


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_warp_halves_the_skew_of_targets_under_a_ceiling_and_helps(sign):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 2))
    y = sign * -np.exp(1.5 * x[:, 0] + 0.1 * rng.normal(size=150))
    gp, straight = GaussianProcess(), GaussianProcess(settings=GaussianProcessSettings(warp=False))
    errors = []
    for model in (gp, straight):
        model.fit(x[:75], y[:75])
        errors.append(np.median(abs(model.predict(x[75:])[0] - y[75:])))
    assert abs(stats.skew(gp.to_latent(y))) < 0.5 * abs(stats.skew(y))
    assert errors[0] < 0.7 * errors[1]
    np.testing.assert_allclose(gp.to_targets(gp.to_latent(y[:75])), y[:75], rtol=1e-9)
    assert (np.diff(gp.to_latent(np.sort(y))) > 0).all()


def test_irrelevant_columns_are_found_out():
    x, _ = data(80, columns=6)
    y = 3.0 * x[:, 0]
    gp = GaussianProcess([
        Block(name="useful", columns=(0,), shape="linear"), Block(name="useless", columns=(1, 2, 3, 4, 5)),
    ])  # fmt: skip
    gp.fit(x, y)
    assert gp.shares["useful"] > 0.9
    assert sum(gp.shares.values()) == pytest.approx(1.0)


def test_joint_draws_have_the_posterior_s_moments():
    x, y = data(30)
    gp = GaussianProcess()
    gp.fit(x, y)
    posterior = gp.posterior(x[:4] + 0.5)
    draws = posterior.sample(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(draws.mean(axis=0), posterior.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(draws.T), posterior.covariance, atol=0.03)


def test_fits_repeat_and_do_not_depend_on_how_rows_asked_are_grouped():
    x, y = data(50)
    first, second = GaussianProcess(), GaussianProcess()
    first.fit(x, y)
    second.fit(x, y)
    assert isinstance(first, Regressor)
    np.testing.assert_array_equal(first.predict(x)[0], second.predict(x)[0])
    np.testing.assert_allclose(first.predict(x)[0][3:4], first.predict(x[3:4])[0], rtol=1e-9)
    assert first.predict(x[:0])[0].shape == (0,)


def test_more_rows_than_parameters_are_fitted_on_still_all_count():
    x, y = data(120)
    gp = GaussianProcess(settings=GaussianProcessSettings(fitting_rows=40))
    gp.fit(x, y)
    mean, _ = gp.predict(x)
    assert np.corrcoef(mean, y)[0, 1] > 0.95


@pytest.mark.parametrize(
    "y", [np.full(5, 3.0), np.array([1.0, 1.0, 1.0, 1.0, 2.0]), np.array([1e9, -1e9, 0.0, 1e-9, 5])]
)
def test_constant_repeated_and_wild_targets_give_finite_predictions(y):
    x, _ = data(5)
    gp = GaussianProcess()
    gp.fit(x, y)
    mean, std = gp.predict(data(20, seed=1)[0])
    assert np.isfinite(mean).all()
    assert (np.isfinite(std) & (std >= 0)).all()
    if not np.ptp(y):
        np.testing.assert_allclose(mean, 3.0)


def test_repeated_rows_are_no_obstacle():
    x = np.repeat(data(3)[0], 10, axis=0)
    gp = GaussianProcess()
    gp.fit(x, x[:, 0] + np.random.default_rng(0).normal(0, 0.01, 30))
    np.testing.assert_allclose(gp.predict(x[::10])[0], x[::10, 0], atol=0.1)


def test_errors_say_what_is_wrong():
    gp = GaussianProcess()
    x, y = data(10)
    with pytest.raises(PredictorError, match="before it was fitted"):
        gp.predict(x)
    with pytest.raises(PredictorError, match="1 rows"):
        gp.fit(x[:1], y[:1])
    with pytest.raises(PredictorError, match="not finite"):
        gp.fit(x, np.where(np.arange(10) == 3, np.nan, y))
    gp.fit(x, y)
    with pytest.raises(PredictorError, match="5 columns"):
        gp.predict(x[:, :4])
    with pytest.raises(PredictorError, match="no columns"):
        Block(name="empty", columns=())
    with pytest.raises(PredictorError, match="group numbers"):
        Block(name="odd", columns=(0, 1), groups=(0,))
    with pytest.raises(PredictorError, match="tied_std"):
        GaussianProcessSettings(tied_std=0.0)
