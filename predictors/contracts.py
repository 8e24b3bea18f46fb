"""The contracts of predictors: fit on what was observed, predict for a population, state the held-out error."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..hwmodels.cost import Prediction
from ..spaces.space import SearchSpace

__all__ = ["Predictor"]


@runtime_checkable
class Predictor(Protocol):
    """Learns one quantity from evaluated architectures. Notation: B candidates, G genes."""

    quantity: str

    def fit(self, space: SearchSpace, genomes: NDArray[np.int16], targets: NDArray[np.float64]) -> None:
        """Fit on `genomes` [B, G] and `targets` [B]; raises PredictorError on too few or non-finite targets."""
        ...

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Estimate the quantity for every row, with uncertainty."""
        ...

    def report(self) -> dict[str, float]:
        """Held-out `kendall_tau`, `spearman`, `rmse`, `within_10_percent` and `n`."""
        ...
