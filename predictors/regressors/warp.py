"""A monotone map that makes targets look Gaussian: accuracies crowd below a ceiling and trail off, losses the reverse.

    w = sinh(delta * asinh(z) - epsilon),  z = (y - median) / scale,  t = (w - mean w) / std w

`epsilon` bends one tail, `delta` both; (0, 1) is the identity. A Gaussian process finds both by marginal likelihood,
together with its kernel's parameters, so that no transform has to be chosen for a table by hand.

Source: Jones and Pewsey, Sinh-arcsinh distributions, Biometrika 96(4), 2009; Snelson et al., Warped Gaussian Processes,
NeurIPS 2003.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOUNDS", "Warp", "WarpGradient"]

Array = NDArray[np.float64]

BOUNDS: Final = ((-3.0, 3.0), (-2.0, 1.5))
"""Allowed epsilon and log delta."""

PRIOR_STD: Final = (1.0, 0.7)
"""Of epsilon and log delta: weak, so that a few dozen targets do not bend the scale on their own."""

_INTERQUARTILE: Final = 1.349
"""Interquartile range of a standard Gaussian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpGradient:
    """Warped targets and what an optimiser needs of them.

    Attributes:
        targets: [N] of mean 0 and standard deviation 1.
        slopes: [2, N] their derivatives by epsilon and log delta.
        log_jacobian: sum over targets of log dt/dz, with the prior's log density.
        log_jacobian_slopes: [2] its derivatives.
    """

    targets: Array
    slopes: Array
    log_jacobian: float
    log_jacobian_slopes: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """The map with its parameters.

    Attributes:
        center, scale: from targets to z.
        epsilon, log_delta: of the sinh-arcsinh.
        mean, std: of w over the fitted targets.
        low, high: inverse values are clipped to these, as extreme w would be blown up.
    """

    center: float
    scale: float
    epsilon: float = 0.0
    log_delta: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    low: float = -np.inf
    high: float = np.inf

    @classmethod
    def fit(cls, targets: Array, epsilon: float = 0.0, log_delta: float = 0.0) -> Warp:
        """The map with these parameters that standardises `targets` [N]; constant targets give the zero map."""
        quarter, center, three_quarters = np.quantile(targets, [0.25, 0.5, 0.75])
        spread = float(np.ptp(targets))
        scale = max((three_quarters - quarter) / _INTERQUARTILE, 1e-3 * float(targets.std()))
        bare = cls(center=float(center), scale=float(scale) or 1.0, epsilon=epsilon, log_delta=log_delta)
        w = bare.forward(targets)
        return cls(
            center=bare.center, scale=bare.scale, epsilon=epsilon, log_delta=log_delta,
            mean=float(w.mean()), std=float(w.std()) or 1.0,
            low=float(targets.min()) - spread, high=float(targets.max()) + spread,
        )  # fmt: skip

    def forward(self, targets: Array) -> Array:
        """Targets of any shape on the Gaussian scale."""
        z = (np.asarray(targets, dtype=np.float64) - self.center) / self.scale
        return (np.sinh(np.exp(self.log_delta) * np.arcsinh(z) - self.epsilon) - self.mean) / self.std

    def inverse(self, warped: Array) -> Array:
        """Values on the Gaussian scale, of any shape, back to targets; never further out than the targets' range."""
        angle = (np.arcsinh(warped * self.std + self.mean) + self.epsilon) / np.exp(self.log_delta)
        return np.clip(self.center + self.scale * np.sinh(np.clip(angle, -50.0, 50.0)), self.low, self.high)

    def gradient(self, targets: Array, epsilon: float, log_delta: float) -> WarpGradient:
        """`targets` [N] under other parameters, with derivatives."""
        z = (targets - self.center) / self.scale
        angle = np.exp(log_delta) * np.arcsinh(z)
        u = angle - epsilon
        w, cosh, tanh = np.sinh(u), np.cosh(u), np.tanh(u)
        std = float(w.std()) or 1.0
        t = (w - w.mean()) / std
        raw = np.stack([-cosh, cosh * angle])
        log_std = (raw * t).mean(axis=1) / std  # derivative of log std w
        slopes = (raw - raw.mean(axis=1, keepdims=True)) / std - t * log_std[:, None]
        parameters, prior = np.array([epsilon, log_delta]), np.array(PRIOR_STD) ** 2
        log_jacobian = np.log(cosh) + log_delta - 0.5 * np.log1p(z * z) - np.log(std)
        jacobian_slopes = np.stack([-tanh, tanh * angle + 1.0]) - log_std[:, None]
        return WarpGradient(
            targets=t,
            slopes=slopes,
            log_jacobian=float(log_jacobian.sum() - 0.5 * (parameters**2 / prior).sum()),
            log_jacobian_slopes=jacobian_slopes.sum(axis=1) - parameters / prior,
        )
