"""Ops run by torch: the same description that ONNX models are built from, executed layer by layer.

Measuring with torch needs networks and single kernels that are known as Ops; with this executor every timer takes the
same Ops and performs the same computation. As in deployment, batch norms are folded into the convolution before them,
activations work in place where nothing else reads their input, and every tensor is dropped after its last reader. The
module is long because it is a list: one builder for every kind of Op.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DeviceError
from ...spaces.onnx_graph import EPSILON, random_weights
from ...spaces.op import Op
from ...spaces.position import relative_rows, rotary_table, sinusoid_table

__all__ = ["BUILDERS", "TorchGraph"]

Call = Callable[..., Tensor]

VIEWS: Final = frozenset({"channel_shuffle", "reshape", "slice", "transpose"})
"""Kinds whose output may share memory with their input."""


class TorchGraph:
    """A network of Ops as a function of tensors.

    Args:
        ops: in execution order; at least one.
        weights: by name as in the network's `state_dict`; None = random ones, for measuring.
        dtype: of weights and activations.
        device: where it runs.
        seed: of the random weights.

    Attributes:
        inputs: what it takes, in order of first use.
        outputs: what it gives back, in order: written but never read.

    Raises:
        DeviceError: no Ops, or a kind without a builder.

    >>> from archsmith.spaces.op import Tensor as Spec, make_op
    >>> graph = TorchGraph((make_op("relu", "activation", Spec("x", (3,)), function="relu"),))
    >>> graph(torch.tensor([[-1.0, 0.0, 2.0]]))[0].tolist()
    [[0.0, 0.0, 2.0]]
    """

    def __init__(
        self,
        ops: Sequence[Op],
        weights: Mapping[str, NDArray[Any]] | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        if not ops:
            raise DeviceError("TorchGraph: got no Ops; a graph needs at least one.")
        if unknown := sorted({op.kind for op in ops} - set(BUILDERS)):
            raise DeviceError(
                f"TorchGraph: no torch form of Ops of kind {', '.join(unknown)}; measure by ONNX Runtime."
            )
        self._weights = _Weights(random_weights(ops, seed) if weights is None else weights, dtype, device)
        written = {op.output.name for op in ops}
        read = {tensor.name: tensor for op in ops for tensor in op.inputs}
        self.inputs = tuple(tensor for name, tensor in read.items() if name not in written)
        self.outputs = tuple(op.output for op in ops if op.output.name not in read)
        self._steps = self._compile(ops)
        self.dtype, self.device = dtype, torch.device(device)

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """All weights and tables that it holds."""
        return tuple(self._weights.held)

    def _compile(self, ops: Sequence[Op]) -> list[tuple[Call, tuple[str, ...], str, tuple[str, ...]]]:
        """(function, names read, name written, names dropped afterwards) for every step."""
        readers: dict[str, list[int]] = {}
        for position, op in enumerate(ops):
            for name in {tensor.name for tensor in op.inputs}:
                readers.setdefault(name, []).append(position)
        producer = {op.output.name: op for op in ops}
        # Convolution -> the batch norm that alone reads it.
        norms: dict[str, Op] = {}
        for op in ops:
            source = producer.get(op.inputs[0].name)
            if op.kind != "batch_norm" or source is None or source.kind not in ("conv1d", "conv2d"):
                continue
            if len(readers[source.output.name]) == 1:
                norms[source.name] = op
        folded = {norm.name for norm in norms.values()}
        steps = []
        for position, op in enumerate(ops):
            source = producer.get(op.inputs[0].name)
            if op.name in norms:
                call: Call = _conv(op, self._weights, _norm_scale_shift(norms[op.name], self._weights))
            elif op.name in folded:
                call = _pass_on
            elif op.kind == "activation":
                last = source is not None and readers[op.inputs[0].name][-1] == position and source.kind not in VIEWS
                call = _activation(str(op.attributes["function"]), in_place=last)
            else:
                call = BUILDERS[op.kind](op, self._weights)
            names = tuple(tensor.name for tensor in op.inputs)
            dropped = tuple(name for name in dict.fromkeys(names) if readers[name][-1] == position)
            steps.append((call, names, op.output.name, dropped))
        return steps

    def __call__(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The outputs for these inputs, each [batch, *shape]."""
        live = {tensor.name: value for tensor, value in zip(self.inputs, values, strict=True)}
        del values
        for call, names, output, dropped in self._steps:
            live[output] = call(*(live[name] for name in names))
            for name in dropped:
                del live[name]
        return tuple(live[tensor.name] for tensor in self.outputs)

    def random_inputs(self, batch: int = 1, *, seed: int = 0) -> tuple[Tensor, ...]:
        """Inputs of the right shapes and types: standard normal, or small indices."""
        generator = torch.Generator().manual_seed(seed)
        made = []
        for tensor in self.inputs:
            shape = (batch, *tensor.shape)
            if tensor.dtype == "float32":
                made.append(torch.randn(shape, generator=generator).to(self.device, self.dtype))
            else:
                made.append(torch.randint(0, 2, shape, generator=generator).to(self.device))
        return tuple(made)


