"""ONNX models for measuring, in the data type that a device shall compute in.

float16 stores weights and activations in half precision; processors without such arithmetic compute it in float32
between conversions, which ONNX Runtime inserts, and that is what the network costs there. int8 is `quantise`.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/float16.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError, DeviceError
from ...spaces.op import Op

if TYPE_CHECKING:
    import onnx

__all__ = ["DATA_TYPES", "typed_model"]

DATA_TYPES: Final = ("float32", "float16", "int8")
"""What ONNX Runtime computes in on a processor."""


def typed_model(ops: Sequence[Op], data_type: str, *, batch: int = 1) -> onnx.ModelProto:
    """The model that performs `ops` in a data type, with random weights.

    Args:
        ops: in execution order.
        data_type: one of `DATA_TYPES`.
        batch: samples per run.

    Raises:
        ConfigError: another data type.
        DeviceError: onnx or onnxruntime is not installed, or the quantiser refuses the model.
    """
    if data_type not in DATA_TYPES:
        raise ConfigError("timer.data_type", data_type, f"one of {', '.join(DATA_TYPES)} with ONNX Runtime on a CPU")
    try:
        import onnx

        from ...spaces.onnx_graph import onnx_model
    except ImportError as error:
        raise DeviceError(f"building models to measure needs the package onnx ({error}); install it.") from error
    model = onnx_model(ops, batch=batch)
    if data_type == "int8":
        from .quantise import quantised

        return onnx.load_from_string(quantised(model.SerializeToString()))
    return _halved(model) if data_type == "float16" else model


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise DeviceError(f"float16 needs the package onnxruntime ({error}); install it.") from error
    return convert_float_to_float16(model, keep_io_types=False)
