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
from .typed_model import typed_model

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
        count: how many values.
        mean, std: of the normal distribution they are drawn from.
        data_type: of the values: ``float32``, ``float16`` or ``int8``, which is rounded and bounded by 127.
    """

    offset: int
    count: int
    mean: float
    std: float
    data_type: str = "float32"


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A serialised ONNX model without the data of its large tensors of weights.

    Attributes:
        data: the bytes that are left, in order.
        fills: what is missing, by offset.
    """

    data: bytes
    fills: tuple[Fill, ...]

    def to_json(self) -> dict[str, Any]:
        """The form in which it is sent: `data` in base 64, each fill as ``[offset, count, mean, std, data_type]``.

        The data type is left out for float32, so that agents of before there were others read those models, too.
        """
        return {"data": base64.b64encode(self.data).decode("ascii"), "fills": [_sent(fill) for fill in self.fills]}


def _sent(fill: Fill) -> list[int | float | str]:
    values = [fill.offset, fill.count, fill.mean, fill.std]
    return values if fill.data_type == "float32" else [*values, fill.data_type]


def pack(model: onnx.ModelProto) -> PackedModel:
    """Cut the data of all large initialisers out of a model.

    Scales of quantised values stay, which must be positive, and tables with infinite entries, such as masks.
    """
    types = _storage_types()
    model = _bare(model)
    scales = {name for node in model.graph.node if node.op_type in _SCALED for name in node.input[1:2]}
    whole = model.SerializeToString()
    kept, fills, position = [], [], 0
    for tensor in model.graph.initializer:
        if tensor.data_type not in types or tensor.name in scales or len(tensor.raw_data) < LEAST_BYTES:
            continue
        data_type, stored = types[tensor.data_type]
        values = np.frombuffer(tensor.raw_data, dtype=stored).astype(np.float64)
        if not np.isfinite(values).all():
            continue
        # A tensor's data is its last field, and its name, just before, occurs once: so the data's place is certain.
        encoded = tensor.SerializeToString()
        start = whole.index(encoded, position) + len(encoded) - len(tensor.raw_data)
        kept.append(whole[position:start])
        fills.append(Fill(start, len(values), float(values.mean()), float(values.std()), data_type))
        position = start + len(tensor.raw_data)
    return PackedModel(b"".join([*kept, whole[position:]]), tuple(fills))


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose initialisers have no field after their data."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        for field in ("doc_string", "data_location", "external_data", "metadata_props"):
            tensor.ClearField(field)
    return copy


_SCALED: Final = ("QuantizeLinear", "DequantizeLinear")


def _storage_types() -> dict[int, tuple[str, str]]:
    """By ONNX's number of a type, its name in a fill, and how NumPy reads it."""
    from onnx import TensorProto

    return {
        TensorProto.FLOAT: ("float32", "<f4"),
        TensorProto.FLOAT16: ("float16", "<f2"),
        TensorProto.INT8: ("int8", "i1"),
    }


def pack_ops(ops: Sequence[Op], *, batch: int = 1, data_type: str = "float32") -> PackedModel:
    """The model that performs `ops` in a data type, packed; as `OnnxRuntimeTimer` would time it."""
    return pack(typed_model(ops, data_type, batch=batch))