class _Weights:
    """Weights as tensors of one type in one place; a name is converted once."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], dtype: torch.dtype, device: torch.device | str) -> None:
        self._arrays = arrays
        self._dtype, self._device = dtype, device
        self._made: dict[str, Tensor] = {}
        self.held: list[Tensor] = []

    def array(self, name: str) -> NDArray[np.float32]:
        """The weight called `name`, as given."""
        if name not in self._arrays:
            raise DeviceError(
                f"TorchGraph: weight {name!r} is missing; pass the state_dict of the network of these Ops."
            )
        return np.asarray(self._arrays[name], dtype=np.float32)

    def constant(self, values: NDArray[Any]) -> Tensor:
        """Numbers as a tensor."""
        # A copy: the caller's arrays stay his own.
        return self._keep(torch.tensor(np.asarray(values, dtype=np.float32), dtype=self._dtype, device=self._device))

    def indices(self, values: NDArray[Any]) -> Tensor:
        """Indices as a tensor."""
        return self._keep(torch.tensor(np.asarray(values, dtype=np.int64), device=self._device))

    def _keep(self, tensor: Tensor) -> Tensor:
        self.held.append(tensor)
        return tensor

    def named(self, name: str) -> Tensor:
        """The weight called `name`."""
        if name not in self._made:
            self._made[name] = self.constant(self.array(name))
        return self._made[name]

    def of(self, op: Op) -> list[Tensor]:
        """All learned weights of `op`, in their order."""
        return [self.named(f"{op.name}.{name}") for name, _ in op.weights]


# --- the builders: each gives the function that performs `op` --------------------------------------------------------

_FUNCTIONS: Final[Mapping[str, Call]] = MappingProxyType({
    "gelu": F.gelu, "hard_sigmoid": F.hardsigmoid, "hard_swish": F.hardswish, "relu": F.relu, "relu6": F.relu6,
    "sigmoid": torch.sigmoid, "silu": F.silu, "tanh": torch.tanh,
})  # fmt: skip

_IN_PLACE: Final[Mapping[str, Call]] = MappingProxyType({
    "hard_sigmoid": lambda x: F.hardsigmoid(x, inplace=True), "hard_swish": lambda x: F.hardswish(x, inplace=True),
    "relu": torch.relu_, "relu6": lambda x: F.relu6(x, inplace=True), "sigmoid": torch.sigmoid_,
    "silu": lambda x: F.silu(x, inplace=True), "tanh": torch.tanh_,
})  # fmt: skip


def _pass_on(x: Tensor) -> Tensor:
    return x


def _integer(op: Op, key: str) -> int:
    value = op.attributes[key]
    assert isinstance(value, int)
    return value


def _number(op: Op, key: str) -> float:
    value = op.attributes[key]
    assert isinstance(value, int | float)
    return float(value)


def _axis(axis: int) -> int:
    """An axis of a batchless shape as one with the batch in front."""
    return axis + 1 if axis >= 0 else axis


def _activation(function: str, *, in_place: bool) -> Call:
    return _IN_PLACE.get(function, _FUNCTIONS[function]) if in_place else _FUNCTIONS[function]


def _norm_scale_shift(op: Op, weights: _Weights) -> tuple[NDArray[Any], NDArray[Any]]:
    """A batch norm at inference is x * scale + shift."""
    mean, variance = (weights.array(f"{op.name}.{name}") for name in ("running_mean", "running_var"))
    scale = 1.0 / np.sqrt(variance + EPSILON["batch_norm"])
    if not op.attributes["affine"]:
        return scale, -mean * scale
    scale = scale * weights.array(f"{op.name}.weight")
    return scale, weights.array(f"{op.name}.bias") - mean * scale


def _batch_norm(op: Op, weights: _Weights) -> Call:
    shape = (-1, *(1 for _ in op.output.shape[1:]))
    scale, shift = (weights.constant(values.reshape(shape)) for values in _norm_scale_shift(op, weights))
    return lambda x: torch.addcmul(shift, x, scale)


def _conv(op: Op, weights: _Weights, norm: tuple[NDArray[Any], NDArray[Any]] | None = None) -> Call:
    """A convolution, with the scale and shift of the batch norm after it folded in."""
    weight = weights.array(f"{op.name}.weight")
    bias = weights.array(f"{op.name}.bias") if op.attributes["bias"] else None
    if norm is not None:
        scale, shift = norm
        weight = weight * scale.reshape(-1, *(1 for _ in weight.shape[1:]))
        bias = shift if bias is None else bias * scale + shift
    made, offset = weights.constant(weight), None if bias is None else weights.constant(bias)
    function = F.conv1d if op.kind == "conv1d" else F.conv2d
    options = {key: _integer(op, key) for key in ("stride", "padding", "dilation", "groups")}
    return lambda x: function(x, made, offset, **options)


def _conv_transpose(op: Op, weights: _Weights) -> Call:
    made, stride, padding = weights.of(op), _integer(op, "stride"), _integer(op, "padding")
    return lambda x: F.conv_transpose2d(x, *made, stride=stride, padding=padding, output_padding=stride - 1)


def _linear(op: Op, weights: _Weights) -> Call:
    if tied := op.attributes["tied"]:
        table = weights.named(f"{tied}.weight")[:, : op.inputs[0].shape[-1]]
        return lambda x: F.linear(x, table)
    made = weights.of(op)
    return lambda x: F.linear(x, *made)


def _embedding(op: Op, weights: _Weights) -> Call:
    owner, scale = str(op.attributes["tied"]) or op.name, _number(op, "scale")
    table = weights.named(f"{owner}.weight")[:, : _integer(op, "features")]
    return lambda x: F.embedding(x, table) if scale == 1.0 else F.embedding(x, table) * scale


def _matmul(op: Op, _weights: _Weights) -> Call:
    transposed, scale = bool(op.attributes["transpose_b"]), _number(op, "scale")

    def product(left: Tensor, right: Tensor) -> Tensor:
        out = torch.matmul(left, right.transpose(-1, -2) if transposed else right)
        return out if scale == 1.0 else out.mul_(scale)

    return product


def _layer_norm(op: Op, weights: _Weights) -> Call:
    made, size = weights.of(op), (op.inputs[0].shape[-1],)
    weight, bias = (*made, None, None)[:2]
    return lambda x: F.layer_norm(x, size, weight, bias, EPSILON["layer_norm"])


def _rms_norm(op: Op, weights: _Weights) -> Call:
    made, size = weights.of(op), (op.inputs[0].shape[-1],)
    weight, bias = (*made, None, None)[:2]
    if bias is None:
        return lambda x: F.rms_norm(x, size, weight, EPSILON["rms_norm"])
    return lambda x: F.rms_norm(x, size, weight, EPSILON["rms_norm"]).add_(bias)


def _class_token(op: Op, weights: _Weights) -> Call:
    (token,) = weights.of(op)
    return lambda x: torch.cat((token.expand(x.shape[0], 1, -1), x), dim=1)


def _position(op: Op, weights: _Weights) -> Call:
    if op.attributes["function"] == "learned":
        (table,) = weights.of(op)
    else:
        length, features = op.output.shape
        table = weights.constant(sinusoid_table(length, _integer(op, "columns") or features)[:, :features])
    return lambda x: x + table


def _rotary(op: Op, weights: _Weights) -> Call:
    length, features = op.output.shape[-2:]
    cosine, sine = (weights.constant(part) for part in rotary_table(length, features, _number(op, "base")))
    half = features // 2
    return lambda x: x * cosine + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sine


def _relative(op: Op, weights: _Weights) -> Call:
    tokens, reach = op.inputs[0].shape[1], _integer(op, "reach")
    vertical, horizontal = weights.of(op)
    rows, columns = (weights.indices(part) for part in relative_rows(tokens, reach))
    scale = _number(op, "scale") if op.kind == "relative_scores" else 1.0

    def product(x: Tensor) -> Tensor:
        pairs = vertical[rows] + horizontal[columns]  # [T, T, features]
        if op.kind == "relative_scores":
            return torch.einsum("bhtf,tsf->bhts", x, pairs) * scale
        return torch.einsum("bhts,tsf->bhtf", x, pairs)

    return product


def _statistics_pool(_op: Op, _weights: _Weights) -> Call:
    def pool(x: Tensor, shares: Tensor) -> Tensor:
        mean = (x * shares).sum(dim=-1)
        variance = ((x - mean.unsqueeze(-1)).square() * shares).sum(dim=-1)
        return torch.cat((mean, variance.clamp(min=EPSILON["statistics_pool"]).sqrt()), dim=1)

    return pool


def _global_avg_pool(op: Op, _weights: _Weights) -> Call:
    axes, keep = tuple(range(2, len(op.inputs[0].shape) + 1)), bool(op.attributes["keep_dims"])
    return lambda x: x.mean(dim=axes, keepdim=keep)


def _pool(op: Op, _weights: _Weights) -> Call:
    kernel, stride, padding = (_integer(op, key) for key in ("kernel", "stride", "padding"))
    ceil = bool(op.attributes["ceil"])
    if op.kind == "max_pool2d":
        return lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
    counted = bool(op.attributes["count_include_pad"])
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode=ceil, count_include_pad=counted)


def _softmax(op: Op, weights: _Weights) -> Call:
    if not op.attributes["causal"]:
        return lambda x: F.softmax(x, dim=-1)
    hidden = weights.constant(np.triu(np.full(op.output.shape[-2:], -math.inf), k=1))
    return lambda x: F.softmax(x + hidden, dim=-1)


def _channel_scale(op: Op, weights: _Weights) -> Call:
    (weight,) = weights.of(op)
    column = weight.reshape(-1, *(1 for _ in op.output.shape[1:]))
    return lambda x: x * column


def _reshape(op: Op, _weights: _Weights) -> Call:
    shape = op.output.shape
    return lambda x: x.reshape(x.shape[0], *shape)


def _slice(op: Op, _weights: _Weights) -> Call:
    axis, start, stop = _axis(_integer(op, "axis")), _integer(op, "start"), _integer(op, "stop")
    return lambda x: x.narrow(axis, start, stop - start)


def _transpose(op: Op, _weights: _Weights) -> Call:
    order = op.attributes["order"]
    assert isinstance(order, tuple)
    axes = (0, *(_axis(axis) for axis in order))
    return lambda x: x.permute(axes)


def _channel_shuffle(op: Op, _weights: _Weights) -> Call:
    groups = _integer(op, "groups")
    return lambda x: x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


BUILDERS: Final[Mapping[str, Callable[[Op, _Weights], Call]]] = MappingProxyType({
    "activation": lambda op, _weights: _activation(str(op.attributes["function"]), in_place=False),
    "add": lambda _op, _weights: torch.add,
    "avg_pool2d": _pool,
    "batch_norm": _batch_norm,
    "channel_scale": _channel_scale,
    "channel_shuffle": _channel_shuffle,
    "class_token": _class_token,
    "concat": lambda op, _weights: lambda *parts: torch.cat(parts, dim=_axis(_integer(op, "axis"))),
    "conv1d": _conv,
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "embedding": _embedding,
    "global_avg_pool": _global_avg_pool,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool2d": _pool,
    "mul": lambda _op, _weights: torch.mul,
    "position": _position,
    "relative_scores": _relative,
    "relative_values": _relative,
    "reshape": _reshape,
    "rms_norm": _rms_norm,
    "rotary": _rotary,
    "scale": lambda op, _weights: lambda x: x * _number(op, "factor"),
    "slice": _slice,
    "softmax": _softmax,
    "statistics_pool": _statistics_pool,
    "transpose": _transpose,
})  # fmt: skip
"""One builder per kind of Op; a test requires the same names as `op.KINDS`."""
