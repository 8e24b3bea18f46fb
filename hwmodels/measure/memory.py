"""Memory by measurement: what a run of a network holds at its peak, weights included.

On a processor every tensor's storage is watched from its first use to its end; on a CUDA device the caching allocator
keeps the count, the workspaces of its libraries included.

Source: https://docs.pytorch.org/docs/stable/generated/torch.cuda.memory.max_memory_allocated.html.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...errors import ConfigError
from ...spaces.op import Op
from ..measurement import Measurement
from .torch_graph import TorchGraph
from .torch_timer import DATA_TYPES

__all__ = ["LiveStorages", "measure_memory"]


def measure_memory(
    ops: tuple[Op, ...],
    *,
    device: str = "host",
    place: str = "cpu",
    data_type: str = "float32",
    batch: int = 1,
) -> Measurement:
    """Peak memory_bytes of one run of the network of these Ops by torch.

    Args:
        ops: the network.
        device: the name that the measurement carries.
        place: where torch runs it: ``cpu``, ``cuda`` or ``cuda:1``.
        data_type: what it computes in.
        batch: samples per run.

    Raises:
        ConfigError: a data type that torch does not compute in.

    >>> from archsmith.spaces.op import Tensor, make_op
    >>> measure_memory((make_op("linear", "linear", Tensor("x", (10,)), out_features=5),)).value
    280.0
    """
    if data_type not in DATA_TYPES:
        raise ConfigError("data_type", data_type, f"one of {', '.join(DATA_TYPES)} with torch")
    where = torch.device(place)
    measure = _on_cuda if where.type == "cuda" else _on_cpu
    peak = measure(ops, where, DATA_TYPES[data_type], batch)
    return Measurement(
        quantity="memory_bytes",
        value=float(peak),
        iqr=0.0,
        repeats=1,
        device=device,
        source="measured:torch-allocator" if where.type == "cuda" else "measured:torch-storages",
        conditions={"runtime": f"torch {torch.__version__}", "dtype": data_type, "batch": batch},
    )


def _on_cpu(ops: tuple[Op, ...], where: torch.device, dtype: torch.dtype, batch: int) -> int:
    graph = TorchGraph(ops, dtype=dtype, device=where)
    inputs = graph.random_inputs(batch)
    storages = LiveStorages()
    for value in (*inputs, *graph.constants):
        storages.see(value)
    with torch.no_grad(), storages:
        graph(*inputs)
    return storages.peak_bytes


class LiveStorages(TorchDispatchMode):
    """Sums up the storages of all tensors that operators gave back, as long as anything refers to them.

    Works for tensors on the processor, inside and outside of autograd: ``with LiveStorages() as storages: step()``.

    Attributes:
        peak_bytes: the largest sum so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._bytes = 0
        self.peak_bytes = 0

    def see(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once, until it is gone."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._live:
            return

        def gone(_reference: object) -> None:
            del self._live[key]
            self._bytes -= size

        self._live[key] = weakref.ref(storage, gone)
        self._bytes += size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor):
                self.see(value)
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        return out


def _on_cuda(ops: tuple[Op, ...], where: torch.device, dtype: torch.dtype, batch: int) -> int:
    torch.cuda.synchronize(where)
    before = torch.cuda.memory_allocated(where)
    graph = TorchGraph(ops, dtype=dtype, device=where)
    inputs = graph.random_inputs(batch)
    with torch.inference_mode():
        graph(*inputs)  # libraries choose their algorithms and keep their workspaces
        torch.cuda.synchronize(where)
        torch.cuda.reset_peak_memory_stats(where)
        graph(*inputs)
        torch.cuda.synchronize(where)
    return torch.cuda.max_memory_allocated(where) - before
