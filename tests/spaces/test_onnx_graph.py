"""Every emitter against torch, run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.layers.attention import rotate
from archsmith.spaces.layers.relative import RelativeScores, RelativeValues
from archsmith.spaces.layers.temporal import StatisticsPool
from archsmith.spaces.layers.tokens import SinusoidalPosition
from archsmith.spaces.onnx_graph import EMITTERS, EPSILON, onnx_model
from archsmith.spaces.op import ACTIVATIONS, KINDS, Op, Tensor, make_op

IMAGE, SEQUENCE, VECTOR = Tensor("x", (6, 9, 7)), Tensor("x", (5, 8)), Tensor("x", (8,))
OTHER = Tensor("y", (6, 9, 7))

FUNCTIONS = {
    "gelu": F.gelu, "hard_sigmoid": F.hardsigmoid, "hard_swish": F.hardswish, "relu": F.relu, "relu6": F.relu6,
    "sigmoid": torch.sigmoid, "silu": F.silu, "tanh": torch.tanh,
}  # fmt: skip


def conv(kind, x, **attributes):
    op = make_op("op", kind, x, **attributes)
    keys = ("stride", "padding", "dilation", "groups")
    options = {key: op.attributes[key] for key in keys}
    function = F.conv1d if kind == "conv1d" else F.conv2d
    return op, lambda w, x: function(x, w["op.weight"], w.get("op.bias"), **options)


def pool(kind, **attributes):
    op = make_op("op", kind, IMAGE, **attributes)
    options = {"ceil_mode": op.attributes["ceil"]}
    if kind == "max_pool2d":
        function = F.max_pool2d
    else:
        function, options["count_include_pad"] = F.avg_pool2d, op.attributes["count_include_pad"]
    return op, lambda w, x: function(x, *(op.attributes[key] for key in ("kernel", "stride", "padding")), **options)


def rms_norm(w, x):
    y = F.rms_norm(x, (8,), w.get("op.weight"), EPSILON["rms_norm"])
    return y + w["op.bias"] if "op.bias" in w else y


def batch_norm(w, x):
    return F.batch_norm(x, w["op.running_mean"], w["op.running_var"], w.get("op.weight"), w.get("op.bias"), eps=1e-5)


def relative(kind, layer, shape, **attributes):
    op = make_op("op", kind, Tensor("x", shape), features=4, reach=1, **attributes)

    def run(w, x):
        module = layer(4, 1)
        module.load_state_dict({name: w[f"op.{name}"] for name in ("vertical", "horizontal")})
        return module(x).detach()

    return op, run


CASES = {
    **{
        f"activation-{name}": (make_op("op", "activation", IMAGE, function=name), lambda w, x, f=function: f(x))
        for name, function in FUNCTIONS.items()
    },
    "add": (make_op("op", "add", (IMAGE, OTHER)), lambda w, x, y: x + y),
    "mul": (make_op("op", "mul", (IMAGE, Tensor("y", (6, 1, 1)))), lambda w, x, y: x * y),
    "batch_norm": (make_op("op", "batch_norm", IMAGE), batch_norm),
    "batch_norm-plain": (make_op("op", "batch_norm", IMAGE, affine=False), batch_norm),
    "channel_scale": (make_op("op", "channel_scale", IMAGE), lambda w, x: x * w["op.weight"].view(-1, 1, 1)),
    "conv_transpose2d": (
        make_op("op", "conv_transpose2d", IMAGE, out_channels=4, kernel=3, stride=2, padding=1, bias=True),
        lambda w, x: F.conv_transpose2d(x, w["op.weight"], w["op.bias"], stride=2, padding=1, output_padding=1),
    ),
    "scale": (make_op("op", "scale", IMAGE, factor=0.125), lambda w, x: x * 0.125),
    "channel_shuffle": (
        make_op("op", "channel_shuffle", IMAGE, groups=3),
        lambda w, x: F.channel_shuffle(x, 3),
    ),
    "concat": (make_op("op", "concat", (IMAGE, OTHER)), lambda w, x, y: torch.cat((x, y), 1)),
    "concat-last": (make_op("op", "concat", (IMAGE, OTHER), axis=-1), lambda w, x, y: torch.cat((x, y), -1)),
    "conv2d": conv("conv2d", IMAGE, out_channels=4, kernel=3, stride=2, padding=1, bias=True),
    "conv2d-depthwise": conv("conv2d", IMAGE, out_channels=6, kernel=5, padding=2, groups=6),
    "conv2d-dilated": conv("conv2d", IMAGE, out_channels=4, kernel=3, padding=2, dilation=2, groups=2),
    "conv1d": conv("conv1d", SEQUENCE, out_channels=3, kernel=3, padding=1, bias=True),
    "class_token": (
        make_op("op", "class_token", SEQUENCE),
        lambda w, x: torch.cat((w["op.weight"].expand(len(x), 1, 8), x), 1),
    ),
    "embedding-scaled": (
        make_op("op", "embedding", Tensor("x", (5,), "int64"), vocabulary=11, features=4, scale=2.5),
        lambda w, x: 2.5 * F.embedding(x, w["op.weight"]),
    ),
    "embedding-first-columns": (
        make_op("op", "embedding", Tensor("x", (5,), "int64"), vocabulary=11, features=4, columns=6),
        lambda w, x: F.embedding(x, w["op.weight"][:, :4]),
    ),
    "embedding": (
        make_op("op", "embedding", Tensor("x", (5,), "int64"), vocabulary=11, features=4),
        lambda w, x: F.embedding(x, w["op.weight"]),
    ),
    "global_avg_pool": (make_op("op", "global_avg_pool", IMAGE), lambda w, x: x.mean((2, 3))),
    "global_avg_pool-keep": (
        make_op("op", "global_avg_pool", SEQUENCE, keep_dims=True),
        lambda w, x: x.mean(2, keepdim=True),
    ),
    "layer_norm": (
        make_op("op", "layer_norm", SEQUENCE),
        lambda w, x: F.layer_norm(x, (8,), w["op.weight"], w["op.bias"]),
    ),
    "layer_norm-no-bias": (
        make_op("op", "layer_norm", SEQUENCE, bias=False),
        lambda w, x: F.layer_norm(x, (8,), w["op.weight"]),
    ),
    "layer_norm-plain": (make_op("op", "layer_norm", SEQUENCE, affine=False), lambda w, x: F.layer_norm(x, (8,))),
    "rms_norm": (make_op("op", "rms_norm", SEQUENCE), rms_norm),
    "rms_norm-bias": (make_op("op", "rms_norm", SEQUENCE, bias=True), rms_norm),
    "rms_norm-plain": (make_op("op", "rms_norm", SEQUENCE, affine=False), rms_norm),
    "linear": (
        make_op("op", "linear", VECTOR, out_features=3),
        lambda w, x: F.linear(x, w["op.weight"], w["op.bias"]),
    ),
    "linear-no-bias": (
        make_op("op", "linear", VECTOR, out_features=3, bias=False),
        lambda w, x: F.linear(x, w["op.weight"]),
    ),
    "linear-sequence": (
        make_op("op", "linear", SEQUENCE, out_features=3),
        lambda w, x: F.linear(x, w["op.weight"], w["op.bias"]),
    ),
    "linear-sequence-no-bias": (
        make_op("op", "linear", SEQUENCE, out_features=3, bias=False),
        lambda w, x: F.linear(x, w["op.weight"]),
    ),
    "matmul": (
        make_op("op", "matmul", (Tensor("x", (2, 5, 8)), Tensor("y", (2, 8, 3)))),
        lambda w, x, y: x @ y,
    ),
    "matmul-grouped": (
        make_op("op", "matmul", (Tensor("x", (2, 3, 5, 8)), Tensor("y", (2, 1, 8, 3))), scale=0.3),
        lambda w, x, y: 0.3 * x @ y,
    ),
    "position": (make_op("op", "position", SEQUENCE), lambda w, x: x + w["op.weight"]),
    "position-sinusoidal": (
        make_op("op", "position", SEQUENCE, function="sinusoidal"),
        lambda w, x: SinusoidalPosition()(x),
    ),
    "position-sinusoidal-first-columns": (
        make_op("op", "position", SEQUENCE, function="sinusoidal", columns=12),
        lambda w, x: SinusoidalPosition(12)(x),
    ),
    "relative_scores": relative("relative_scores", RelativeScores, (3, 10, 4), scale=0.5),
    "relative_values": relative("relative_values", RelativeValues, (3, 10, 10)),
    "rotary": (make_op("op", "rotary", Tensor("x", (2, 5, 8)), base=100.0), lambda w, x: rotate(x, 100.0)),
    "matmul-transposed": (
        make_op("op", "matmul", (Tensor("x", (2, 5, 8)), Tensor("y", (2, 3, 8))), transpose_b=True),
        lambda w, x, y: x @ y.transpose(-1, -2),
    ),
    "max_pool2d": pool("max_pool2d", kernel=3, stride=2, padding=1),
    "max_pool2d-ceil": pool("max_pool2d", kernel=2, stride=2, ceil=True),
    "avg_pool2d": pool("avg_pool2d", kernel=3, stride=2, padding=1),
    "avg_pool2d-valid": pool("avg_pool2d", kernel=3, stride=1, padding=1, count_include_pad=False),
    "avg_pool2d-ceil": pool("avg_pool2d", kernel=2, stride=2, ceil=True),
    "avg_pool2d-ceil-padded": pool("avg_pool2d", kernel=4, stride=3, padding=1, ceil=True),
    "avg_pool2d-ceil-valid": pool("avg_pool2d", kernel=4, stride=3, padding=1, ceil=True, count_include_pad=False),
    "avg_pool2d-rounded-down": pool("avg_pool2d", kernel=2, stride=2),
    "reshape": (make_op("op", "reshape", IMAGE, shape=(54, 7)), lambda w, x: x.reshape(-1, 54, 7)),
    "slice": (make_op("op", "slice", IMAGE, start=1, stop=4), lambda w, x: x[:, 1:4]),
    "softmax-causal": (
        make_op("op", "softmax", Tensor("x", (2, 5, 5)), causal=True),
        lambda w, x: x.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1),
    ),
    "statistics_pool": (
        make_op("op", "statistics_pool", (SEQUENCE, Tensor("y", (5, 8)))),
        lambda w, x, y: StatisticsPool()(x, y),
    ),
    "softmax": (make_op("op", "softmax", SEQUENCE), lambda w, x: x.softmax(-1)),
    "transpose": (make_op("op", "transpose", IMAGE, order=(1, 2, 0)), lambda w, x: x.permute(0, 2, 3, 1)),
}  # fmt: skip


def random_weights(op: Op, rng):
    weights = {f"{op.name}.{name}": rng.standard_normal(shape, dtype=np.float32) for name, shape in op.weights}
    if op.kind == "batch_norm":
        channels = op.output.shape[0]
        weights[f"{op.name}.running_mean"] = rng.standard_normal(channels, dtype=np.float32)
        weights[f"{op.name}.running_var"] = rng.random(channels, dtype=np.float32) + 0.5
    return weights


def run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("case", CASES)
def test_emitter_equals_torch(case, dynamic):
    op, expected = CASES[case]
    rng = np.random.default_rng(0)
    weights = random_weights(op, rng)
    feeds = {
        tensor.name: rng.integers(0, 11, (3, *tensor.shape))
        if tensor.dtype == "int64"
        else 3 * rng.standard_normal((3, *tensor.shape), dtype=np.float32)
        for tensor in op.inputs
    }
    got = run(onnx_model([op], weights, batch=3, dynamic_batch=dynamic), feeds)
    torch_weights = {name: torch.from_numpy(value) for name, value in weights.items()}
    want = expected(torch_weights, *(torch.from_numpy(value) for value in feeds.values())).numpy()
    assert got.shape == (3, *op.output.shape)
    np.testing.assert_allclose(got, want, atol=2e-5, rtol=1e-4)


def test_cases_cover_every_kind_and_activation():
    assert set(EMITTERS) == set(KINDS) == {op.kind for op, _ in CASES.values()}
    assert set(FUNCTIONS) == set(ACTIVATIONS)


def test_onnx_model_of_a_network_equals_its_module():
    space = spaces.get("mobilenet", "tiny")
    for genome in space.sample(3, np.random.default_rng(0)):
        architecture = space.decode(genome)
        network = space.network(architecture, seed=0)
        (x,) = space.example_inputs(5)
        network.train()(x)  # statistics that are not at rest
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        model = onnx_model(space.ops(architecture), state, batch=5)
        with torch.no_grad():
            want = network.eval()(x).numpy()
        np.testing.assert_allclose(run(model, {"image": x.numpy()}), want, atol=1e-5, rtol=1e-4)


def test_onnx_model_random_weights_keep_signals_alive_and_repeat():
    space = spaces.get("mobilenet", "digits")
    ops = space.ops(space.decode(space.largest()))
    feeds = {"image": space.example_inputs(1)[0].numpy()}
    first, again, other = (run(onnx_model(ops, seed=seed), feeds) for seed in (0, 0, 1))
    assert np.isfinite(first).all()
    assert np.abs(first).max() > 1e-3
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_onnx_model_of_one_site_has_its_input_and_output():
    space = spaces.get("mobilenet", "tiny")
    site = next(site for site in space.sites() if site.name == "stages.0.0")
    ops = site.build(tuple(0 for _ in site.genes))
    graph = onnx_model(ops).graph
    assert [value.name for value in graph.input] == ["stages.0.0.input"]
    assert [value.name for value in graph.output] == [ops[-1].output.name]


@pytest.mark.parametrize(
    ("ops", "weights", "message"),
    [
        ([], None, "got no Ops"),
        ([CASES["linear"][0]], {}, "weight 'op.weight' is missing"),
        ([CASES["linear"][0]], {"op.weight": np.zeros((3, 9))}, r"shape \(3, 9\); its Op needs \(3, 8\)"),
        ([make_op("op", "activation", IMAGE, function="mish")], None, "'mish' has no ONNX form; allowed: .*silu"),
    ],
)
def test_onnx_model_wrong_input_is_refused(ops, weights, message):
    with pytest.raises(SpaceError, match=message):
        onnx_model(ops, weights)
