"""The roofline model: latency of a device that nobody measured here, from its file alone.

    latency = sum over kernels of (launch overhead + max(MACs / peak rate, bytes / bandwidth))

A kernel is an Op with the batch norms and activations that runtimes perform inside it; rates and bytes are those of the
data type. The model knows no tiling and no cache reuse, so it ranks networks better than it dates them: its uncertainty
is wide and said.

Source: Williams, Waterman, Patterson, Roofline: An Insightful Visual Performance Model for Multicore Architectures,
CACM 52(4), 2009, https://doi.org/10.1145/1498765.1498785.

Notation: B candidates.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..spaces.op import Op
from ..spaces.space import SearchSpace
from .additive import AdditiveCost
from .cost import Prediction
from .device import BYTES_PER_VALUE, Device, check_data_type
from .traffic import FLOAT32_BYTES, fused, tensor_bytes

__all__ = ["RELATIVE_STD", "RooflineModel"]

RELATIVE_STD: Final = 0.6
"""One standard deviation of the relative error, an own estimate: small kernels reach a fraction of the peak rate."""

MACS_PER_MS: Final = 1e6
"""MACs per millisecond at one GMAC/s; bytes per millisecond at one GB/s is the same number."""


class RooflineModel:
    """Latency of a population by the roofline. A `CostModel`.

    Args:
        hardware: a device with a peak rate for the data type and a memory bandwidth.
        data_type: what the network computes in; None = the device's own (`Device.data_type`).

    Raises:
        DeviceError: the device file lacks one of them.
        ConfigError: an unknown data type.

    >>> from .catalog import get
    >>> RooflineModel(get("raspberry_pi_4")).quantity
    'latency_ms'
    """

    quantity = "latency_ms"

    def __init__(self, hardware: Device, data_type: str | None = None) -> None:
        self.device = hardware.name
        self.data_type = check_data_type(data_type or hardware.data_type)
        self._peak = hardware.require("peak_gmacs_per_s", self.data_type)
        self._bandwidth = hardware.require("memory_bandwidth_gb_per_s")
        self._launch_ms = hardware.launch_overhead_us.value / 1e3 if hardware.launch_overhead_us else 0.0
        self._costs = AdditiveCost(lambda ops: (self.latency_ms(ops),), 1)

    def latency_ms(self, ops: tuple[Op, ...]) -> float:
        """Latency of a chain of Ops, batch 1."""
        size, total = BYTES_PER_VALUE[self.data_type], 0.0
        for op, inside in zip(ops, fused(ops), strict=True):
            moved = size * op.weight_bytes_read // FLOAT32_BYTES
            if not inside:
                moved += sum(tensor_bytes(tensor, self.data_type) for tensor in (*op.inputs, op.output))
            compute_ms, memory_ms = op.macs / (self._peak * MACS_PER_MS), moved / (self._bandwidth * MACS_PER_MS)
            total += max(compute_ms, memory_ms) + (0.0 if inside else self._launch_ms)
        return total

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Estimate latency_ms of every row of `genomes` ([B, G], canonical)."""
        mean = self._costs.total(space, genomes)[:, 0]
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=RELATIVE_STD * mean,
            source="predicted:roofline",
            in_range=np.ones(len(genomes), dtype=np.bool_),
        )

    def report(self) -> dict[str, float]:
        """Empty: nothing was measured, so nothing could be held out."""
        return {}
