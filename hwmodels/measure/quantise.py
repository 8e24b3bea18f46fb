"""Static int8 quantisation of ONNX models by ONNX Runtime, for measuring and for deployment on processors.

Batch norms are folded first; then activations become unsigned 8-bit numbers with ranges seen on calibration samples,
weights signed ones with a scale per output channel. What has no int8 kernel (normalisations, soft-max, look-ups) stays
in float32 between a pair of conversions, which is what the network costs on such a device.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError

if TYPE_CHECKING:
    import onnx

__all__ = ["QUANTISED", "quantised"]

QUANTISED: Final = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "Mul", "Relu",
    "Reshape", "Sigmoid", "Transpose",
)  # fmt: skip
"""Node types that are quantised. Tables of embeddings are not: scales per row would reach products that refuse them."""

_RANDOM_SAMPLES: Final = 2


def quantised(model: bytes, samples: Sequence[Mapping[str, NDArray[Any]]] | None = None, *, seed: int = 0) -> bytes:
    """The int8 form of a serialised float32 model.

    Args:
        model: an ONNX model without free dimensions but the batch.
        samples: calibration inputs by name, batch in front; None = random ones, which are enough for measuring.
        seed: of the random samples.

    Raises:
        DeviceError: onnx or onnxruntime is not installed, or the quantiser refuses the model.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise DeviceError(
            f"int8 needs the packages onnx and onnxruntime ({error}); install them (pip install onnxruntime onnx)."
        ) from error

    class Samples(CalibrationDataReader):
        """Hands out one sample after the other, as the quantiser asks for them."""

        def __init__(self, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Mapping[str, NDArray[Any]] | None:  # type: ignore[override]  # its stub forgets the end
            """The next sample, or None."""
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        folded = onnx.load_from_string(_folded(model, Path(folder)))
        # Tells the quantiser that norms are folded and shapes known, which it otherwise asks for in a warning.
        entry = folded.metadata_props.add()
        entry.key, entry.value = "onnx.quant.pre_process", "onnxruntime.quant"
        target = Path(folder) / "int8.onnx"
        try:
            # Ranges are computed for masked scores as well, which are infinite and stay in float32.
            with np.errstate(invalid="ignore"):
                quantize_static(
                    folded,
                    target,
                    Samples(samples if samples is not None else _random_samples(folded, seed)),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=list(QUANTISED),
                    nodes_to_exclude=_kept_in_float(folded),
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"int8: ONNX Runtime cannot quantise the model ({error}); measure float32.") from error
        return target.read_bytes()


def _folded(model: bytes, folder: Path) -> bytes:
    """The model with constants and batch norms folded, by ONNX Runtime's basic optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return (folder / "folded.onnx").read_bytes()


def _kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Nodes that have no int8 form: masks of infinities, and products with constants of more than two dimensions."""
    from onnx import numpy_helper

    infinite, deep = set(), set()
    for item in model.graph.initializer:
        values = numpy_helper.to_array(item)
        if values.dtype == np.float32 and not np.isfinite(values).all():
            infinite.add(item.name)
        if values.ndim > 2:
            deep.add(item.name)
    kept = []
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node{number}"
        if infinite.intersection(node.input) or (node.op_type == "MatMul" and deep.intersection(node.input)):
            kept.append(node.name)
    return kept


def _random_samples(model: onnx.ModelProto, seed: int) -> list[dict[str, NDArray[Any]]]:
    """Standard normal inputs, and small numbers where indices are read."""
    from onnx import TensorProto

    rng = np.random.default_rng(seed)
    out = []
    for _ in range(_RANDOM_SAMPLES):
        feed: dict[str, NDArray[Any]] = {}
        for item in model.graph.input:
            shape = [max(size.dim_value, 1) for size in item.type.tensor_type.shape.dim]
            if item.type.tensor_type.elem_type == TensorProto.FLOAT:
                feed[item.name] = rng.standard_normal(shape).astype(np.float32)
            else:
                feed[item.name] = rng.integers(0, 2, shape)
        out.append(feed)
    return out
