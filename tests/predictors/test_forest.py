from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import PredictorError
from archsmith.predictors.contracts import Regressor
from archsmith.predictors.regressors.forest import Forest, ForestSettings


def data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(n, 4))
    return x, np.sign(x[:, 0]) * (x[:, 1] > 0) + rng.normal(0.0, 0.1, n)


def test_mean_is_that_of_the_trees_and_deviation_follows_total_variance():
    x, y = data(80, 0)
    forest = Forest(ForestSettings(trees=20, leaf=4))
    forest.fit(x, y)
    asked, _ = data(30, 1)
    mean, std = forest.predict(asked)
    trees = forest._forest.estimators_
    each = np.stack([tree.predict(asked) for tree in trees])
    np.testing.assert_allclose(mean, each.mean(axis=0))
    inside = np.stack([tree.tree_.impurity[tree.apply(asked)] for tree in trees]).mean(axis=0)
    ratio = std / np.sqrt(inside + each.var(axis=0))
    np.testing.assert_allclose(ratio, ratio[0])


def test_forest_learns_interactions_and_knows_about_how_well():
    x, y = data(300, 0)
    asked, truth = data(300, 1)
    forest = Forest()
    forest.fit(x, y)
    assert isinstance(forest, Regressor)
    mean, std = forest.predict(asked)
    assert np.mean(abs(mean - truth)) < 0.45 * np.mean(abs(truth - truth.mean()))
    assert 0.5 < np.mean(abs(mean - truth) < std) < 0.85


def test_equal_seeds_repeat_and_others_differ():
    x, y = data(60, 0)
    fits = []
    for seed in (0, 0, 1):
        forest = Forest(ForestSettings(trees=10, seed=seed))
        forest.fit(x, y)
        fits.append(forest.predict(x)[0])
    np.testing.assert_array_equal(fits[0], fits[1])
    assert (fits[0] != fits[2]).any()


def test_constant_targets_are_predicted_with_no_doubt():
    x, _ = data(10, 0)
    forest = Forest(ForestSettings(trees=5))
    forest.fit(x, np.full(10, 2.0))
    mean, std = forest.predict(x)
    np.testing.assert_allclose(mean, 2.0)
    np.testing.assert_allclose(std, 0.0, atol=1e-9)


def test_errors_say_what_is_wrong():
    x, y = data(10, 0)
    forest = Forest()
    with pytest.raises(PredictorError, match="before it was fitted"):
        forest.predict(x)
    with pytest.raises(PredictorError, match="at least 2"):
        forest.fit(x[:1], y[:1])
    with pytest.raises(PredictorError, match="not finite"):
        forest.fit(x, np.full(10, np.nan))
    with pytest.raises(PredictorError, match="share of columns"):
        ForestSettings(columns=0.0)
    forest.fit(x, y)
    with pytest.raises(PredictorError, match="4 columns"):
        forest.predict(x[:, :3])
