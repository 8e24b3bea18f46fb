from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import PredictorError
from archsmith.predictors.contracts import Regressor
from archsmith.predictors.regressors.boosting import BoostingRegressor
from archsmith.predictors.regressors.columns import Columns
from archsmith.predictors.regressors.ensemble import CostRegressor
from archsmith.predictors.regressors.mlp import MLPRegressor
from archsmith.predictors.regressors.ridge import RidgeRegressor
from archsmith.predictors.regressors.robust_gp import RobustGP

KINDS = {
    "ridge": RidgeRegressor,
    "gp": RobustGP,
    "boosting": BoostingRegressor,
    "mlp": lambda: MLPRegressor(hidden=(32, 32), epochs=20, members=2),
    "stack": CostRegressor,
}


def table(rows, *, noise=0.0, seed=0):
    """Codes, two numbers and a constant; a cost that adds, multiplies and has a floor."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, rows)
    features = np.stack([codes, rng.uniform(1, 3, rows), rng.uniform(0, 1, rows), np.full(rows, 7.0)], axis=1)
    cost = np.array([1.0, 3.0, 0.5, 2.0])[codes] * features[:, 1] + np.maximum(features[:, 2], 0.4)
    return features, cost * np.exp(noise * rng.normal(size=rows))


def heaps(rows, seed=0):
    """A noiseless cost, and the same with a fifth of the rows a quarter slower."""
    features, cost = table(rows, seed=seed)
    slower = np.random.default_rng(seed + 1).uniform(size=rows) < 0.2
    return features, cost, np.where(slower, 1.25 * cost, cost)


@pytest.fixture(params=sorted(KINDS))
def regressor(request):
    return KINDS[request.param]()


def test_fitted_regressor_explains_unseen_rows(regressor):
    assert isinstance(regressor, Regressor)
    features, cost = table(250)
    regressor.fit(features[:150], cost[:150])
    mean, std = regressor.predict(features[150:])
    assert mean.shape == std.shape == (100,)
    assert (std > 0).all()
    unexplained = np.mean((mean - cost[150:]) ** 2) / np.var(cost[150:])
    assert unexplained < 0.1


def test_equal_seeds_and_data_give_equal_predictions(regressor):
    features, cost = table(60, noise=0.05)
    regressor.fit(features, cost)
    first = regressor.predict(features)
    regressor.fit(features, cost)
    for before, after in zip(first, regressor.predict(features), strict=True):
        assert np.array_equal(before, after)


def test_restored_regressor_predicts_the_same(regressor):
    features, cost = table(60, noise=0.05)
    regressor.fit(features, cost)
    state = {key: np.array(value) for key, value in regressor.state().items()}
    assert all(value.dtype == np.float64 for value in state.values())
    again = type(regressor).restore(state)
    for before, after in zip(regressor.predict(features), again.predict(features), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("kind", ["ridge", "gp", "boosting", "stack"])
def test_left_out_or_unseen_rows_follow_the_larger_heap(kind):
    """Least squares would land a twentieth above the undisturbed costs."""
    features, clean, measured = heaps(350)
    model = KINDS[kind]()
    logs = kind != "stack"
    model.fit(features[:200], np.log(measured[:200]) if logs else measured[:200])
    mean, _ = model.predict(features[200:])
    relative = (np.exp(mean) if logs else mean) / clean[200:] - 1.0
    assert abs(float(np.median(relative))) < 0.02


def test_ridge_leave_one_out_equals_fitting_without_the_row():
    features, cost = table(40, noise=0.1)
    features = features[:, 1:3]  # no codes: the columns stay the same without a row
    model = RidgeRegressor(robust=False)
    model.fit(features, cost)
    columns = Columns.of(features).transform(features)

    def gap(strength):
        """Distance of the brute-force left-out predictions from the closed form, at one strength."""
        out = np.empty(40)
        for row in range(40):
            kept = np.arange(40) != row
            design = columns[kept]
            # The closed form keeps the centre of all rows; only the intercept moves, which is free.
            augmented = np.concatenate([np.ones((39, 1)), design], axis=1)
            gram = augmented.T @ augmented + np.diag([0.0, strength, strength])
            solved = np.linalg.solve(gram, augmented.T @ cost[kept])
            out[row] = solved[0] + columns[row] @ solved[1:]
        return float(np.abs(out - model.left_out).max())

    assert min(gap(10.0**power) for power in np.arange(-3.0, 4.5, 0.5)) < 1e-8


def test_gp_leave_one_out_differs_from_its_fit_where_noise_is():
    features, cost = table(80, noise=0.3)
    model = RobustGP()
    model.fit(features, np.log(cost))
    fitted = np.abs(model.predict(features)[0] - np.log(cost)).mean()
    assert np.abs(model.left_out - np.log(cost)).mean() > fitted


def test_gp_states_more_uncertainty_far_from_its_rows():
    features, cost = table(200)
    model = RobustGP()
    model.fit(features, cost)
    far = features[:1] + np.array([0.0, 30.0, 0.0, 0.0])
    assert model.predict(far)[1][0] > 3 * model.predict(features[:1])[1][0]


def test_stack_weighs_members_and_states_what_it_keeps():
    features, cost = table(700, noise=0.1)
    model = CostRegressor()
    model.fit(features[:300], cost[:300])
    assert sum(model.weights.values()) == pytest.approx(1.0)
    mean, std = model.predict(features[300:])
    assert 0.55 < np.mean(np.abs(mean - cost[300:]) <= std) < 0.8


def test_boosting_walks_more_rows_than_one_chunk():
    features, cost = table(5000)
    model = BoostingRegressor(rounds=40)
    model.fit(features[:200], cost[:200])
    whole, _ = model.predict(features)
    assert np.array_equal(whole, np.concatenate([model.predict(part)[0] for part in np.split(features, 5)]))


def test_columns_leave_out_constants_and_repetitions():
    rng = np.random.default_rng(0)
    number = rng.normal(size=50)
    codes = rng.integers(0, 3, 50).astype(float)
    flag = (rng.uniform(size=50) < 0.5).astype(float)
    features = np.stack([number, 1.0 - 2.0 * number, np.ones(50), codes, flag, 1.0 - flag], axis=1)
    columns = Columns.of(features)
    assert columns.source.tolist() == [0, 3, 3, 3, 3, 4]
    assert not columns.in_range(features + np.array([9.0, 0, 0, 0, 0, 0])).any()
    assert columns.in_range(features).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda features, cost: (features[:3], cost[:3]), "at least"),
        (lambda features, cost: (features, cost[:-1]), "shape"),
        (lambda features, cost: (features, np.where(np.arange(len(cost)) == 5, np.nan, cost)), "row 5"),
        (lambda features, cost: (np.ones_like(features), cost), "constant"),
    ],
)
def test_bad_tables_are_refused(regressor, change, message):
    with pytest.raises(PredictorError, match=message):
        regressor.fit(*change(*table(60)))


def test_costs_that_are_not_positive_are_refused():
    features, cost = table(60)
    with pytest.raises(PredictorError, match="positive"):
        CostRegressor().fit(features, cost - cost.min())


def test_asking_before_fitting_or_with_other_columns_is_refused(regressor):
    features, cost = table(60)
    with pytest.raises(PredictorError, match="fitted"):
        regressor.predict(features)
    with pytest.raises(PredictorError, match="fitted"):
        regressor.state()
    regressor.fit(features, cost)
    with pytest.raises(PredictorError, match="columns"):
        regressor.predict(features[:, :2])


def test_mlp_settings_are_checked():
    with pytest.raises(PredictorError, match="members"):
        MLPRegressor(members=0)
