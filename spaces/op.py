"""Ops: what a network computes, one operator at a time, with exact cost.

An `Op` is the common currency of the house: spaces emit them, `export` turns them into ONNX graphs, hardware models
cost them. Shapes leave the batch out: an image is ``(C, H, W)``, a sequence ``(T, C)``, a vector ``(C,)``. All costs
are per sample at batch 1. `Op.macs` counts convolutions, linear layers and attention products only, as
`torch.utils.flop_counter` does (halved); 1 MAC = 2 FLOPs.

An Op's `name` is the path of the module that performs it inside the built network (``"stages.0.1.depthwise.conv"``),
so ``state_dict()[f"{op.name}.{weight}"]`` are its weights and a forward hook on that module sees its output shape. Ops
that no module performs (a residual `add`) carry a name of the same style that no module has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..errors import SpaceError

__all__ = [
    "ACTIVATIONS",
    "KINDS",
    "Attribute",
    "KindRule",
    "Op",
    "Shape",
    "Signature",
    "Tensor",
    "make_op",
    "op_signature",
    "total_macs",
    "total_params",
]

Shape = tuple[int, ...]
Attribute = int | float | str | bool | tuple[int, ...]
Signature = tuple[object, ...]

ACTIVATIONS: Final = frozenset({"relu", "relu6", "hard_swish", "hard_sigmoid", "silu", "gelu", "sigmoid", "tanh"})
"""Values that the attribute `function` of an `activation` Op may take."""

BYTES_PER_ELEMENT: Final = {"float32": 4, "int64": 8}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named activation; `shape` leaves the batch out, `dtype` is float32 unless it holds indices (int64)."""

    name: str
    shape: Shape
    dtype: str = "float32"

    @property
    def numel(self) -> int:
        """Number of elements per sample."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size per sample in bytes, at this tensor's own data type."""
        return self.numel * BYTES_PER_ELEMENT[self.dtype]


