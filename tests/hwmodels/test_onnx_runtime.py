from __future__ import annotations

import pytest

from archsmith.hwmodels.measure.onnx_runtime import OnnxRuntimeTimer, reference_ops
from archsmith.hwmodels.measure.timer import Timer, TimerSettings
from archsmith.spaces.op import Tensor, make_op


@pytest.fixture(scope="module")
def timer():
    return OnnxRuntimeTimer(settings=TimerSettings(min_repeats=16, max_repeats=64))


def test_measurement_carries_value_spread_and_conditions(timer):
    found = timer.measure(reference_ops())
    assert isinstance(timer, Timer)
    assert (found.quantity, found.device, found.source) == ("latency_ms", "host", "measured:onnxruntime")
    assert found.value > 0
    assert found.iqr >= 0
    assert found.repeats >= 16
    assert found.conditions["threads"] == 1
    assert str(found.conditions["runtime"]).startswith("onnxruntime ")
    assert found.conditions["reference_ms"] == timer.reference.nominal_ms


def test_thousand_times_the_work_takes_longer(timer):
    small = make_op("small", "conv2d", Tensor("x", (8, 8, 8)), out_channels=8, kernel=3, padding=1)
    large = make_op("large", "conv2d", Tensor("x", (64, 32, 32)), out_channels=128, kernel=3, padding=1)
    assert large.macs > 1000 * small.macs
    assert timer.measure((large,)).value > 2 * timer.measure((small,)).value


def test_index_inputs_are_fed(timer):
    embedding = make_op("embedding", "embedding", Tensor("tokens", (4,), dtype="int64"), vocabulary=16, features=8)
    assert timer.measure((embedding,)).value > 0


def test_state_restores_the_scale(timer):
    other = OnnxRuntimeTimer(settings=timer.settings, reference_ms=1.0)
    other.restore(timer.state())
    assert other.reference.nominal_ms == timer.reference.nominal_ms
