"""The contract of cost models: what an architecture costs on a device, with the uncertainty and the source stated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.space import SearchSpace

__all__ = ["CostModel", "Prediction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An estimate for B candidates. Never a measurement: those are `Measurement`.

    Attributes:
        quantity: what is estimated, with its unit in the name (``latency_ms``, ``energy_mj``, ``accuracy``).
        mean: [B] float64.
        std: [B] float64, >= 0: one standard deviation of the estimate's error.
        source: how it was estimated, ``predicted:<method>``, e.g. ``predicted:lookup``.
        in_range: [B] bool, False where the model was asked outside what it was fitted on.
    """

    quantity: str
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    source: str
    in_range: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not (self.mean.shape == self.std.shape == self.in_range.shape and self.mean.ndim == 1):
            raise PredictorError(
                f"Prediction of {self.quantity}: mean {self.mean.shape}, std {self.std.shape} and in_range "
                f"{self.in_range.shape} must be one-dimensional and of equal length."
            )


@runtime_checkable
class CostModel(Protocol):
    """Predicts one quantity on one device for a whole population; vectorised over candidates."""

    @property
    def quantity(self) -> str:
        """What is predicted, with its unit in the name."""
        ...

    @property
    def device(self) -> str:
        """The device's name."""
        ...

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Estimate the cost of every row of `genomes` ([B, G], canonical)."""
        ...

    def report(self) -> dict[str, float]:
        """Error on held-out measurements: `kendall_tau`, `within_10_percent`, `rmse`, `n`; empty if there were none."""
        ...
