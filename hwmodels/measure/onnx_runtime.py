"""Timing with ONNX Runtime on the CPU: graphs built straight from Ops, one session each, buffers bound once."""

from __future__ import annotations

import time
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DeviceError
from ...spaces.op import Op
from ..host import cpu_clock, cpu_name
from .timer import Conditions, Runner, RunnerTimer, TimerSettings, reference_ops
from .typed_model import DATA_TYPES, typed_model

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["DATA_TYPES", "OnnxRuntimeTimer", "reference_ops"]

_NUMPY_TYPES: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class OnnxRuntimeTimer(RunnerTimer):
    """Times networks with ONNX Runtime's CPU provider: sequential execution, every graph optimisation.

    Args:
        device: the name that measurements carry.
        settings: precision and limits, threads, batch and data type.
        reference_ms: nominal time of the reference kernel, so that several processes agree; None measures it.

    Raises:
        DeviceError: onnxruntime is not installed, or refuses the graph.
        ConfigError: a data type that it does not compute in.
    """

    instrument = "onnxruntime"

    def __init__(
        self, device: str = "host", settings: TimerSettings | None = None, *, reference_ms: float | None = None
    ) -> None:
        self._runtime = _import_runtime()
        wanted = (settings or TimerSettings()).data_type
        if wanted not in DATA_TYPES:
            raise ConfigError("timer.data_type", wanted, f"one of {', '.join(DATA_TYPES)} with ONNX Runtime on a CPU")
        super().__init__(device, settings, reference_ms=reference_ms)

    def runtime(self) -> Conditions:
        """ONNX Runtime's version and the processor."""
        return {"runtime": f"onnxruntime {self._runtime.__version__}", "cpu": cpu_name()}

    def clocks(self) -> Conditions:
        """The processor's clock."""
        return cpu_clock()

    def prepare(self, ops: tuple[Op, ...]) -> Runner:
        """A session for these Ops with random weights and inputs; the runner times each call alone."""
        model = typed_model(ops, self.settings.data_type, batch=self.settings.batch)
        return self.prepare_model(model.SerializeToString())

    def prepare_model(self, model: bytes) -> Runner:
        """A session for a serialised ONNX model."""
        session = self._session(model)
        binding = session.io_binding()
        rng = np.random.default_rng(0)
        bound: list[onnxruntime.OrtValue] = []  # the binding owns no memory: it lives as long as the runner
        for item in session.get_inputs():
            shape = [size if isinstance(size, int) else self.settings.batch for size in item.shape]
            value = rng.standard_normal(shape).astype(_NUMPY_TYPES[item.type])
            bound.append(self._runtime.OrtValue.ortvalue_from_numpy(value))
            binding.bind_ortvalue_input(item.name, bound[-1])
        # The first run tells the outputs' shapes; from then on they have buffers of ours, since clearing the bindings
        # frees those of the runtime.
        for item in session.get_outputs():
            binding.bind_output(item.name)
        session.run_with_iobinding(binding)
        values = binding.copy_outputs_to_cpu()
        binding.clear_binding_outputs()
        for item, value in zip(session.get_outputs(), values, strict=True):
            bound.append(self._runtime.OrtValue.ortvalue_from_numpy(value))
            binding.bind_ortvalue_output(item.name, bound[-1])
        execute = session.run_with_iobinding

        def run(n: int, _alive: object = bound) -> NDArray[np.float64]:
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


def _import_runtime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            "measuring on the host needs the package onnxruntime, which is not installed; install it "
            "(pip install onnxruntime onnx), or choose a device with a file of its own."
        ) from error
    return onnxruntime
