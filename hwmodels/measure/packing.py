"""Packing: an ONNX model for a slow line, its weights replaced by a recipe for random ones.

What a network costs does not depend on the values of its weights as long as these are ordinary numbers, and they are
nearly all of its bytes. So a model that only shall be timed travels without them: its serialised form with the data of
every large tensor cut out, and where to fill in how many values of what mean and spread. The device agent
(`service/agent.py`) puts it together again with NumPy alone.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...spaces.op import Op

if TYPE_CHECKING:
    import onnx

__all__ = ["Fill", "PackedModel", "pack", "pack_ops"]

LEAST_BYTES: Final = 512
"""Smaller tensors travel as they are."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Values to be made up by the device.

    Attributes:
        offset: where they stand, in bytes of the whole model.
        count: how many float32 values.
        mean, std: of the normal distribution they are drawn from.
    """

    offset: int
    count: int
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A serialised ONNX model without the data of its large float32 tensors.

    Attributes:
        data: the bytes that are left, in order.
        fills: what is missing, by offset.
    """

    data: bytes
    fills: tuple[Fill, ...]

    def to_json(self) -> dict[str, Any]:
        """The form in which it is sent: `data` in base 64, each fill as ``[offset, count, mean, std]``."""
        return {
            "data": base64.b64encode(self.data).decode("ascii"),
            "fills": [[fill.offset, fill.count, fill.mean, fill.std] for fill in self.fills],
        }


def pack(model: onnx.ModelProto) -> PackedModel:
    """Cut the data of all large float32 initialisers out of a model."""
    from onnx import TensorProto

    whole = model.SerializeToString()
    kept, fills, position = [], [], 0
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.raw_data) < LEAST_BYTES:
            continue
        # A tensor's data is its last field, and its name, just before, occurs once: so the data's place is certain.
        encoded = tensor.SerializeToString()
        start = whole.index(encoded, position) + len(encoded) - len(tensor.raw_data)
        values = np.frombuffer(tensor.raw_data, dtype="<f4")
        kept.append(whole[position:start])
        fills.append(Fill(start, len(values), float(values.mean()), float(values.std())))
        position = start + len(tensor.raw_data)
    return PackedModel(b"".join([*kept, whole[position:]]), tuple(fills))


def pack_ops(ops: Sequence[Op], *, batch: int = 1) -> PackedModel:
    """The float32 model that performs `ops`, packed; as `OnnxRuntimeTimer` would time it."""
    from ...spaces.onnx_graph import onnx_model

    return pack(onnx_model(ops, batch=batch))
