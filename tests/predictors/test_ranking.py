"""Ranking figures against scipy, brute force and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from archsmith.errors import PredictorError
from archsmith.predictors.ranking import (
    agreement,
    bootstrap_tau,
    kendall_tau,
    spearman,
    top_k_regret,
    within_share,
)


def brute_tau(a, b):
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    x = [np.sign(a[i] - a[j]) for i, j in pairs]
    y = [np.sign(b[i] - b[j]) for i, j in pairs]
    return np.dot(x, y) / math.sqrt(np.dot(x, x) * np.dot(y, y))


@pytest.mark.parametrize("seed", range(5))
def test_correlations_with_ties_equal_brute_force_and_scipy(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, 25), rng.integers(0, 6, 25)
    assert kendall_tau(a, b) == pytest.approx(brute_tau(a, b), abs=1e-12)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_constant_side_has_no_correlation():
    assert math.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1, 2, 3], [1, 1, 1]))
    assert agreement([1, 1, 1], [1, 2, 3]).verdict == "cannot tell"


def test_bootstrap_equals_resampling_pair_by_pair():
    rng = np.random.default_rng(0)
    a = rng.normal(size=12)
    b = a + rng.normal(size=12)
    counts = np.random.default_rng(4).multinomial(12, np.full(12, 1 / 12), size=300)
    taus = [stats.kendalltau(np.repeat(a, row), np.repeat(b, row)).statistic for row in counts]
    assert bootstrap_tau(a, b, resamples=300, seed=4) == pytest.approx(np.quantile(taus, [0.025, 0.975]))


def test_verdicts_follow_the_interval():
    values = np.arange(12)
    noise = np.random.default_rng(1).permutation(12)
    assert agreement(values, values).verdict == "agrees"
    assert agreement(values, -values).verdict == "disagrees"
    assert agreement(values, noise).verdict == "cannot tell"
    assert agreement([0.1, 0.2], [0.1, 0.2]).verdict == "cannot tell"


def test_interval_holds_tau_and_repeats_with_its_seed():
    rng = np.random.default_rng(3)
    a = rng.normal(size=30)
    b = a + rng.normal(size=30)
    found = agreement(a, b, seed=5)
    assert found.low < found.tau < found.high
    assert found == agreement(a, b, seed=5)
    assert found != agreement(a, b, seed=6)


def test_top_k_regret_is_the_gap_to_the_best_of_the_chosen():
    believed, actual = [0.9, 0.8, 0.7], [0.5, 0.9, 1.0]
    assert top_k_regret(believed, actual, 1) == pytest.approx(0.5)
    assert top_k_regret(believed, actual, 2) == pytest.approx(0.1)
    assert top_k_regret(believed, actual, 3) == 0
    with pytest.raises(PredictorError, match="k is 4"):
        top_k_regret(believed, actual, 4)


def test_within_share_is_relative_to_the_actual_value():
    assert within_share([1.09, 0.89, 2.0], [1.0, 1.0, 2.0]) == pytest.approx(2 / 3)


def test_values_that_cannot_be_compared_are_refused():
    with pytest.raises(PredictorError, match="equal length"):
        kendall_tau([1, 2], [1, 2, 3])
    with pytest.raises(PredictorError, match="not finite"):
        spearman([1, float("nan")], [1, 2])
