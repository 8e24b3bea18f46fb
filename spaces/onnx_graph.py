"""ONNX models straight from Ops: one small emitter per kind, no tracing.

Measuring needs thousands of small graphs whose Ops are known exactly, and an exported network must not depend on what a
tracer makes of it. The same emitters serve both: with random weights for measuring, with a `state_dict` for export.
`onnx` is imported only when a model is built. The module is long because it is a list: one emitter for every kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import SpaceError
from .op import Op, Shape, Tensor
from .position import relative_rows, rotary_table, sinusoid_table

if TYPE_CHECKING:
    import onnx

__all__ = ["EPSILON", "IR_VERSION", "OPSET", "onnx_model", "random_weights"]

OPSET: Final = 20
"""Operator set of the models; with `IR_VERSION`, one that ONNX Runtime loads from version 1.17 on."""

IR_VERSION: Final = 9

EPSILON: Final[Mapping[str, float]] = MappingProxyType(
    {"batch_norm": 1e-5, "layer_norm": 1e-5, "rms_norm": 1e-6, "statistics_pool": 1e-9}
)
"""What normalisations add to the variance; the layers of every family use the same."""

BATCH: Final = "batch"
"""Name of the symbolic batch dimension."""

Weights = Mapping[str, NDArray[Any]]


def onnx_model(
    ops: Sequence[Op], weights: Weights | None = None, *, batch: int = 1, dynamic_batch: bool = False, seed: int = 0
) -> onnx.ModelProto:
    """Build the ONNX model that performs `ops`.

    The tensors that are read but not written are its inputs, those that are written but not read its outputs, in order
    of appearance and under their own names.

    Args:
        ops: in execution order; at least one.
        weights: by name as in the network's `state_dict` (``stem.conv.weight``, ``stem.norm.running_var``); None =
            random ones (He's scale, norms at rest), for measuring.
        batch: samples per run.
        dynamic_batch: leave the batch free instead.
        seed: of the random weights.

    Returns:
        A checked model in float32.

    Raises:
        SpaceError: no Ops, a weight that is missing or of the wrong shape, or an attribute that ONNX cannot express.

    >>> from archsmith.spaces.op import Tensor, make_op
    >>> relu = make_op("relu", "activation", Tensor("x", (4, 8, 8)), function="relu")
    >>> [node.op_type for node in onnx_model([relu]).graph.node]
    ['Relu']
    """
    import onnx
    from onnx import TensorProto, helper

    if not ops:
        raise SpaceError("onnx_model: got no Ops; a graph needs at least one.")
    graph = _Graph(random_weights(ops, seed) if weights is None else weights)
    for op in ops:
        EMITTERS[op.kind](graph, op)
    written = {op.output.name for op in ops}
    read = {tensor.name: tensor for op in ops for tensor in op.inputs}
    inputs = [tensor for name, tensor in read.items() if name not in written]
    outputs = [op.output for op in ops if op.output.name not in read]
    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}

    def value(tensor: Tensor) -> onnx.ValueInfoProto:
        dims = [BATCH if dynamic_batch else batch, *tensor.shape]
        return helper.make_tensor_value_info(tensor.name, types[tensor.dtype], dims)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "archsmith", [value(t) for t in inputs], [value(t) for t in outputs], graph.constants
        ),
        producer_name="archsmith",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model


def random_weights(ops: Sequence[Op], seed: int) -> dict[str, NDArray[np.float32]]:
    """He-scaled matrices, norms with scale 1, shift 0, mean 0 and variance 1, and zero biases."""
    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    for op in ops:
        norm = op.kind in EPSILON
        for name, shape in op.weights:
            if name == "bias":
                values = np.zeros(shape, dtype=np.float32)
            elif norm:
                values = np.ones(shape, dtype=np.float32)
            else:
                scale = math.sqrt(2.0 / math.prod(shape[1:]))
                values = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
            weights[f"{op.name}.{name}"] = values
        if tied := op.attributes.get("tied"):  # the Op that owns the weight need not be among these
            shape = _tied_shape(op)
            values = rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(1.0 / shape[1]))
            weights.setdefault(f"{tied}.weight", values)
        if op.kind == "batch_norm":
            weights[f"{op.name}.running_mean"] = np.zeros(op.output.shape[0], dtype=np.float32)
            weights[f"{op.name}.running_var"] = np.ones(op.output.shape[0], dtype=np.float32)
    return weights


def _tied_shape(op: Op) -> tuple[int, int]:
    """[tokens, features] of the table, owned by another Op, of which `op` reads the first features."""
    if op.kind == "embedding":
        return _integer(op, "vocabulary"), _integer(op, "features")
    return op.output.shape[-1], op.inputs[0].shape[-1]


class _Graph:
    """Nodes and constants under construction."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._weights = weights
        self._shared: set[str] = set()

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Append a constant; returns its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def shared(self, name: str, values: Callable[[], NDArray[Any]]) -> str:
        """Append a constant that several Ops read, once; returns its name."""
        if name not in self._shared:
            self._shared.add(name)
            self.constant(name, values())
        return name

    def weight(self, op: Op, name: str, shape: Shape, *, transposed: bool = False) -> str:
        """Append a weight of `op`; raises SpaceError where it is missing or of another shape."""
        return self.constant(f"{op.name}.{name}", self.values(f"{op.name}.{name}", shape, transposed=transposed))

    def values(self, full: str, shape: Shape, *, transposed: bool = False) -> NDArray[np.float32]:
        """The weight called `full`; raises SpaceError where it is missing or of another shape."""
        if full not in self._weights:
            raise SpaceError(
                f"onnx_model: weight {full!r} is missing; pass the state_dict of the network of these Ops."
            )
        values = np.asarray(self._weights[full], dtype=np.float32)
        if values.shape != shape:
            raise SpaceError(f"onnx_model: weight {full!r} has shape {values.shape}; its Op needs {shape}.")
        return values.T if transposed else values

    def tied(self, op: Op, *, transposed: bool = False) -> NDArray[np.float32]:
        """The first features of the table that `op` shares with the Op that owns it."""
        full, (tokens, features) = f"{op.attributes['tied']}.weight", _tied_shape(op)
        columns = np.shape(self._weights.get(full, ()))[-1:]
        if columns and columns[0] < features:
            raise SpaceError(f"onnx_model: weight {full!r} has {columns[0]} columns; Op {op.name!r} reads {features}.")
        values = self.values(full, (tokens, *columns))[:, :features]
        return values.T if transposed else values

    def weights(self, op: Op) -> list[str]:
        """Append all learned weights of `op`, in their order."""
        return [self.weight(op, name, shape) for name, shape in op.weights]


# --- the emitters: each appends what performs `op`, with the Op's input and output names ---------------------------

_ACTIVATIONS: Final[Mapping[str, tuple[str, Mapping[str, float]]]] = MappingProxyType({
    "gelu": ("Gelu", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}),
    "hard_swish": ("HardSwish", {}),
    "relu": ("Relu", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
})  # fmt: skip


def _names(op: Op) -> list[str]:
    return [tensor.name for tensor in op.inputs]


def _integer(op: Op, key: str) -> int:
    value = op.attributes[key]
    assert isinstance(value, int)
    return value


def _plain(kind: str) -> Callable[[_Graph, Op], None]:
    """An emitter of one node without attributes."""

    def emit(graph: _Graph, op: Op) -> None:
        graph.node(kind, _names(op), op.output.name)

    return emit


def _activation(graph: _Graph, op: Op) -> None:
    function, source = str(op.attributes["function"]), op.inputs[0].name
    if function == "silu":
        gate = graph.node("Sigmoid", [source], f"{op.name}/gate")
        graph.node("Mul", [source, gate], op.output.name)
    elif function == "relu6":
        bounds = [graph.constant(f"{op.name}/{bound:g}", np.array(bound, dtype=np.float32)) for bound in (0.0, 6.0)]
        graph.node("Clip", [source, *bounds], op.output.name)
    elif function in _ACTIVATIONS:
        kind, attributes = _ACTIVATIONS[function]
        graph.node(kind, [source], op.output.name, **attributes)
    else:
        allowed = ", ".join(sorted({*_ACTIVATIONS, "relu6", "silu"}))
        raise SpaceError(f"Op {op.name!r}: activation {function!r} has no ONNX form; allowed: {allowed}.")


def _batch_norm(graph: _Graph, op: Op) -> None:
    channels = op.output.shape[:1]
    if op.attributes["affine"]:
        affine = graph.weights(op)
    else:
        ones, zeros = np.ones(channels, dtype=np.float32), np.zeros(channels, dtype=np.float32)
        affine = [graph.constant(f"{op.name}/scale", ones), graph.constant(f"{op.name}/shift", zeros)]
    statistics = [graph.weight(op, name, channels) for name in ("running_mean", "running_var")]
    inputs = [*_names(op), *affine, *statistics]
    graph.node("BatchNormalization", inputs, op.output.name, epsilon=EPSILON["batch_norm"])


def _layer_norm(graph: _Graph, op: Op) -> None:
    size = op.output.shape[-1:]
    scale = graph.weights(op) or [graph.constant(f"{op.name}/scale", np.ones(size, dtype=np.float32))]
    graph.node("LayerNormalization", [*_names(op), *scale], op.output.name, axis=-1, epsilon=EPSILON["layer_norm"])


def _rms_norm(graph: _Graph, op: Op) -> None:
    source, affine = op.inputs[0].name, graph.weights(op)
    axis = graph.constant(f"{op.name}/axis", np.array([-1], dtype=np.int64))
    epsilon = graph.constant(f"{op.name}/epsilon", np.array(EPSILON["rms_norm"], dtype=np.float32))
    square = graph.node("Mul", [source, source], f"{op.name}/square")
    mean = graph.node("ReduceMean", [square, axis], f"{op.name}/mean", keepdims=1)
    shifted = graph.node("Add", [mean, epsilon], f"{op.name}/shifted")
    root = graph.node("Sqrt", [shifted], f"{op.name}/root")
    # The last node of the chain writes the Op's output, however many weights follow.
    chain = [("Div", root), *zip(("Mul", "Add"), affine, strict=False)]
    for position, (kind, operand) in enumerate(chain, start=1):
        output = op.output.name if position == len(chain) else f"{op.name}/{kind.lower()}"
        source = graph.node(kind, [source, operand], output)


def _conv(graph: _Graph, op: Op) -> None:
    axes = len(op.inputs[0].shape) - 1
    padding = _integer(op, "padding")
    graph.node(
        "Conv",
        [*_names(op), *graph.weights(op)],
        op.output.name,
        kernel_shape=[_integer(op, "kernel")] * axes,
        strides=[_integer(op, "stride")] * axes,
        dilations=[_integer(op, "dilation")] * axes,
        pads=[padding] * (2 * axes),
        group=_integer(op, "groups"),
    )


def _linear(graph: _Graph, op: Op) -> None:
    if op.attributes["tied"]:
        weight = graph.constant(f"{op.name}/weight", graph.tied(op, transposed=True))
        graph.node("MatMul", [*_names(op), weight], op.output.name)
        return
    if len(op.inputs[0].shape) == 1:
        graph.node("Gemm", [*_names(op), *graph.weights(op)], op.output.name, transB=1)
        return
    (name, shape), *bias = op.weights
    weight = graph.weight(op, name, shape, transposed=True)
    product = graph.node("MatMul", [*_names(op), weight], f"{op.name}/product" if bias else op.output.name)
    if bias:
        graph.node("Add", [product, graph.weight(op, *bias[0])], op.output.name)


def _matmul(graph: _Graph, op: Op) -> None:
    left, right = _names(op)
    if op.attributes["transpose_b"]:
        rank = len(op.inputs[1].shape) + 1
        order = [*range(rank - 2), rank - 1, rank - 2]
        right = graph.node("Transpose", [right], f"{op.name}/transposed", perm=order)
    _scaled(graph, op, lambda output: graph.node("MatMul", [left, right], output))


def _embedding(graph: _Graph, op: Op) -> None:
    if op.attributes["tied"]:
        table = graph.constant(f"{op.name}/weight", graph.tied(op))
    else:
        (name, shape), features = op.weights[0], _integer(op, "features")
        table = graph.constant(f"{op.name}.{name}", graph.values(f"{op.name}.{name}", shape)[:, :features])
    _scaled(graph, op, lambda output: graph.node("Gather", [table, *_names(op)], output, axis=0))


def _scaled(graph: _Graph, op: Op, emit: Callable[[str], str]) -> None:
    """What `emit` writes, times the Op's attribute `scale`."""
    scale = op.attributes["scale"]
    if scale == 1.0:
        emit(op.output.name)
        return
    factor = graph.constant(f"{op.name}/scale", np.array(scale, dtype=np.float32))
    graph.node("Mul", [emit(f"{op.name}/unscaled"), factor], op.output.name)


def _conv_transpose(graph: _Graph, op: Op) -> None:
    axes, stride, padding = len(op.inputs[0].shape) - 1, _integer(op, "stride"), _integer(op, "padding")
    graph.node(
        "ConvTranspose",
        [*_names(op), *graph.weights(op)],
        op.output.name,
        kernel_shape=[_integer(op, "kernel")] * axes,
        strides=[stride] * axes,
        pads=[padding] * (2 * axes),
        output_padding=[stride - 1] * axes,
    )


def _class_token(graph: _Graph, op: Op) -> None:
    # The token takes the batch of the sequence: the first position times zero, plus the weight.
    source, (name, shape) = op.inputs[0].name, op.weights[0]
    bounds = [graph.constant(f"{op.name}/bound{index}", np.array([value])) for index, value in enumerate((0, 1, 1))]
    first = graph.node("Slice", [source, *bounds], f"{op.name}/first")
    blank = graph.node("Mul", [first, graph.constant(f"{op.name}/zero", np.zeros((), np.float32))], f"{op.name}/blank")
    token = graph.node("Add", [blank, graph.weight(op, name, shape)], f"{op.name}/token")
    graph.node("Concat", [token, source], op.output.name, axis=1)


def _position(graph: _Graph, op: Op) -> None:
    if op.attributes["function"] == "learned":
        (table,) = graph.weights(op)
    else:
        length, features = op.output.shape
        sines = sinusoid_table(length, _integer(op, "columns") or features)
        table = graph.constant(f"{op.name}/table", sines[:, :features])
    graph.node("Add", [*_names(op), table], op.output.name)


def _rotary(graph: _Graph, op: Op) -> None:
    source, (length, features) = op.inputs[0].name, op.output.shape[-2:]
    base = op.attributes["base"]
    assert isinstance(base, float)
    cosine, sine = rotary_table(length, features, base)
    axis = graph.constant(f"{op.name}/axis", np.array([-1]))
    marks = [graph.constant(f"{op.name}/{mark}", np.array([mark])) for mark in (0, features // 2, features)]
    left, right = (
        graph.node("Slice", [source, *marks[part : part + 2], axis], f"{op.name}/half{part}") for part in (0, 1)
    )
    turned = graph.node("Concat", [graph.node("Neg", [right], f"{op.name}/neg"), left], f"{op.name}/turned", axis=-1)
    along = graph.node("Mul", [source, graph.constant(f"{op.name}/cosine", cosine)], f"{op.name}/along")
    across = graph.node("Mul", [turned, graph.constant(f"{op.name}/sine", sine)], f"{op.name}/across")
    graph.node("Add", [along, across], op.output.name)


def _relative(graph: _Graph, op: Op) -> None:
    """A product over pairs of tokens with the features of their distances: [B, heads, T, .] times [T, ., .]."""
    tokens, reach, scores = op.inputs[0].shape[1], _integer(op, "reach"), op.kind == "relative_scores"
    parts = []
    for axis, ((name, shape), rows) in enumerate(zip(op.weights, relative_rows(tokens, reach), strict=True)):
        # The same rows for every layer: they outweigh the tables.
        places = graph.shared(f"relative/{tokens}/{reach}/{axis}", lambda rows=rows: rows)
        parts.append(graph.node("Gather", [graph.weight(op, name, shape), places], f"{op.name}/{name}", axis=0))
    pairs = graph.node("Add", parts, f"{op.name}/pairs")
    if scores:
        factor = graph.constant(f"{op.name}/scale", np.array(op.attributes["scale"], dtype=np.float32))
        pairs = graph.node("Transpose", [graph.node("Mul", [pairs, factor], f"{op.name}/scaled")], f"{op.name}/turned",
                           perm=[0, 2, 1])  # fmt: skip
    rows_first = graph.node("Transpose", _names(op), f"{op.name}/rows_first", perm=[0, 2, 1, 3])
    product = graph.node("MatMul", [rows_first, pairs], f"{op.name}/product")
    graph.node("Transpose", [product], op.output.name, perm=[0, 2, 1, 3])


def _statistics_pool(graph: _Graph, op: Op) -> None:
    source, weights = _names(op)
    axis = graph.constant(f"{op.name}/axis", np.array([-1]))
    weighted = graph.node("Mul", [source, weights], f"{op.name}/weighted")
    mean = graph.node("ReduceSum", [weighted, axis], f"{op.name}/mean", keepdims=0)
    centred = graph.node("Sub", [source, graph.node("Unsqueeze", [mean, axis], f"{op.name}/centre")], f"{op.name}/off")
    square = graph.node("Mul", [centred, centred], f"{op.name}/square")
    spread = graph.node("Mul", [square, weights], f"{op.name}/spread")
    variance = graph.node("ReduceSum", [spread, axis], f"{op.name}/variance", keepdims=0)
    floor = graph.constant(f"{op.name}/floor", np.array(EPSILON["statistics_pool"], dtype=np.float32))
    deviation = graph.node("Sqrt", [graph.node("Max", [variance, floor], f"{op.name}/kept")], f"{op.name}/deviation")
    graph.node("Concat", [mean, deviation], op.output.name, axis=1)


def _global_avg_pool(graph: _Graph, op: Op) -> None:
    keep = bool(op.attributes["keep_dims"])
    mean = graph.node("GlobalAveragePool", _names(op), op.output.name if keep else f"{op.name}/mean")
    if not keep:
        graph.node("Flatten", [mean], op.output.name, axis=1)


def _end_padding(op: Op) -> list[int]:
    """Padding after the last position of each axis, so that a window count rounded down gives the Op's output size."""
    kernel, stride, padding = (_integer(op, key) for key in ("kernel", "stride", "padding"))
    pairs = zip(op.inputs[0].shape[1:], op.output.shape[1:], strict=True)
    return [max((after - 1) * stride + kernel - size - padding, padding) for size, after in pairs]


def _max_pool(graph: _Graph, op: Op) -> None:
    kernel, stride, padding = (_integer(op, key) for key in ("kernel", "stride", "padding"))
    pads = [padding, padding, *_end_padding(op)]
    graph.node("MaxPool", _names(op), op.output.name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)


def _avg_pool(graph: _Graph, op: Op) -> None:
    kernel, stride, padding = (_integer(op, key) for key in ("kernel", "stride", "padding"))
    end, source = _end_padding(op), op.inputs[0].name
    pads, counted = [padding, padding, *end], bool(op.attributes["count_include_pad"])
    if counted and any(size > padding for size in end):
        # torch counts the declared padding but not what a last partial window lacks; ONNX counts both or none. Padding
        # written out as zeros is counted, padding left to the pooling is not.
        amounts = np.array([0, 0, padding, padding] * 2, dtype=np.int64)
        source = graph.node("Pad", [source, graph.constant(f"{op.name}/pads", amounts)], f"{op.name}/padded")
        pads, counted = [0, 0, *(size - padding for size in end)], False
    graph.node(
        "AveragePool",
        [source],
        op.output.name,
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=pads,
        count_include_pad=int(counted),
    )


def _axis(axis: int) -> int:
    """An axis of a batchless shape as one with the batch in front."""
    return axis + 1 if axis >= 0 else axis


def _concat(graph: _Graph, op: Op) -> None:
    graph.node("Concat", _names(op), op.output.name, axis=_axis(_integer(op, "axis")))


def _slice(graph: _Graph, op: Op) -> None:
    bounds = {"starts": _integer(op, "start"), "ends": _integer(op, "stop"), "axes": _axis(_integer(op, "axis"))}
    constants = [graph.constant(f"{op.name}/{name}", np.array([value])) for name, value in bounds.items()]
    graph.node("Slice", [*_names(op), *constants], op.output.name)


def _softmax(graph: _Graph, op: Op) -> None:
    source = op.inputs[0].name
    if op.attributes["causal"]:
        hidden = np.triu(np.full(op.output.shape[-2:], -np.inf, dtype=np.float32), k=1)
        source = graph.node("Add", [source, graph.constant(f"{op.name}/hidden", hidden)], f"{op.name}/masked")
    graph.node("Softmax", [source], op.output.name, axis=-1)


def _reshaped(graph: _Graph, source: str, shape: Sequence[int], output: str) -> str:
    """Reshape to [batch, *shape]; the 0 copies the batch."""
    dims = graph.constant(f"{output}/shape", np.array([0, *shape], dtype=np.int64))
    return graph.node("Reshape", [source, dims], output)


def _reshape(graph: _Graph, op: Op) -> None:
    _reshaped(graph, op.inputs[0].name, op.output.shape, op.output.name)


def _transpose(graph: _Graph, op: Op) -> None:
    order = op.attributes["order"]
    assert isinstance(order, tuple)
    graph.node("Transpose", _names(op), op.output.name, perm=[0, *(_axis(axis) for axis in order)])


def _scale(graph: _Graph, op: Op) -> None:
    factor = op.attributes["factor"]
    assert isinstance(factor, int | float)
    constant = graph.constant(f"{op.name}/factor", np.array(factor, dtype=np.float32))
    graph.node("Mul", [*_names(op), constant], op.output.name)


def _channel_scale(graph: _Graph, op: Op) -> None:
    ((name, shape),) = op.weights
    weight = graph.weight(op, name, shape)
    axes = graph.constant(f"{op.name}/shape", np.array([1, *shape, *(1 for _ in op.output.shape[1:])], dtype=np.int64))
    column = graph.node("Reshape", [weight, axes], f"{op.name}/column")
    graph.node("Mul", [*_names(op), column], op.output.name)


def _channel_shuffle(graph: _Graph, op: Op) -> None:
    channels, *space = op.output.shape
    groups = _integer(op, "groups")
    split = _reshaped(graph, op.inputs[0].name, [groups, channels // groups, *space], f"{op.name}/split")
    order = [0, 2, 1, *range(3, 3 + len(space))]
    mixed = graph.node("Transpose", [split], f"{op.name}/mixed", perm=order)
    _reshaped(graph, mixed, op.output.shape, op.output.name)


EMITTERS: Final[Mapping[str, Callable[[_Graph, Op], None]]] = MappingProxyType(
    {
        "activation": _activation,
        "add": _plain("Add"),
        "avg_pool2d": _avg_pool,
        "batch_norm": _batch_norm,
        "channel_scale": _channel_scale,
        "channel_shuffle": _channel_shuffle,
        "concat": _concat,
        "conv1d": _conv,
        "conv2d": _conv,
        "conv_transpose2d": _conv_transpose,
        "class_token": _class_token,
        "embedding": _embedding,
        "global_avg_pool": _global_avg_pool,
        "layer_norm": _layer_norm,
        "linear": _linear,
        "matmul": _matmul,
        "max_pool2d": _max_pool,
        "mul": _plain("Mul"),
        "position": _position,
        "relative_scores": _relative,
        "relative_values": _relative,
        "reshape": _reshape,
        "rms_norm": _rms_norm,
        "scale": _scale,
        "rotary": _rotary,
        "slice": _slice,
        "softmax": _softmax,
        "statistics_pool": _statistics_pool,
        "transpose": _transpose,
    }
)
"""One emitter per kind of Op; a test requires the same names as `op.KINDS`."""
