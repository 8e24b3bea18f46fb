"""Timing with ONNX Runtime on the CPU: graphs built straight from Ops, one session each, buffers bound once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import DeviceError
from ...spaces.op import Op, Tensor, make_op
from ..host import cpu_name
from ..measurement import Measurement
from .reference import Reference
from .timer import Runner, TimerSettings, repeat

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxRuntimeTimer", "reference_ops"]

_NUMPY_TYPES: Final = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def reference_ops() -> tuple[Op, ...]:
    """The reference kernel: two pointwise convolutions around a depthwise one, as in small convolutional networks."""
    image = Tensor("reference.input", (32, 12, 12))
    expand = make_op("reference.expand", "conv2d", image, out_channels=96, kernel=1)
    depthwise = make_op("reference.depthwise", "conv2d", expand.output, out_channels=96, kernel=3, padding=1, groups=96)
    project = make_op("reference.project", "conv2d", depthwise.output, out_channels=32, kernel=1)
    return (expand, depthwise, project)


class OnnxRuntimeTimer:
    """Times networks with ONNX Runtime's CPU provider: sequential execution, every graph optimisation, batch 1.

    Args:
        device: the name that measurements carry.
        settings: precision and limits.
        reference_ms: nominal time of the reference kernel, so that several processes agree; None measures it.

    Raises:
        DeviceError: onnxruntime is not installed, or refuses the graph.
    """

    instrument = "onnxruntime"

    def __init__(
        self, device: str = "host", settings: TimerSettings | None = None, *, reference_ms: float | None = None
    ) -> None:
        self.device = device
        self.settings = settings or TimerSettings()
        self._runtime = _import_runtime()
        self.reference = Reference(self.prepare(reference_ops()), nominal_ms=reference_ms)
        self.conditions: Mapping[str, str | int | float | bool] = {
            "runtime": f"onnxruntime {self._runtime.__version__}",
            "cpu": cpu_name(),
            "threads": self.settings.threads,
            "dtype": "float32",
            "batch": 1,
        }

    def prepare(self, ops: tuple[Op, ...]) -> Runner:
        """A session for these Ops with random weights and inputs; the runner times each call alone."""
        from ...spaces.onnx_graph import onnx_model

        return self.prepare_model(onnx_model(ops).SerializeToString())

    def prepare_model(self, model: bytes) -> Runner:
        """A session for a serialised ONNX model."""
        session = self._session(model)
        binding = session.io_binding()
        rng = np.random.default_rng(0)
        for item in session.get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in item.shape]
            value = rng.standard_normal(shape).astype(_NUMPY_TYPES[item.type])
            binding.bind_ortvalue_input(item.name, self._runtime.OrtValue.ortvalue_from_numpy(value))
        # Outputs get buffers on the first run and keep them.
        for item in session.get_outputs():
            binding.bind_output(item.name)
        session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        binding.clear_binding_outputs()
        for item, value in zip(session.get_outputs(), outputs, strict=True):
            binding.bind_ortvalue_output(item.name, value)
        execute = session.run_with_iobinding

        def run(n: int) -> NDArray[np.float64]:
            clock = time.perf_counter_ns
            nanoseconds = np.empty(n)
            for index in range(n):
                start = clock()
                execute(binding)
                nanoseconds[index] = clock() - start
            return nanoseconds / 1e6

        return run

    def _session(self, model: bytes) -> onnxruntime.InferenceSession:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self.settings.threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._runtime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        return self._runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def state(self) -> dict[str, float]:
        """The reference kernel's nominal time."""
        return {"reference_ms": self.reference.nominal_ms}

    def restore(self, state: Mapping[str, float]) -> None:
        """Measure on the scale of another process."""
        self.reference.nominal_ms = float(state["reference_ms"])

    def measure(self, ops: tuple[Op, ...]) -> Measurement:
        """Median latency_ms of one run of the network of these Ops, corrected for the drift of the machine."""
        found = repeat(self.prepare(ops), self.reference, self.settings)
        return Measurement(
            quantity="latency_ms",
            value=found.median_ms,
            iqr=found.iqr_ms,
            repeats=found.count,
            device=self.device,
            source=f"measured:{self.instrument}",
            noisy=found.half_width > self.settings.noisy_above,
            conditions={
                **self.conditions,
                "reference_ms": self.reference.nominal_ms,
                "slowdown_corrected": found.drift,
                "precision": found.half_width,
            },
        )


def _import_runtime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            "measuring on the host needs the package onnxruntime, which is not installed; install it "
            "(pip install onnxruntime onnx), or choose a device with a file of its own."
        ) from error
    return onnxruntime