@dataclass(frozen=True, slots=True)
class Op:
    """One operator: its kind, the tensors it reads, the tensor it writes, and its attributes.

    Build one with `make_op`, which infers the output shape and rejects attributes that the kind does not know.
    """

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    attributes: Mapping[str, Attribute]

    @property
    def weights(self) -> tuple[tuple[str, Shape], ...]:
        """Learned tensors as (name, shape), named as in the module's `state_dict`."""
        return KINDS[self.kind].weights(self.inputs, self.attributes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample: convolutions, linear layers and matrix products only."""
        return KINDS[self.kind].macs(self.inputs, self.output, self.attributes)

    @property
    def params(self) -> int:
        """Number of learned parameters (batch-norm statistics are buffers and do not count)."""
        return sum(math.prod(shape) for _, shape in self.weights)

    @property
    def input_bytes(self) -> int:
        """Bytes of the activations read."""
        return sum(tensor.bytes for tensor in self.inputs)

    @property
    def output_bytes(self) -> int:
        """Bytes of the activation written."""
        return self.output.bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of the parameters that it owns, at float32: what storing it takes. They sum up over a network."""
        return 4 * self.params

    @property
    def weight_bytes_read(self) -> int:
        """Bytes of parameters that one sample reads, at float32: what computing it moves.

        Where the weight is tied to that of another Op, it is read all the same; of a table of tokens only the rows that
        are looked up are read.
        """
        reads = KINDS[self.kind].reads
        return self.weight_bytes if reads is None else 4 * reads(self.inputs, self.output, self.attributes)


@dataclass(frozen=True, slots=True)
class KindRule:
    """How one kind of Op infers its output shape, weights and MACs from inputs and attributes.

    `defaults` lists every attribute the kind knows; a default of None marks a required one.
    """

    defaults: Mapping[str, Attribute | None]
    shape: Callable[[tuple[Tensor, ...], Mapping[str, Attribute]], Shape]
    weights: Callable[[tuple[Tensor, ...], Mapping[str, Attribute]], tuple[tuple[str, Shape], ...]]
    macs: Callable[[tuple[Tensor, ...], Tensor, Mapping[str, Attribute]], int]
    inputs: int = 1
    """How many tensors it reads; 0 means any number from one up."""
    reads: Callable[[tuple[Tensor, ...], Tensor, Mapping[str, Attribute]], int] | None = None
    """How many elements of weights one sample reads; None = all that the Op owns."""


def make_op(name: str, kind: str, inputs: Tensor | tuple[Tensor, ...], **attributes: Attribute) -> Op:
    """Build an Op, inferring its output tensor (which takes the Op's name).

    Args:
        name: module path in the built network; unique within it.
        kind: a key of `KINDS`.
        inputs: the tensors it reads.
        **attributes: the kind's attributes; those left out take the kind's defaults.

    Raises:
        SpaceError: unknown kind or attribute, a required attribute left out, or inputs that do not fit.

    >>> conv = make_op("stem.conv", "conv2d", Tensor("image", (1, 8, 8)), out_channels=4, kernel=3, padding=1)
    >>> conv.output.shape, conv.macs, conv.params
    ((4, 8, 8), 2304, 36)
    """
    tensors = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    rule = KINDS.get(kind)
    if rule is None:
        raise SpaceError(f"Op {name!r}: kind {kind!r} is unknown; allowed: {', '.join(sorted(KINDS))}.")
    if unknown := sorted(set(attributes) - set(rule.defaults)):
        known = ", ".join(sorted(rule.defaults)) or "none"
        raise SpaceError(f"Op {name!r} of kind {kind!r}: unknown attributes {unknown}; allowed: {known}.")
    if rule.inputs and len(tensors) != rule.inputs:
        raise SpaceError(f"Op {name!r} of kind {kind!r}: got {len(tensors)} inputs; it reads {rule.inputs}.")
    complete: dict[str, Attribute] = {}
    for key, default in rule.defaults.items():
        value = attributes.get(key, default)
        if value is None:
            raise SpaceError(f"Op {name!r} of kind {kind!r}: attribute {key!r} is required.")
        complete[key] = value
    shape = rule.shape(tensors, complete)
    if any(size < 1 for size in shape):
        raise SpaceError(
            f"Op {name!r} of kind {kind!r}: input {tensors[0].shape} leaves an output of {shape}; "
            "every size must be at least 1: use a larger input or smaller strides."
        )
    return Op(name, kind, tensors, Tensor(name, shape), MappingProxyType(complete))


def op_signature(ops: tuple[Op, ...]) -> Signature:
    """What a chain of Ops computes, without names: equal signatures cost the same on every device.

    Tensor names are replaced by the order of their first appearance, so wiring is part of the signature.
    """
    order: dict[str, int] = {}

    def number(tensor: Tensor) -> tuple[int, Shape, str]:
        return order.setdefault(tensor.name, len(order)), tensor.shape, tensor.dtype

    return tuple(
        (op.kind, tuple(number(t) for t in op.inputs), number(op.output), tuple(sorted(op.attributes.items())))
        for op in ops
    )


def total_macs(ops: tuple[Op, ...]) -> int:
    """Sum of the MACs of the Ops, per sample."""
    return sum(op.macs for op in ops)


def total_params(ops: tuple[Op, ...]) -> int:
    """Sum of the parameters of the Ops."""
    return sum(op.params for op in ops)


# --- the kinds ------------------------------------------------------------------------------------------------------

_Inputs = tuple[Tensor, ...]
_Attributes = Mapping[str, Attribute]


def _int(attributes: _Attributes, key: str) -> int:
    value = attributes[key]
    if not isinstance(value, int):
        raise SpaceError(f"attribute {key!r}: got {value!r}; it must be an integer.")
    return value


def _ints(attributes: _Attributes, key: str) -> tuple[int, ...]:
    value = attributes[key]
    if not isinstance(value, tuple):
        raise SpaceError(f"attribute {key!r}: got {value!r}; it must be a tuple of integers.")
    return value


def _no_weights(_inputs: _Inputs, _attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    return ()


def _no_macs(_inputs: _Inputs, _output: Tensor, _attributes: _Attributes) -> int:
    return 0


def _same(inputs: _Inputs, _attributes: _Attributes) -> Shape:
    return inputs[0].shape


def _window(size: int, attributes: _Attributes) -> int:
    """Output length of a sliding window; `ceil` keeps a last partial window as torch's ceil_mode does."""
    kernel, stride, padding = (_int(attributes, key) for key in ("kernel", "stride", "padding"))
    dilation = int(attributes.get("dilation", 1))  # type: ignore[arg-type]  # pooling has no dilation
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if attributes.get("ceil", False):
        length = -(-span // stride) + 1
        return length - 1 if (length - 1) * stride >= size + padding else length
    return span // stride + 1


def _conv_shape(inputs: _Inputs, attributes: _Attributes) -> Shape:
    channels, *space = inputs[0].shape
    out, groups = _int(attributes, "out_channels"), _int(attributes, "groups")
    if channels % groups or out % groups:
        raise SpaceError(
            f"convolution: {channels} input and {out} output channels must both divide by groups {groups}."
        )
    return (out, *(_window(size, attributes) for size in space))


def _conv_weights(inputs: _Inputs, attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    channels, *space = inputs[0].shape
    out, groups, kernel = (_int(attributes, key) for key in ("out_channels", "groups", "kernel"))
    weight = ("weight", (out, channels // groups, *(kernel for _ in space)))
    return (weight, ("bias", (out,))) if attributes["bias"] else (weight,)


def _conv_transpose_shape(inputs: _Inputs, attributes: _Attributes) -> Shape:
    """The stride multiplies the size exactly where the padding is half the kernel (output padding: stride - 1)."""
    kernel, stride, padding = (_int(attributes, key) for key in ("kernel", "stride", "padding"))
    _, *space = inputs[0].shape
    grown = ((size - 1) * stride - 2 * padding + kernel + stride - 1 for size in space)
    return (_int(attributes, "out_channels"), *grown)


def _conv_transpose_weights(inputs: _Inputs, attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    channels, *space = inputs[0].shape
    out, kernel = _int(attributes, "out_channels"), _int(attributes, "kernel")
    weight = ("weight", (channels, out, *(kernel for _ in space)))
    return (weight, ("bias", (out,))) if attributes["bias"] else (weight,)


def _conv_transpose_macs(inputs: _Inputs, _output: Tensor, attributes: _Attributes) -> int:
    _, *space = inputs[0].shape
    return inputs[0].numel * _int(attributes, "out_channels") * _int(attributes, "kernel") ** len(space)


def _conv_macs(inputs: _Inputs, output: Tensor, attributes: _Attributes) -> int:
    channels, *space = inputs[0].shape
    kernel, groups = _int(attributes, "kernel"), _int(attributes, "groups")
    return output.numel * (channels // groups) * kernel ** len(space)


def _linear_weights(inputs: _Inputs, attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    out = _int(attributes, "out_features")
    if attributes["tied"]:  # its weight belongs to another Op
        return ()
    weight = ("weight", (out, inputs[0].shape[-1]))
    return (weight, ("bias", (out,))) if attributes["bias"] else (weight,)


def _linear_macs(inputs: _Inputs, output: Tensor, _attributes: _Attributes) -> int:
    return output.numel * inputs[0].shape[-1]


def _linear_reads(inputs: _Inputs, output: Tensor, attributes: _Attributes) -> int:
    out = output.shape[-1]
    return out * inputs[0].shape[-1] + (out if attributes["bias"] else 0)


def _embedding_weights(_inputs: _Inputs, attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    vocabulary, features, columns = (_int(attributes, key) for key in ("vocabulary", "features", "columns"))
    return () if attributes["tied"] else (("weight", (vocabulary, columns or features)),)


def _relative_weights(inputs: _Inputs, attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    shape = (2 * _int(attributes, "reach") + 2, _int(attributes, "features"))
    return ("vertical", shape), ("horizontal", shape)


def _relative_macs(inputs: _Inputs, _output: Tensor, attributes: _Attributes) -> int:
    heads, tokens, _ = inputs[0].shape
    return heads * tokens * tokens * _int(attributes, "features")


def _matmul_shape(inputs: _Inputs, attributes: _Attributes) -> Shape:
    left, right = inputs[0].shape, inputs[1].shape
    inner, columns = (right[-1], right[-2]) if attributes["transpose_b"] else (right[-2], right[-1])
    if left[-1] != inner:
        raise SpaceError(f"matmul: {left} and {right} do not fit (inner sizes {left[-1]} and {inner}).")
    return (*left[:-1], columns)


def _norm_weights(inputs: _Inputs, attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    size = inputs[0].shape[0 if attributes.get("channels_first", False) else -1]
    if not attributes["affine"]:
        return ()
    weight = ("weight", (size,))
    return (weight, ("bias", (size,))) if attributes.get("bias", True) else (weight,)


def _channel_norm_weights(inputs: _Inputs, attributes: _Attributes) -> tuple[tuple[str, Shape], ...]:
    size = inputs[0].shape[0]
    return (("weight", (size,)), ("bias", (size,))) if attributes["affine"] else ()


def _binary_shape(inputs: _Inputs, _attributes: _Attributes) -> Shape:
    left, right = inputs[0].shape, inputs[1].shape
    if len(left) != len(right) or any(a != b and 1 not in (a, b) for a, b in zip(left, right, strict=True)):
        raise SpaceError(f"element-wise Op: shapes {left} and {right} do not broadcast.")
    return tuple(max(a, b) for a, b in zip(left, right, strict=True))


def _concat_shape(inputs: _Inputs, attributes: _Attributes) -> Shape:
    axis = _int(attributes, "axis")
    shape = list(inputs[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in inputs)
    return tuple(shape)


def _slice_shape(inputs: _Inputs, attributes: _Attributes) -> Shape:
    shape = list(inputs[0].shape)
    shape[_int(attributes, "axis")] = _int(attributes, "stop") - _int(attributes, "start")
    return tuple(shape)


def _pool_shape(inputs: _Inputs, attributes: _Attributes) -> Shape:
    channels, *space = inputs[0].shape
    return (channels, *(_window(size, attributes) for size in space))


def _global_pool_shape(inputs: _Inputs, attributes: _Attributes) -> Shape:
    channels, *space = inputs[0].shape
    return (channels, *(1 for _ in space)) if attributes["keep_dims"] else (channels,)


_CONV: dict[str, Attribute | None] = {
    "out_channels": None, "kernel": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": False,
}  # fmt: skip
_POOL: dict[str, Attribute | None] = {"kernel": None, "stride": None, "padding": 0, "ceil": False}

_conv = KindRule(_CONV, _conv_shape, _conv_weights, _conv_macs)

KINDS: Final[Mapping[str, KindRule]] = MappingProxyType({
    "activation": KindRule({"function": None}, _same, _no_weights, _no_macs),
    "add": KindRule({}, _binary_shape, _no_weights, _no_macs, inputs=2),
    "avg_pool2d": KindRule({**_POOL, "count_include_pad": True}, _pool_shape, _no_weights, _no_macs),
    "batch_norm": KindRule({"affine": True}, _same, _channel_norm_weights, _no_macs),
    "channel_scale": KindRule({}, _same, lambda inputs, _: (("weight", (inputs[0].shape[0],)),), _no_macs),
    "channel_shuffle": KindRule({"groups": None}, _same, _no_weights, _no_macs),
    "concat": KindRule({"axis": 0}, _concat_shape, _no_weights, _no_macs, inputs=0),
    "conv1d": _conv,
    "conv2d": _conv,
    "conv_transpose2d": KindRule(
        {"out_channels": None, "kernel": None, "stride": 1, "padding": 0, "bias": False},
        _conv_transpose_shape, _conv_transpose_weights, _conv_transpose_macs,
    ),
    "class_token": KindRule(
        {}, lambda inputs, _: (inputs[0].shape[0] + 1, inputs[0].shape[1]),
        lambda inputs, _: (("weight", (1, inputs[0].shape[1])),), _no_macs,
    ),
    # The first `features` of a table with `columns` (0 = as many), which may be `tied` to that of another Op.
    "embedding": KindRule(
        {"vocabulary": None, "features": None, "columns": 0, "scale": 1.0, "tied": ""},
        lambda inputs, a: (*inputs[0].shape, _int(a, "features")), _embedding_weights, _no_macs,
        reads=lambda _inputs, output, _a: output.numel,
    ),
    "global_avg_pool": KindRule({"keep_dims": False}, _global_pool_shape, _no_weights, _no_macs),
    "layer_norm": KindRule({"affine": True, "bias": True}, _same, _norm_weights, _no_macs),
    "linear": KindRule(
        {"out_features": None, "bias": True, "tied": ""},
        lambda inputs, a: (*inputs[0].shape[:-1], _int(a, "out_features")),
        _linear_weights, _linear_macs, reads=_linear_reads,
    ),
    "matmul": KindRule(
        {"transpose_b": False, "scale": 1.0}, _matmul_shape, _no_weights, _linear_macs, inputs=2,
    ),
    "max_pool2d": KindRule(_POOL, _pool_shape, _no_weights, _no_macs),
    "mul": KindRule({}, _binary_shape, _no_weights, _no_macs, inputs=2),
    # A learned table, or the first features of a sinusoidal one with `columns` (0 = as many).
    "position": KindRule(
        {"function": "learned", "columns": 0}, _same,
        lambda inputs, a: (("weight", inputs[0].shape),) if a["function"] == "learned" else (), _no_macs,
    ),
    # (heads, T, features) queries -> (heads, T, T) scores of a class token and a grid of patches, by their distances.
    "relative_scores": KindRule(
        {"features": None, "reach": None, "scale": 1.0},
        lambda inputs, _: (*inputs[0].shape[:2], inputs[0].shape[1]), _relative_weights, _relative_macs,
    ),
    # (heads, T, T) attention -> (heads, T, features), the distances' features weighted by it.
    "relative_values": KindRule(
        {"features": None, "reach": None}, lambda inputs, a: (*inputs[0].shape[:2], _int(a, "features")),
        _relative_weights, _relative_macs,
    ),
    "reshape": KindRule({"shape": None}, lambda _, a: _ints(a, "shape"), _no_weights, _no_macs),
    "rms_norm": KindRule({"affine": True, "bias": False}, _same, _norm_weights, _no_macs),
    "scale": KindRule({"factor": None}, _same, _no_weights, _no_macs),
    "rotary": KindRule({"base": 10000.0}, _same, _no_weights, _no_macs),
    "slice": KindRule({"axis": 0, "start": None, "stop": None}, _slice_shape, _no_weights, _no_macs),
    "softmax": KindRule({"causal": False}, _same, _no_weights, _no_macs),
    "statistics_pool": KindRule({}, lambda inputs, _: (2 * inputs[0].shape[0],), _no_weights, _no_macs, inputs=2),
    "transpose": KindRule(
        {"order": None}, lambda inputs, a: tuple(inputs[0].shape[i] for i in _ints(a, "order")), _no_weights, _no_macs
    ),
})  # fmt: skip
"""Every kind of Op, by name. Adding a kind means one entry here and one emitter in `onnx_graph`."""
