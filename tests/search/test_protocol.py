"""Comparisons with random sampling say what the numbers allow, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import StrategyError
from archsmith.search.protocol import compare_fronts, relative_improvement


def rng():
    return np.random.default_rng(0)


def test_front_equal_to_random_is_not_better():
    values = np.random.default_rng(1).random((100, 2))
    result = compare_fronts(values, values, np.ones(2), rng(), evaluations=100, replicates=200)
    assert (result.ratio, result.verdict) == (1.0, "not better")
    assert "Not better than random" in result.text


def test_front_far_ahead_is_better_and_slightly_ahead_cannot_tell():
    values = np.random.default_rng(1).random((100, 2))
    ahead = compare_fronts(values * 0.2, 0.5 + values / 2, np.ones(2), rng(), evaluations=100, replicates=200)
    assert ahead.verdict == "better"
    assert 1 < ahead.low <= ahead.ratio
    near = compare_fronts(values * 0.999, values, np.ones(2), rng(), evaluations=100, replicates=200)
    assert near.verdict == "cannot tell"


def test_front_without_feasible_results_is_not_better():
    result = compare_fronts(np.empty((0, 2)), np.full((3, 2), 0.5), np.ones(2), rng(), evaluations=10, replicates=50)
    assert (result.ratio, result.verdict) == (0.0, "not better")


def test_front_of_unequal_evaluations_is_refused():
    with pytest.raises(StrategyError, match="equal numbers"):
        compare_fronts(np.ones((20, 2)), np.ones((5, 2)), np.full(2, 2.0), rng(), evaluations=10)


def test_relative_improvement_follows_the_formula():
    result = relative_improvement(np.array([0.95, 0.97]), np.array([0.94, 0.96]), rng())
    assert result.percent == pytest.approx(100 * 0.01 / 0.95)
    assert result.points == pytest.approx(0.01)
    assert result.verdict == "cannot tell"
    assert relative_improvement(np.array([0.5, 0.6]), np.array([0.9, 0.8]), rng()).verdict == "not better"
    assert relative_improvement(np.full(8, 0.99), np.full(8, 0.9), rng()).verdict == "better"
    assert "no spread" in relative_improvement(np.array([0.99]), np.full(8, 0.9), rng()).text
