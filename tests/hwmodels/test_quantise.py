from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from archsmith import spaces
from archsmith.errors import ConfigError, DeviceError
from archsmith.hwmodels.measure.onnx_runtime import OnnxRuntimeTimer
from archsmith.hwmodels.measure.quantise import quantised
from archsmith.hwmodels.measure.timer import TimerSettings, reference_ops
from archsmith.hwmodels.measure.typed_model import typed_model
from archsmith.spaces.onnx_graph import onnx_model


def run(model, feed):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.mark.parametrize("family", ["mobilenet", "decoder", "vit"])
def test_int8_network_computes_nearly_the_same(family):
    space = spaces.get(family, "tiny")
    model = onnx_model(space.ops(space.decode(space.largest()))).SerializeToString()
    rng = np.random.default_rng(5)
    feed = {
        item.name: rng.standard_normal(item.shape).astype(np.float32)
        if item.type == "tensor(float)"
        else rng.integers(0, 5, item.shape)
        for item in onnxruntime.InferenceSession(model).get_inputs()
    }
    small = quantised(model, [feed])
    kinds = {node.op_type for node in onnx.load_from_string(small).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert "BatchNormalization" not in kinds
    exact, rounded = run(model, feed), run(small, feed)
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.98
    assert not np.array_equal(exact, rounded)


def test_ranges_come_from_the_samples_given():
    model = onnx_model(reference_ops()).SerializeToString()
    name = "reference.input"
    feed = {name: np.random.default_rng(0).uniform(-50, 50, (1, 32, 12, 12)).astype(np.float32)}
    exact = run(model, feed)
    fitting = run(quantised(model, [feed]), feed)
    clipped = run(quantised(model), feed)  # calibrated on standard normal numbers
    assert np.abs(fitting - exact).mean() < 0.2 * np.abs(clipped - exact).mean()


def test_timer_measures_int8_and_says_so():
    timer = OnnxRuntimeTimer(settings=TimerSettings(data_type="int8", min_repeats=16, max_repeats=32))
    found = timer.measure(reference_ops())
    assert found.conditions["dtype"] == "int8"
    assert found.value > 0
    with pytest.raises(ConfigError, match="got 'bfloat16'; allowed: one of float32, float16, int8"):
        OnnxRuntimeTimer(settings=TimerSettings(data_type="bfloat16"))


@pytest.mark.parametrize("family", ["mobilenet", "decoder", "vit"])
def test_float16_network_computes_nearly_the_same_in_half_the_bytes(family):
    space = spaces.get(family, "tiny")
    ops = space.ops(space.decode(space.largest()))
    exact, half = (typed_model(ops, data_type) for data_type in ("float32", "float16"))
    rng = np.random.default_rng(5)
    feed = {
        item.name: rng.standard_normal([size.dim_value for size in item.type.tensor_type.shape.dim]).astype(np.float32)
        if item.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        else rng.integers(0, 5, [size.dim_value for size in item.type.tensor_type.shape.dim])
        for item in exact.graph.input
    }
    halved = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in feed.items()}
    whole, rounded = run(exact.SerializeToString(), feed), run(half.SerializeToString(), halved)
    assert rounded.dtype == np.float16
    assert np.corrcoef(whole.ravel(), rounded.ravel().astype(np.float64))[0, 1] > 0.999
    assert not np.array_equal(whole, rounded)
    kept = {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    assert {tensor.data_type for tensor in half.graph.initializer} <= kept


def test_timer_measures_float16_and_says_so():
    timer = OnnxRuntimeTimer(settings=TimerSettings(data_type="float16", min_repeats=16, max_repeats=32))
    found = timer.measure(reference_ops())
    assert found.conditions["dtype"] == "float16"
    assert found.value > 0


def test_model_that_cannot_be_quantised_is_a_clear_error():
    model = onnx_model(reference_ops()).SerializeToString()
    with pytest.raises(DeviceError, match="cannot quantise"):
        quantised(model, [])
