"""What a kernel is to a regressor: its group, and numbers that decide its time on any device.

A group holds the kernels of one leading operator (dense convolution, depthwise convolution, linear layer, matrix
product, softmax, …), whatever is fused to it; what is fused is among the features. Sizes enter as logarithms, so that a
time that grows as a product of powers is linear in them; remainders of tiles enter as the logarithm of the padding they
cause, because a vector unit computes whole tiles.

Source: the features of nn-Meter (Zhang et al., MobiSys 2021, table 3: sizes, channels, kernel, stride, MACs,
parameters), extended by bytes, tile remainders and tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.fusion import chain_of, label
from ...spaces.op import ACTIVATIONS, Op, Tensor, total_macs

__all__ = ["FEATURES", "TILES", "group_of", "kernel_rows", "leader"]

TILES: Final = (8, 16)
"""Elements of a vector register: eight and sixteen float32 are 256 and 512 bits."""

_FOLLOWERS: Final = ("batch_norm", "add", "mul", "reshape", "transpose", "layer_norm")
_FUNCTIONS: Final = tuple(sorted(ACTIVATIONS))

FEATURES: Final = (
    "macs", "input_bytes", "output_bytes", "inner_bytes", "weight_bytes", "input_channels", "output_channels",
    "input_positions", "output_positions", "row", "inner_size", "kernel", "stride", "groups",
    *(f"{side}_padding_{tile}" for tile in TILES for side in ("input", "output", "row")),
    "ops", *(f"has_{name}" for name in _FOLLOWERS), *_FUNCTIONS,
)  # fmt: skip
"""Names of the columns of `kernel_rows`."""


def leader(ops: Sequence[Op]) -> Op:
    """The Op that decides a kernel's implementation: the first with MACs, else the first."""
    return next((op for op in ops if op.macs), ops[0])


def group_of(ops: Sequence[Op]) -> str:
    """The group that a kernel is regressed in.

    >>> from ...spaces.op import make_op
    >>> group_of([make_op("a", "activation", Tensor("x", (4,)), function="relu")])
    'activation'
    """
    op = leader(ops)
    return op.kind if op.kind == "activation" else label(op)


def kernel_rows(kernels: Sequence[Sequence[Op]]) -> NDArray[np.float64]:
    """[K, F] the features of kernels, one row each."""
    return np.array([_row(ops) for ops in kernels]).reshape(len(kernels), len(FEATURES))


def _row(ops: Sequence[Op]) -> list[float]:
    op, last = leader(ops), ops[-1]
    source, channels_first = op.inputs[0], _channels_first(op)
    channels = [_channels(tensor, channels_first) for tensor in (source, op.output)]
    positions = [tensor.numel // count for tensor, count in zip((source, op.output), channels, strict=True)]
    row = op.output.shape[-1]
    written = {item.output.name for item in ops}
    read = {tensor.name: tensor.bytes for item in ops for tensor in item.inputs if tensor.name not in written}
    sizes = (
        total_macs(tuple(ops)), sum(read.values()), last.output_bytes, sum(item.output_bytes for item in ops[:-1]),
        sum(item.weight_bytes_read for item in ops), *channels, *positions, row,
        op.inputs[-1].shape[-1] if len(op.inputs) > 1 else 0,
        *(_size(op, key) for key in ("kernel", "stride", "groups")),
    )  # fmt: skip
    padding = [
        math.log(math.ceil(size / tile) * tile / size) for tile in TILES for size in (channels[0], channels[1], row)
    ]
    labels = chain_of(ops)
    functions = {item.attributes["function"] for item in ops if item.kind == "activation"}
    return [
        *(math.log1p(size) for size in sizes), *padding, float(len(ops)),
        *(float(name in labels) for name in _FOLLOWERS), *(float(name in functions) for name in _FUNCTIONS),
    ]  # fmt: skip


def _channels_first(op: Op) -> bool:
    """Images and the sequences of one-dimensional convolutions hold channels first, tokens hold them last."""
    return op.kind.startswith(
        ("conv", "batch_norm", "avg_pool", "max_pool", "global_avg", "channel", "statistics")
    ) or (len(op.inputs[0].shape) == 3 and op.kind in ("activation", "add", "mul", "concat", "slice"))


def _channels(tensor: Tensor, channels_first: bool) -> int:
    return tensor.shape[0 if channels_first else -1]


def _size(op: Op, key: str) -> int:
    """A size among the attributes; 0 where the kind has none."""
    value = op.attributes.get(key, 0)
    return value if isinstance(value, int) else 0
