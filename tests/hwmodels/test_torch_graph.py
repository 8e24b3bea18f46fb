"""Ops run by torch against the same Ops run by ONNX Runtime: two independent readings of one description."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from archsmith import spaces
from archsmith.errors import DeviceError
from archsmith.hwmodels.measure.torch_graph import BUILDERS, TorchGraph
from archsmith.spaces.onnx_graph import onnx_model, random_weights
from archsmith.spaces.op import KINDS, Tensor, make_op

NAMES = spaces.names()


def perturbed(ops, seed=0):
    """Random weights in which norms and biases are not at rest, so that every weight matters."""
    rng = np.random.default_rng(seed)
    weights = random_weights(ops, seed)
    for name, values in weights.items():
        if name.endswith(("running_var",)):
            values += rng.uniform(0.0, 0.5, values.shape).astype(np.float32)
        elif values.ndim == 1:
            values += rng.normal(0.0, 0.1, values.shape).astype(np.float32)
    return weights


def both(ops):
    weights = perturbed(ops)
    graph = TorchGraph(ops, weights)
    inputs = graph.random_inputs(seed=1)
    with torch.inference_mode():
        found = graph(*inputs)
        again = graph(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True)), "inputs or weights were written to"
    session = onnxruntime.InferenceSession(
        onnx_model(ops, weights).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {tensor.name: value.numpy() for tensor, value in zip(graph.inputs, inputs, strict=True)}
    return found, session.run([tensor.name for tensor in graph.outputs], feed)


def test_every_kind_has_a_builder():
    assert set(BUILDERS) == set(KINDS)


@pytest.mark.parametrize("name", NAMES)
def test_family_computes_what_onnx_runtime_computes(name):
    space = spaces.get(name, "tiny")
    for genome in space.sample(3, np.random.default_rng(0)):
        found, expected = both(space.ops(space.decode(genome)))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-3, atol=2e-4 * np.abs(theirs).max())


X, Y = Tensor("x", (6, 9, 7)), Tensor("y", (6, 9, 7))
SINGLE = {
    "plain norm": make_op("op", "batch_norm", X, affine=False),
    "transposed convolution": make_op(
        "op", "conv_transpose2d", X, out_channels=4, kernel=3, stride=2, padding=1, bias=True
    ),
    "last axis": make_op("op", "concat", (X, Y), axis=-1),
    "partial windows": make_op("op", "max_pool2d", X, kernel=3, stride=2, padding=1, ceil=True),
    "uncounted padding": make_op("op", "avg_pool2d", X, kernel=3, stride=2, padding=1, count_include_pad=False),
    "rms with bias": make_op("op", "rms_norm", Tensor("x", (5, 8)), bias=True),
    "causal": make_op("op", "softmax", Tensor("x", (2, 5, 5)), causal=True),
    "shuffle": make_op("op", "channel_shuffle", X, groups=3),
    "sines": make_op("op", "position", Tensor("x", (5, 8)), function="sinusoidal"),
    "scaled product": make_op(
        "op", "matmul", (Tensor("x", (2, 5, 8)), Tensor("y", (2, 4, 8))), transpose_b=True, scale=0.5
    ),
    "statistics": make_op("op", "statistics_pool", (Tensor("x", (6, 9)), Tensor("w", (6, 9)))),
}


@pytest.mark.parametrize("op", SINGLE.values(), ids=SINGLE)
def test_single_op_computes_what_onnx_runtime_computes(op):
    (found,), (expected,) = both((op,))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_activation_leaves_a_tensor_alone_that_is_read_again():
    first = make_op("first", "linear", Tensor("x", (4,)), out_features=4)
    view = make_op("view", "reshape", first.output, shape=(2, 2))
    relu = make_op("relu", "activation", view.output, function="relu")
    flat = make_op("flat", "reshape", relu.output, shape=(4,))
    both_read = make_op("add", "add", (first.output, flat.output))
    (found,), (expected,) = both((first, view, relu, flat, both_read))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_no_ops_or_missing_weight_is_a_clear_error():
    with pytest.raises(DeviceError, match="got no Ops"):
        TorchGraph(())
    with pytest.raises(DeviceError, match=r"weight 'op\.weight' is missing"):
        TorchGraph((make_op("op", "linear", Tensor("x", (4,)), out_features=2),), {})
