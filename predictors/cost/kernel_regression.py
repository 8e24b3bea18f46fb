"""A Gaussian process for the logarithm of kernel times: smooth in sizes, and less certain away from measurements.

Covariance of two kernels with standardised features x and x'::

    linear * (1 + x . x') + scale * matern(|(x - x') / length|) + noise [x is x']

The linear part extrapolates as physics does (time grows as a power of sizes), the Matérn part with one length per
feature bends it. All are chosen by the marginal likelihood, with a weak prior that keeps lengths near the features'
own.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press 2006, equations 2.30 and 5.9 (the
gradient), 4.17 (Matérn, nu = 5/2).

Notation: N rows to fit, B rows asked, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from ...errors import PredictorError

__all__ = ["LogProcess"]

LEAST_ROWS: Final = 4

_PRIOR_LENGTH: Final = np.log(4.0)
_PRIOR_SPREAD: Final = 1.0
_START_NOISE: Final = 2.0 * np.log(0.02)
_BOUNDS: Final = ((-9.0, 6.0), (-9.0, 4.0), (2.0 * np.log(0.002), 2.0 * np.log(0.5)))
"""Of the logarithms of the linear, Matérn and noise variances."""


class LogProcess:
    """A `Regressor` of smooth functions of few features.

    Args:
        iterations: of the optimiser at most.

    >>> x = np.linspace(0.0, 3.0, 30)[:, None]
    >>> process = LogProcess()
    >>> process.fit(x, np.sin(x[:, 0]))
    >>> mean, std = process.predict(np.array([[1.55]]))
    >>> bool(abs(mean[0] - np.sin(1.55)) < 0.01 and std[0] < 0.05)
    True
    """

    def __init__(self, *, iterations: int = 60) -> None:
        self._iterations = iterations
        self._state: dict[str, NDArray[np.float64]] = {}

    def fit(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit on `features` [N, F] and `targets` [N].

        Raises:
            PredictorError: fewer than `LEAST_ROWS` rows, or a value that is not finite.
        """
        if features.ndim != 2 or len(features) != len(targets) or len(targets) < LEAST_ROWS:
            raise PredictorError(
                f"kernel regression: got features {features.shape} and {len(targets)} targets; at least {LEAST_ROWS} "
                "rows of each are needed."
            )
        if not (np.isfinite(features).all() and np.isfinite(targets).all()):
            raise PredictorError("kernel regression: a feature or target is not finite; leave such rows out.")
        centre, spread = features.mean(axis=0), features.std(axis=0)
        used = spread > 1e-9
        inputs = (features[:, used] - centre[used]) / spread[used]
        offset = float(targets.mean())
        start = np.concatenate([[0.0, -2.0, _START_NOISE], np.full(used.sum(), _PRIOR_LENGTH)])
        bounds = [*_BOUNDS, *[(-2.0, 6.0)] * int(used.sum())]
        found = optimize.minimize(
            _objective, start, (inputs, targets - offset), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": self._iterations},
        )  # fmt: skip
        factor = linalg.cholesky(_covariance(inputs, found.x)[0], lower=True)
        self._state = {
            "centre": centre, "spread": spread, "used": used.astype(np.float64), "inputs": inputs,
            "parameters": found.x, "factor": factor, "offset": np.array([offset]),
            "weights": linalg.cho_solve((factor, True), targets - offset),
        }  # fmt: skip

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and standard deviation [B] of every row of `features` [B, F], noise of a measurement included."""
        if not self._state:
            raise PredictorError("kernel regression: predict before fit; fit on measured kernels first.")
        state = self._state
        used = state["used"] > 0
        asked = (features[:, used] - state["centre"][used]) / state["spread"][used]
        linear, scale, noise = np.exp(state["parameters"][:3])
        across, _ = _correlations(asked, state["inputs"], state["parameters"][3:])
        across = linear * (1.0 + asked @ state["inputs"].T) + scale * across
        solved = linalg.solve_triangular(state["factor"], across.T, lower=True)
        variance = linear * (1.0 + (asked**2).sum(axis=1)) + scale + noise - (solved**2).sum(axis=0)
        return across @ state["weights"] + state["offset"][0], np.sqrt(np.maximum(variance, noise))

    def leave_one_out(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[N] errors of the process at each row when it is left out, and [N] the standard deviations it stated.

        Source: Rasmussen and Williams, equations 5.10 to 5.12.
        """
        inverse = linalg.cho_solve((self._state["factor"], True), np.eye(len(self._state["weights"])))
        return self._state["weights"] / np.diag(inverse), 1.0 / np.sqrt(np.diag(inverse))

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Everything that `predict` needs, as arrays."""
        return dict(self._state)

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[np.float64]]) -> LogProcess:
        """What `state` gave."""
        process = cls()
        process._state = {name: np.asarray(value, dtype=np.float64) for name, value in state.items()}
        return process


def _correlations(
    left: NDArray[np.float64], right: NDArray[np.float64], log_lengths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[L, R] Matérn correlations with nu = 5/2, and the factor of their derivative by a log length."""
    lengths = np.exp(log_lengths)
    a, b = left / lengths, right / lengths
    squared = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2.0 * a @ b.T, 0.0)
    root = np.sqrt(5.0 * squared)
    decay = np.exp(-root)
    return (1.0 + root + root**2 / 3.0) * decay, (5.0 / 3.0) * (1.0 + root) * decay


def _covariance(
    inputs: NDArray[np.float64], parameters: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """[N, N] covariance, its linear part and its Matérn part, and the derivative factor of the latter."""
    linear, scale, noise = np.exp(parameters[:3])
    correlation, slope = _correlations(inputs, inputs, parameters[3:])
    straight, curved = linear * (1.0 + inputs @ inputs.T), scale * correlation
    return straight + curved + (noise + 1e-9) * np.eye(len(inputs)), straight, curved, scale * slope


def _objective(
    parameters: NDArray[np.float64], inputs: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Negative log posterior of the parameters, and its gradient."""
    covariance, straight, curved, slope = _covariance(inputs, parameters)
    factor = linalg.cholesky(covariance, lower=True)
    weights = linalg.cho_solve((factor, True), targets)
    pull = np.outer(weights, weights) - linalg.cho_solve((factor, True), np.eye(len(targets)))
    noise = np.exp(parameters[2])
    lengths = np.exp(parameters[3:])
    away = (parameters[3:] - _PRIOR_LENGTH) / _PRIOR_SPREAD
    bent = pull * slope
    # sum_ij bent_ij (x_i - x_j)^2, one per feature
    moved = 2.0 * ((inputs**2).T @ bent.sum(axis=1) - np.einsum("nf,nm,mf->f", inputs, bent, inputs, optimize=True))
    gradient = -0.5 * np.concatenate([
        [(pull * straight).sum(), (pull * curved).sum(), noise * np.trace(pull)], moved / lengths**2
    ])  # fmt: skip
    gradient[3:] += away / _PRIOR_SPREAD
    value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * (away**2).sum()
    return float(value), gradient
