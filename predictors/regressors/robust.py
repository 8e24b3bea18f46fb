"""Robust weights: latencies have modes, so least squares follows the wrong ones.

A device that changes its clock, or that something else disturbs, gives a second heap of measurements, 10 to 40 % above
the first. Errors are therefore taken as Student-t distributed: a fit with weights, repeated with the weights that its
own errors imply, ends at the first heap.

Source: Lange, Little, Taylor, Robust Statistical Modeling Using the t Distribution, JASA 84(408), 1989 (weights of the
EM algorithm).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ONE_SIGMA", "robust_scale", "student_weights"]

FREEDOM: Final = 2.0
"""Degrees of freedom of the errors: heavy tails, median-like fits."""

ONE_SIGMA: Final = 0.6827
"""Share of normal errors within one standard deviation."""


def robust_scale(errors: NDArray[np.float64]) -> float:
    """Standard deviation of normal errors with the same median absolute value; at least 1e-9."""
    return max(1.4826 * float(np.median(np.abs(errors))), 1e-9)


def student_weights(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] weights of measurements with these errors, between 0 and 1.5; 1 at one standard deviation."""
    return (FREEDOM + 1.0) / (FREEDOM + (errors / robust_scale(errors)) ** 2)
