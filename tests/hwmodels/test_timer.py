from __future__ import annotations

import numpy as np
import pytest

from archsmith.errors import ConfigError, DeviceError
from archsmith.hwmodels.measure.reference import Reference
from archsmith.hwmodels.measure.timer import TimerSettings, median_interval, repeat


class FakeMachine:
    """Virtual time: every run takes its nominal time times the machine's present slow-down."""

    def __init__(self, slowdown=lambda step: 1.0):
        self.step = 0
        self.slowdown = slowdown

    def runner(self, milliseconds):
        def run(n):
            out = np.empty(n)
            for index in range(n):
                out[index] = milliseconds * self.slowdown(self.step)
                self.step += 1
            return out

        return run


def test_median_interval_covers_the_true_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, _, high = median_interval(rng.exponential(size=60))
        hits += low <= np.log(2) <= high
    assert 0.92 <= hits / 400 <= 1.0


def test_repeat_stops_when_the_interval_is_narrow():
    found = repeat(FakeMachine().runner(2.0), None, TimerSettings(min_repeats=16, max_seconds=10))
    assert (found.median_ms, found.count, found.half_width) == (2.0, 16, 0.0)


def test_repeat_stops_at_the_limit_and_says_how_wide_it_is():
    rng = np.random.default_rng(0)
    settings = TimerSettings(min_repeats=16, max_repeats=64, max_seconds=10)
    found = repeat(lambda n: rng.uniform(0.5, 1.5, n), None, settings)
    assert found.count == 64
    assert found.half_width > settings.noisy_above
    assert found.iqr_ms == pytest.approx(0.5, abs=0.2)


def test_repeat_corrects_a_drift_that_the_reference_shares():
    machine = FakeMachine(lambda step: 1.0 if step < 400 else 1.3)
    reference = Reference(machine.runner(0.5))
    machine.step = 1000
    found = repeat(machine.runner(2.0), reference, TimerSettings(min_repeats=16))
    assert found.median_ms == pytest.approx(2.0)
    assert found.drift == pytest.approx(1.3)


def test_reference_keeps_a_given_nominal_time_and_refuses_nonsense():
    run = FakeMachine().runner(0.5)
    assert Reference(run, nominal_ms=0.25).slowdown() == pytest.approx(2.0)
    with pytest.raises(DeviceError, match="must be positive"):
        Reference(run, nominal_ms=0.0)


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"precision": -0.1}, {"max_repeats": 3}, {"warmup_runs": -1}])
def test_settings_reject(wrong):
    with pytest.raises(ConfigError):
        TimerSettings(**wrong)
