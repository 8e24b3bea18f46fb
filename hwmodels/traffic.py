"""Traffic: the bytes that Ops move, at a data type, with what runtimes fuse left out.

Source: bytes without reuse across kernels unless fused are the textbook denominator of arithmetic intensity; Williams
et al., Roofline, CACM 52(4), 2009, https://doi.org/10.1145/1498765.1498785.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..spaces.op import Op, Tensor, total_macs
from .device import BYTES_PER_VALUE, check_data_type

__all__ = ["FLOAT32_BYTES", "Traffic", "bytes_moved", "fused", "tensor_bytes", "traffic", "weighted_intensity"]

FLOAT32_BYTES: Final = BYTES_PER_VALUE["float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes that one run of some Ops moves, per sample.

    Attributes:
        weight_bytes: weights read.
        activation_bytes: activations read and written.
    """

    weight_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """Both together."""
        return self.weight_bytes + self.activation_bytes


def tensor_bytes(tensor: Tensor, data_type: str = "float32") -> int:
    """Size of an activation stored at `data_type`, per sample; indices keep their own type."""
    return tensor.bytes if tensor.dtype != "float32" else tensor.numel * BYTES_PER_VALUE[data_type]


def fused(ops: tuple[Op, ...]) -> tuple[bool, ...]:
    """Per Op, whether runtimes perform it inside the Op before it: batch norms and activations of a fresh result."""
    written: set[str] = set()
    out = []
    for op in ops:
        out.append(op.kind in ("batch_norm", "activation") and op.inputs[0].name in written)
        written.add(op.output.name)
    return tuple(out)


def traffic(ops: tuple[Op, ...], data_type: str = "float32") -> Traffic:
    """Activations read and written and weights read; of a fused Op, its weights alone.

    >>> from archsmith.spaces.op import Tensor, make_op
    >>> linear = make_op("linear", "linear", Tensor("x", (10,)), out_features=5, bias=False)
    >>> traffic((linear,)), traffic((linear,), "int8")
    (Traffic(weight_bytes=200, activation_bytes=60), Traffic(weight_bytes=50, activation_bytes=15))
    """
    size = BYTES_PER_VALUE[check_data_type(data_type)]
    activations = 0
    for op, inside in zip(ops, fused(ops), strict=True):
        if not inside:
            activations += sum(tensor_bytes(tensor, data_type) for tensor in (*op.inputs, op.output))
    weights = size * sum(op.weight_bytes_read for op in ops) // FLOAT32_BYTES
    return Traffic(weight_bytes=weights, activation_bytes=activations)


def bytes_moved(ops: tuple[Op, ...], data_type: str = "float32") -> int:
    """Bytes of activations read and written and of weights read, per sample; fused Ops move none but their weights."""
    return traffic(ops, data_type).total_bytes


def weighted_intensity(ops: tuple[Op, ...], *, data_type: str = "float32", weight_share: float = 0.5) -> float:
    """Data-type-aware weighted arithmetic intensity: MACs per byte, with weights and activations counted unequally.

    ``macs / (2 (a W + (1 - a) A))`` with W and A the bytes of weights and activations at the data type; a = 0.5 is the
    plain intensity. The share that explains a device's energy is fitted to measurements: `EnergyTerms.weight_share`.

    Source: the form is that of the data-aware intensity DI of published energy studies of networks, whose coefficient
    is not published; deviating, it is a parameter here.
    """
    if not 0.0 <= weight_share <= 1.0:
        raise ValueError(f"weight_share: got {weight_share}; allowed: 0 to 1.")
    moved = traffic(ops, data_type)
    weighted = 2.0 * (weight_share * moved.weight_bytes + (1.0 - weight_share) * moved.activation_bytes)
    return total_macs(ops) / weighted if weighted else float("inf")
