"""Timing with torch: on the processor by the wall clock, on a CUDA device by events, through a CUDA graph or eagerly.

A CUDA graph replays all kernels of a network with one launch, as inference servers do: for small networks, whose
launches cost more than their work, it is the difference between measuring the processor and measuring the GPU. Large
networks lose nothing by it.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs (capture after warm-up on a side stream).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ConfigError, DeviceError
from ...spaces.op import Op
from ..host import cpu_clock, cpu_name
from .nvml import gpu_clocks
from .timer import Conditions, Runner, RunnerTimer, TimerSettings
from .torch_graph import TorchGraph

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DATA_TYPES", "TorchCpuTimer", "TorchCudaTimer"]

DATA_TYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What torch computes in here; int8 is measured by ONNX Runtime."""

HELD_CYCLES: Final = 20_000
"""Clock cycles, about 10 us, for which the device is held back per run, while the host enqueues the runs."""

HELD_RUNS: Final = 32
"""At most so many runs are waited for: long series, as energy is measured over, shall not contain the waiting."""

CAPTURE_RUNS: Final = 3
"""Eager runs before a capture, in which libraries choose their algorithms and allocate their workspaces."""


def _dtype(settings: TimerSettings | None) -> torch.dtype:
    wanted = (settings or TimerSettings()).data_type
    if wanted not in DATA_TYPES:
        raise ConfigError("timer.data_type", wanted, f"one of {', '.join(DATA_TYPES)} with torch")
    return DATA_TYPES[wanted]


class TorchCpuTimer(RunnerTimer):
    """Times networks with torch on this processor, layer by layer.

    Args:
        device: the name that measurements carry.
        settings: precision and limits, threads, batch and data type.
        reference_ms: nominal time of the reference kernel; None measures it.

    Raises:
        ConfigError: a data type that torch does not compute in.
    """

    instrument = "torch-cpu"

    def __init__(
        self, device: str = "host", settings: TimerSettings | None = None, *, reference_ms: float | None = None
    ) -> None:
        self._dtype = _dtype(settings)
        super().__init__(device, settings, reference_ms=reference_ms)

    def runtime(self) -> Conditions:
        """Torch's version and the processor."""
        return {"runtime": f"torch {torch.__version__}", "cpu": cpu_name()}

    def clocks(self) -> Conditions:
        """The processor's clock."""
        return cpu_clock()

    def prepare(self, ops: tuple[Op, ...]) -> Runner:
        """These Ops with random weights and inputs; the runner times each call alone."""
        graph = TorchGraph(ops, dtype=self._dtype)
        inputs = graph.random_inputs(self.settings.batch)
        threads = self.settings.threads

        def run(n: int) -> NDArray[np.float64]:
            clock = time.perf_counter_ns
            nanoseconds = np.empty(n)
            with _threads(threads), torch.inference_mode():
                for index in range(n):
                    start = clock()
                    graph(*inputs)
                    nanoseconds[index] = clock() - start
            return nanoseconds / 1e6

        return run


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch's thread count is the whole process's: it is put back afterwards."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchCudaTimer(RunnerTimer):
    """Times networks with torch on a CUDA device: a pair of events around every run.

    Args:
        device: the name that measurements carry.
        settings: precision and limits, batch and data type; threads have no meaning here.
        reference_ms: nominal time of the reference kernel; None measures it.
        index: which CUDA device.
        launch: ``graph`` replays each network as one CUDA graph, ``eager`` launches kernel by kernel.

    Raises:
        DeviceError: there is no such CUDA device.
        ConfigError: a data type that torch does not compute in.
    """

    instrument = "torch-cuda"
    reference_size = (256, 56)

    def __init__(
        self,
        device: str,
        settings: TimerSettings | None = None,
        *,
        reference_ms: float | None = None,
        index: int = 0,
        launch: Literal["graph", "eager"] = "graph",
    ) -> None:
        if launch not in ("graph", "eager"):
            raise ConfigError("timer.launch", launch, "graph or eager")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not 0 <= index < count:
            raise DeviceError(
                f"CUDA device {index} is not here: torch {torch.__version__} sees {count}. Choose another index, "
                "install a torch with CUDA, or measure on 'host'."
            )
        self._dtype = _dtype(settings)
        self._index, self._launch = index, launch
        self._place = torch.device("cuda", index)
        super().__init__(device, settings, reference_ms=reference_ms)

    def runtime(self) -> Conditions:
        """Versions, the device and how it is used; TF32 decides what float32 means on tensor cores."""
        return {
            "runtime": f"torch {torch.__version__}",
            "cuda": str(torch.version.cuda),
            "gpu": torch.cuda.get_device_name(self._place),
            "launch": self._launch,
            "tf32_convolutions": bool(torch.backends.cudnn.allow_tf32),
            "tf32_products": bool(torch.backends.cuda.matmul.allow_tf32),
        }

    def clocks(self) -> Conditions:
        """Clocks, temperature and throttling, where NVML tells them."""
        return gpu_clocks(self._index)

    def prepare(self, ops: tuple[Op, ...]) -> Runner:
        """These Ops with random weights and inputs; the runner times each run alone, on the device."""
        with torch.cuda.device(self._place), torch.inference_mode():
            graph = TorchGraph(ops, dtype=self._dtype, device=self._place)
            inputs = graph.random_inputs(self.settings.batch)
            # Everything runs on one stream of its own: captures are forbidden on the default one.
            stream = torch.cuda.Stream(self._place)
            stream.wait_stream(torch.cuda.current_stream(self._place))
            with torch.cuda.stream(stream):
                for _ in range(CAPTURE_RUNS):
                    graph(*inputs)
            stream.synchronize()
            captured = None
            if self._launch == "graph":
                captured = torch.cuda.CUDAGraph()
                with torch.cuda.graph(captured, stream=stream):
                    graph(*inputs)

        def execute() -> None:
            if captured is not None:
                captured.replay()
            else:
                graph(*inputs)

        def run(n: int) -> NDArray[np.float64]:
            with torch.cuda.device(self._place), torch.cuda.stream(stream), torch.inference_mode():
                marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(n)]
                if captured is not None:
                    # Where a network is faster than its launch, its time is only seen with all runs enqueued before.
                    torch.cuda._sleep(HELD_CYCLES * min(n, HELD_RUNS))
                for start, end in marks:
                    start.record(stream)
                    execute()
                    end.record(stream)
                stream.synchronize()
            return np.array([start.elapsed_time(end) for start, end in marks])

        return run
