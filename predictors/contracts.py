"""The contracts of predictors: fit on what was observed, predict for a population, state the held-out error."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..hwmodels.cost import Prediction
from ..spaces.space import SearchSpace

__all__ = ["Predictor", "Regressor"]


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


@runtime_checkable
class Regressor(Protocol):
    """Arrays in, mean and uncertainty out; knows nothing of spaces. Notation: N rows to fit, B rows asked, F features.

    Settings and the seed are given to the constructor; equal settings, seed and data give equal predictions.
    """

    def fit(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit on `features` [N, F] and `targets` [N]; raises PredictorError on too few or non-finite rows."""
        ...

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and standard deviation [B] of the error of every row of `features` [B, F]."""
        ...
