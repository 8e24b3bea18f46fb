"""The default for costs: ridges, Gaussian process and boosted trees together, weighed by what each predicts unseen.

Costs are positive and matter by ratio, so logarithms are fitted, or relative errors where the cost is a sum. Each
member follows the median (`robust.py`), because measurements come in heaps; the weights minimise the mean absolute
error of the members' left-out predictions, the rows they were fitted on not seen. The stated deviation is scaled until
it holds 68 % of the left-out errors: it is half the width of that interval, and with heaps of disturbed measurements
larger errors are more frequent than a normal law says.

Source: Wolpert, Stacked Generalization, Neural Networks 5(2), 1992; Breiman, Stacked Regressions, Machine Learning 24,
1996 (non-negative weights).

Notation: N rows to fit, B rows asked, F features, M members.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from .boosting import BoostingRegressor
from .columns import checked_table, part
from .ridge import RidgeRegressor
from .robust import ONE_SIGMA
from .robust_gp import RobustGP

__all__ = ["CostRegressor"]

MEMBERS: Final = {"additive": RidgeRegressor, "ridge": RidgeRegressor, "gp": RobustGP, "boosting": BoostingRegressor}
"""By name; the first fits the cost itself, a sum over what a network is made of, the others its logarithm."""

FLOOR: Final = 0.1
"""A sum may come out negative: the first member says at least this share of the least cost seen."""

GRID: Final = 10
"""Weights are multiples of one over this."""

SHIFTS: Final = np.linspace(-0.06, 0.06, 49)
"""Common factors tried (logarithms)."""

INDIFFERENT: Final = 1.01
"""Shifts whose mean relative error is within this factor of the least are told apart by their share within ±10 %."""


class CostRegressor:
    """Positive targets (a latency, an energy) from any table of numbers. A `Regressor`.

    Args:
        seed: of everything random in the members.

    >>> rng = np.random.default_rng(0)
    >>> table = rng.uniform(1.0, 4.0, (80, 3))
    >>> model = CostRegressor()
    >>> model.fit(table, table[:, 0] * table[:, 1] + 1.0)
    >>> mean, std = model.predict(np.array([[2.0, 3.0, 1.0]]))
    >>> bool(abs(mean[0] - 7.0) < 0.35)
    True
    """

    least = 20

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        self._members: dict[str, RidgeRegressor | RobustGP | BoostingRegressor] = {}
        self._shift, self._calibration, self._least = 0.0, 1.0, 0.0
        self.weights: dict[str, float] = {}
        """What each member contributes; adds up to 1."""

    def fit(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit on `features` [N, F] and `targets` [N] > 0; raises PredictorError on too few, bad or constant rows."""
        table, values = checked_table(features, targets, least=self.least, name="cost regressor")
        if (values <= 0).any():
            raise PredictorError(
                f"cost regressor: target {float(values.min()):g} in row {int(values.argmin())}; costs must be "
                "positive. Leave failed measurements out."
            )
        logs = np.log(values)
        gp = RobustGP(seed=self._seed)
        self._members = {
            "additive": RidgeRegressor(relative=True), "ridge": RidgeRegressor(), "gp": gp,
            "boosting": BoostingRegressor(seed=self._seed),
        }  # fmt: skip
        for name, member in self._members.items():
            member.fit(table, values if name == "additive" else logs)
        self._least = FLOOR * float(values.min())
        left_out = np.stack([self._log(name, member.left_out) for name, member in self._members.items()])
        chosen = _weights(left_out, logs)
        self.weights = dict(zip(self._members, chosen.tolist(), strict=True))
        self._shift = _shift(logs - chosen @ left_out)
        deviation = _deviation(left_out, chosen, gp.left_out_std)
        errors = np.abs(np.expm1(chosen @ left_out + self._shift - logs))
        self._calibration = float(np.quantile(errors / deviation, ONE_SIGMA))

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] (the median, where errors are lopsided) and deviation [B] of the error of `features` [B, F]."""
        mean, deviation = self._stated(features)
        cost = np.exp(mean + self._shift)
        return cost, self._calibration * deviation * cost

    def _stated(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weighed mean of the members [B], and before calibration how far it may be off [B]."""
        if not self.weights:
            raise PredictorError("cost regressor: nothing was fitted yet; call fit first.")
        answers = {name: self._members[name].predict(features) for name in self._members}
        each = np.stack([self._log(name, mean) for name, (mean, _) in answers.items()])
        weights = np.array([self.weights[name] for name in answers])
        return weights @ each, _deviation(each, weights, answers["gp"][1])

    def _log(self, name: str, answer: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logarithm of the cost that a member's answer means."""
        return np.log(np.maximum(answer, self._least)) if name == "additive" else answer

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes."""
        if not self.weights:
            raise PredictorError("cost regressor: nothing was fitted yet, so there is nothing to store.")
        arrays = {
            f"{name}.{key}": value for name, member in self._members.items() for key, value in member.state().items()
        }
        constants = np.array([self._seed, self._shift, self._calibration, self._least, *self.weights.values()])
        return arrays | {"constants": constants}

    @classmethod
    def restore(cls, state: dict[str, NDArray[np.float64]]) -> CostRegressor:
        """The regressor that `state` came from."""
        seed, shift, calibration, least, *weights = (float(value) for value in state["constants"])
        model = cls(seed=int(seed))
        model._shift, model._calibration, model._least = shift, calibration, least
        model._members = {name: kind.restore(part(state, name)) for name, kind in MEMBERS.items()}
        model.weights = dict(zip(MEMBERS, weights, strict=True))
        return model


def _deviation(
    each: NDArray[np.float64], weights: NDArray[np.float64], own: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[B] how far the mean of members [M, B] may be off: the process's own deviation [B] and their disagreement."""
    return np.hypot(own, np.sqrt(weights @ (each - weights @ each) ** 2))


def _weights(left_out: NDArray[np.float64], logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """[M] non-negative multiples of 1 / `GRID` that add up to 1, of least mean absolute left-out error."""
    members = len(left_out)
    grid = np.array([row for row in itertools.product(range(GRID + 1), repeat=members) if sum(row) == GRID]) / GRID
    losses = [float(np.mean(np.abs(weights @ left_out - logs))) for weights in grid]
    return grid[int(np.argmin(losses))]


def _shift(errors: NDArray[np.float64]) -> float:
    """What to add to log predictions with these errors [N] (truth minus prediction).

    Where several shifts have nearly the least mean relative error, one is taken that brings more rows within ±10 %. The
    share is smoothed over neighbouring shifts, for few rows make it jump.
    """
    relative = np.abs(np.expm1(SHIFTS[:, None] + float(np.median(errors)) - errors))
    off = relative.mean(axis=1)
    share = np.convolve((relative <= 0.1).mean(axis=1), np.ones(5) / 5, mode="same")
    share[off > INDIFFERENT * off.min()] = -1.0
    return float(np.median(errors) + SHIFTS[int(share.argmax())])
