"""Gaussian-process regression over additive blocks of discrete and continuous columns, with a learned target scale.

Length scales (one per group of columns, as automatic relevance determination has it), block variances, noise and the
bend of the targets' scale are fitted together by marginal likelihood with analytic gradients. The length scales of one
block are drawn towards each other: with a hundred rows, free ones would fit noise. Above `Settings.fitting_rows` rows
the parameters are found on an even sample of them; the posterior always uses all.

Notation: N fitted rows, B rows asked, F columns, C blocks.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2 and 5.4 (equations 5.8 to
5.12); warped targets: see `warp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import get_lapack_funcs
from scipy.optimize import minimize

from ...errors import PredictorError
from .columns import checked_features, checked_table
from .covariance import Block, Covariance
from .warp import BOUNDS, Warp

__all__ = ["GaussianProcess", "GaussianProcessSettings", "Posterior"]

Array = NDArray[np.float64]

_NOISE: Final = float(np.log(0.1))
"""Start and prior mean of the log noise variance, for targets of variance 1."""

_NOISE_BOUNDS: Final = (-8.0, 2.0)
_SCALE_BOUNDS: Final = (-10.0, 4.0)
_LENGTH_BOUNDS: Final = (-14.0, 10.0)
_JITTER: Final = 1e-8
_CHUNK: Final = 4096
(_dpotri,) = get_lapack_funcs(("potri",), dtype=np.float64)
_NEGLIGIBLE: Final = 1e-3
"""Blocks of a smaller share of the prior variance, times the number of blocks, are left out of predictions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianProcessSettings:
    """How the parameters are fitted.

    Attributes:
        warp: whether the targets' scale is learned; otherwise targets are standardised only.
        tied_std: prior standard deviation of a group's log length scale around its block's mean.
        fitting_rows: most rows that parameters are fitted on.
        iterations: most steps of the optimiser.
    """

    warp: bool = True
    tied_std: float = 0.7
    fitting_rows: int = 320
    iterations: int = 50

    def __post_init__(self) -> None:
        for name in ("tied_std", "fitting_rows", "iterations"):
            if not getattr(self, name) > 0:
                raise PredictorError(f"Gaussian process: {name} is {getattr(self, name)}; it must be positive.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Belief about the noise-free values of rows, on the Gaussian scale of `GaussianProcess.to_latent`.

    Attributes:
        mean: [B].
        covariance: [B, B].
    """

    mean: Array
    covariance: Array

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """[n, B] joint draws, by the eigenvectors of the covariance."""
        values, vectors = linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return self.mean + rng.standard_normal((n, len(self.mean))) @ root.T


class GaussianProcess:
    """Gaussian-process regression. A `Regressor`.

    Args:
        blocks: terms of the covariance; None = one linear and one squared-exponential block over all columns.
        settings: how parameters are fitted.

    >>> x = np.linspace(0.0, 1.0, 20)[:, None]
    >>> gp = GaussianProcess()
    >>> gp.fit(x, np.sin(4.0 * x[:, 0]))
    >>> mean, std = gp.predict(np.array([[0.5]]))
    >>> bool(abs(mean[0] - np.sin(2.0)) < 0.01)
    True
    """

    least = 2
    """Fewest rows to fit."""

    def __init__(
        self, blocks: Sequence[Block] | None = None, *, settings: GaussianProcessSettings | None = None
    ) -> None:
        self.settings = settings or GaussianProcessSettings()
        self._blocks = None if blocks is None else tuple(blocks)
        self._covariance: Covariance | None = None

    # --- fitting --------------------------------------------------------------------------------------------------

    def fit(self, features: Array, targets: Array) -> None:
        """Fit on `features` [N, F] and `targets` [N].

        Raises:
            PredictorError: fewer than 2 rows, a value that is not finite, or shapes that do not fit.
        """
        features, targets = checked_table(features, targets, least=self.least, name="Gaussian process")
        self._features, self._targets = features, targets
        self._covariance = Covariance(_default_blocks(features) if self._blocks is None else self._blocks)
        rows = np.linspace(0, len(targets) - 1, min(len(targets), self.settings.fitting_rows)).round().astype(np.intp)
        self._optimise(features[rows], targets[rows])
        self._condition()

    def _optimise(self, x: Array, y: Array) -> None:
        """Find warp, noise and covariance parameters of highest posterior density."""
        covariance = self._fitted()
        self._warp = Warp.fit(y)
        start = np.concatenate([[0.0, 0.0, _NOISE], covariance.start(x)])
        blocks = len(covariance.blocks)
        if not np.ptp(y):
            self._noise, self._parameters = float(np.exp(_NOISE)), start[3:]
            return
        bounds = [*BOUNDS, _NOISE_BOUNDS, *[_SCALE_BOUNDS] * blocks]
        if not self.settings.warp:
            bounds[:2] = [(0.0, 0.0)] * 2
        bounds += [_LENGTH_BOUNDS] * (covariance.size - blocks)
        objective = _Objective(covariance, self._warp, x, y, self.settings.tied_std)
        found = minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": self.settings.iterations}
        )
        epsilon, log_delta, log_noise = (float(value) for value in found.x[:3])
        self._warp = Warp.fit(y, epsilon, log_delta)
        self._noise, self._parameters = float(np.exp(log_noise)), found.x[3:]

    def _condition(self) -> None:
        """Factorise the covariance of all rows."""
        covariance = self._fitted()
        shares = covariance.shares(self._parameters, self._features)
        self._keep = shares > _NEGLIGIBLE / len(shares)
        matrix = covariance.matrix(self._parameters, self._features, self._features, self._keep)
        matrix[np.diag_indices(len(matrix))] += self._noise + _JITTER
        self._factor = linalg.cholesky(matrix, lower=True, check_finite=False)
        self._latent = self._warp.forward(self._targets)
        self._alpha = linalg.cho_solve((self._factor, True), self._latent, check_finite=False)

    def with_pending(self, features: Array) -> GaussianProcess:
        """A copy that believes its own mean at rows `features` [P, F] whose targets are not known yet."""
        latent, _ = self.predict_latent(features)
        return self.with_rows(features, self.to_targets(latent))

    def with_rows(self, features: Array, targets: Array) -> GaussianProcess:
        """A copy that knows more rows, with the parameters as they are; far cheaper than a fit."""
        copy = GaussianProcess(self._blocks, settings=self.settings)
        features, targets = checked_table(features, targets, least=0, name="Gaussian process")
        copy._covariance, copy._warp, copy._noise = self._fitted(), self._warp, self._noise
        copy._parameters = self._parameters
        copy._features = np.concatenate([self._features, features])
        copy._targets = np.concatenate([self._targets, targets])
        copy._condition()
        return copy

    # --- predicting -----------------------------------------------------------------------------------------------

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Median [B] and standard deviation [B] of a new observation at `features` [B, F], in the targets' unit.

        Where the scale is bent, the standard deviation is half the width between the 16 and 84 % quantiles.
        """
        mean, std = self.predict_latent(features)
        spread = np.sqrt(std * std + self._noise)
        low, high = (self._warp.inverse(mean + spread * sign) for sign in (-1.0, 1.0))
        return self._warp.inverse(mean), 0.5 * (high - low)

    def predict_latent(self, features: Array) -> tuple[Array, Array]:
        """Mean [B] and standard deviation [B] of the noise-free value on the Gaussian scale (see `to_latent`)."""
        covariance = self._fitted()
        features = self._checked_rows(features)
        mean, variance = np.empty(len(features)), np.empty(len(features))
        for start in range(0, len(features), _CHUNK):
            rows = slice(start, start + _CHUNK)
            cross = covariance.matrix(self._parameters, features[rows], self._features, self._keep)
            mean[rows] = cross @ self._alpha
            solved = linalg.solve_triangular(self._factor, cross.T, lower=True, check_finite=False, overwrite_b=True)
            prior = covariance.diagonal(self._parameters, features[rows], self._keep)
            variance[rows] = prior - np.einsum("nb,nb->b", solved, solved)
        return mean, np.sqrt(np.maximum(variance, _JITTER))

    def posterior(self, features: Array) -> Posterior:
        """Joint belief about rows `features` [B, F], for Thompson sampling; O(B^2) memory."""
        covariance = self._fitted()
        features = self._checked_rows(features)
        cross = covariance.matrix(self._parameters, features, self._features, self._keep)
        solved = linalg.solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        own = covariance.matrix(self._parameters, features, features, self._keep)
        return Posterior(mean=cross @ self._alpha, covariance=own - solved.T @ solved)

    def to_latent(self, targets: Array) -> Array:
        """Targets of any shape on the Gaussian scale, where fitted targets have mean 0 and variance 1; increasing."""
        self._fitted()
        return self._warp.forward(targets)

    def to_targets(self, latent: Array) -> Array:
        """The inverse of `to_latent`, clipped to at most the fitted range beyond the fitted targets."""
        self._fitted()
        return self._warp.inverse(latent)

    def leave_one_out(self) -> tuple[Array, Array]:
        """Mean [N] and standard deviation [N] of each fitted row on the Gaussian scale, had it been left out.

        The parameters stay those of all rows. Source: Rasmussen and Williams, equations 5.10 to 5.12.
        """
        self._fitted()
        inverse = linalg.solve_triangular(self._factor, np.eye(len(self._factor)), lower=True, check_finite=False)
        precision = np.einsum("ij,ij->j", inverse, inverse)
        return self._latent - self._alpha / precision, np.sqrt(1.0 / precision)

    @property
    def warp(self) -> Warp:
        """The fitted map to the Gaussian scale."""
        self._fitted()
        return self._warp

    @property
    def noise_variance(self) -> float:
        """Variance of an observation around the noise-free value, on the Gaussian scale."""
        self._fitted()
        return self._noise

    @property
    def shares(self) -> dict[str, float]:
        """Share of the prior variance by block name: what the model found to matter."""
        covariance, out = self._fitted(), dict[str, float]()
        for block, share in zip(covariance.blocks, covariance.shares(self._parameters, self._features), strict=True):
            out[block.name] = out.get(block.name, 0.0) + float(share)
        return out

    def _fitted(self) -> Covariance:
        if self._covariance is None:
            raise PredictorError("the Gaussian process was asked before it was fitted; call fit() first.")
        return self._covariance

    def _checked_rows(self, features: Array) -> Array:
        return checked_features(features, self._features.shape[1], name="Gaussian process")


class _Objective:
    """Negative log posterior density of all parameters, and its gradient."""

    def __init__(self, covariance: Covariance, warp: Warp, x: Array, y: Array, tied_std: float) -> None:
        self._covariance, self._warp, self._x, self._y = covariance, warp, x, y
        self._tied_std = tied_std
        self._start = np.concatenate([[_NOISE], covariance.start(x)])

    def __call__(self, values: Array) -> tuple[float, Array]:
        warped = self._warp.gradient(self._y, float(values[0]), float(values[1]))
        matrix, pullback = self._covariance.value_and_pullback(values[3:], self._x)
        noise = np.exp(values[2])
        matrix[np.diag_indices(len(matrix))] += noise + _JITTER
        try:
            factor = linalg.cholesky(matrix, lower=True, check_finite=False)
        except linalg.LinAlgError:  # a step too far: the line search turns back
            return 1e10, np.zeros_like(values)
        inverse = np.asarray(_dpotri(factor, lower=1)[0])
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        t = warped.targets
        alpha = inverse @ t
        # Equation 5.9 with the opposite sign: the negative log likelihood's gradient by the matrix is half of this.
        weights = inverse - np.outer(alpha, alpha)
        value = 0.5 * float(t @ alpha) + float(np.log(np.diag(factor)).sum()) - warped.log_jacobian
        gradient = np.concatenate(
            [
                warped.slopes @ alpha - warped.log_jacobian_slopes,
                [0.5 * noise * np.trace(weights)],
                0.5 * pullback(weights),
            ]
        )
        prior, prior_gradient = self._prior(values[2:])
        gradient[2:] += prior_gradient
        return value + prior, gradient

    def _prior(self, parameters: Array) -> tuple[float, Array]:
        """Gaussian priors: wide on noise, variances and mean length scales, `tied_std` around a block's mean."""
        away = parameters - self._start
        gradient = away / 9.0
        value = 0.5 * float(away @ gradient)
        for span in self._covariance.spans:
            span = slice(span.start + 1, span.stop + 1)
            offsets = away[span]
            value -= 0.5 * float(offsets @ offsets) / 9.0
            mean = offsets.mean()
            apart = (offsets - mean) / self._tied_std**2
            value += 0.5 * float((offsets - mean) @ apart) + 0.5 * mean * mean / 4.0
            gradient[span] = apart + mean / (4.0 * len(offsets))
        return value, gradient


def _default_blocks(features: Array) -> tuple[Block, ...]:
    columns = tuple(range(features.shape[1]))
    return (
        Block(name="linear", columns=columns, groups=columns, shape="linear"),
        Block(name="interactions", columns=columns, groups=columns),
    )
