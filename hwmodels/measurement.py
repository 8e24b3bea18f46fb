"""Measurement: something observed on a device, with its spread and the conditions it was observed under."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import DeviceError

__all__ = ["Measurement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One observed quantity on one device.

    Attributes:
        quantity: name with unit, e.g. ``latency_ms``.
        value: median over the repeats.
        iqr: interquartile range of the repeats, same unit.
        repeats: how many timed runs the median is over.
        device: the device's name.
        source: ``measured:<instrument>``, e.g. ``measured:onnxruntime``.
        noisy: True where the spread stayed too wide to trust the value.
        conditions: threads, data type, runtime version, clock…; JSON-able scalars.
    """

    quantity: str
    value: float
    iqr: float
    repeats: int
    device: str
    source: str
    noisy: bool = False
    conditions: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value <= 0:
            raise DeviceError(
                f"measurement of {self.quantity} on {self.device}: got {self.value}; it must be finite and positive. "
                "Measure again; if it persists, check the device's clock and the runtime."
            )
        if not self.source.startswith("measured:"):
            raise DeviceError(f"measurement source: got {self.source!r}; it must read 'measured:<instrument>'.")
