"""Ridge regression with robust weights; its strength is chosen by the leave-one-out error, in closed form.

Source: Hoerl and Kennard, Ridge Regression, Technometrics 12(1), 1970; leave-one-out by the hat matrix: Allen, The
Relationship between Variable Selection and Data Augmentation, Technometrics 16(1), 1974.

Notation: N rows, D derived columns (`columns.py`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from .columns import Columns, checked_features, checked_table, part
from .robust import robust_scale, student_weights

__all__ = ["RidgeRegressor"]

STRENGTHS: Final = tuple(10.0**power for power in np.arange(-3.0, 4.5, 0.5))
ROUNDS: Final = 6
"""Weighted fits; the weights have settled by then."""


class RidgeRegressor:
    """A linear model of standardised columns and indicators. A `Regressor`.

    Args:
        robust: weight the rows as `robust.py` says; False = least squares.
        relative: count errors relative to the target, which then must be positive.

    >>> features = np.linspace(0.0, 1.0, 20)[:, None]
    >>> model = RidgeRegressor()
    >>> model.fit(features, 3.0 * features[:, 0] + 1.0)
    >>> round(float(model.predict(np.array([[0.5]]))[0][0]), 2)
    2.5
    """

    least = 5

    def __init__(self, *, robust: bool = True, relative: bool = False) -> None:
        self._robust, self._relative = robust, relative
        self._columns: Columns | None = None
        self._coefficients = np.zeros(0)
        self._intercept = 0.0
        self._std = 0.0
        self.left_out = np.zeros(0)
        """[N] leave-one-out predictions of the rows it was fitted on."""

    def fit(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit on `features` [N, F] and `targets` [N]; raises PredictorError on too few or non-finite rows."""
        table, values = checked_table(features, targets, least=self.least, name="ridge")
        self._columns = Columns.of(table)
        design = self._columns.transform(table)
        if self._relative and (values <= 0).any():
            raise PredictorError(f"ridge: target {float(values.min()):g}; relative errors need positive targets.")
        unit = values / np.median(values) if self._relative else np.ones(len(values))
        weights = unit**-2.0
        for _ in range(ROUNDS if self._robust else 1):
            self._solve(design, values, weights, unit)
            weights = student_weights((values - self.left_out) / unit) / unit**2
        self._std = robust_scale((values - self.left_out) / unit)

    def _solve(
        self, design: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64],
        unit: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """One weighted fit at the strength of least left-out error, absolute where robust, in units of each row."""
        total = weights.sum()
        middle, level = weights @ design / total, float(weights @ values / total)
        centred = design - middle
        # Columns may repeat each other; eigenvalues of the Gram matrix take that, clipped at 0.
        squares, axes = np.linalg.eigh(centred.T @ (weights[:, None] * centred))
        squares = np.maximum(squares, 0.0)
        rotated = centred @ axes
        wanted = rotated.T @ (weights * (values - level))
        best = np.inf
        for strength in STRENGTHS:
            inverse = 1.0 / (squares + strength)
            leverage = weights * (rotated**2 @ inverse + 1.0 / total)
            fitted = rotated @ (inverse * wanted) + level
            errors = (values - fitted) / (1.0 - np.minimum(leverage, 1.0 - 1e-6))
            loss = float(np.mean(np.abs(errors / unit) if self._robust else (errors / unit) ** 2))
            if loss < best:
                best = loss
                self._coefficients = axes @ (inverse * wanted)
                self._intercept = level - float(middle @ self._coefficients)
                self.left_out = values - errors

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and standard deviation [B] of the error of every row of `features` [B, F]."""
        if self._columns is None:
            raise PredictorError("ridge: nothing was fitted yet; call fit first.")
        table = checked_features(features, self._columns.width, name="ridge")
        mean = self._columns.transform(table) @ self._coefficients + self._intercept
        return mean, np.full(len(mean), self._std)

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes; the leave-one-out predictions are not among them."""
        if self._columns is None:
            raise PredictorError("ridge: nothing was fitted yet, so there is nothing to store.")
        return {f"columns.{key}": value for key, value in self._columns.state().items()} | {
            "coefficients": self._coefficients,
            "constants": np.array([self._intercept, self._std, float(self._robust), float(self._relative)]),
        }

    @classmethod
    def restore(cls, state: dict[str, NDArray[np.float64]]) -> RidgeRegressor:
        """The regressor that `state` came from."""
        model = cls(robust=bool(state["constants"][2]), relative=bool(state["constants"][3]))
        model._columns = Columns.restore(part(state, "columns"))
        model._coefficients = state["coefficients"]
        model._intercept, model._std = (float(value) for value in state["constants"][:2])
        return model
