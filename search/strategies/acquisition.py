"""What a candidate's values would add to a front: hypervolume improvement, exact for two objectives.

Notation: B candidates, F front members, M objectives (minimised), L directions.

Source: for three and more objectives, Zhang and Golovin, "Random hypervolume scalarizations for provable
multi-objective black box optimization", ICML 2020, https://arxiv.org/abs/2006.04655: the hypervolume is the mean over
random directions of a scalarization, whose improvement is cheap.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..pareto import nondominated_mask

__all__ = ["directions", "improvement"]

Values = NDArray[np.float64]


def improvement(values: Values, front: Values, reference: Values, rays: Values) -> Values:
    """[B] by how much each candidate alone would raise the hypervolume of a front.

    Args:
        values: [B, M].
        front: [F, M] non-dominated values, which may be none.
        reference: [M]; what lies beyond it adds nothing.
        rays: [L, M] of `directions`, used for three and more objectives.
    """
    front = front[(front < reference).all(axis=1)]
    match values.shape[1]:
        case 1:
            best = front.min(initial=float(reference[0]))
            return np.maximum(best - values[:, 0], 0.0)
        case 2:
            return _improvement_in_the_plane(values, front, reference)
        case _:
            return _improvement_by_rays(values, front, reference, rays)


def directions(objectives: int, count: int, rng: np.random.Generator) -> Values:
    """[L, M] random unit vectors of the positive orthant."""
    rays = np.abs(rng.standard_normal((count, objectives))) + 1e-9
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _improvement_in_the_plane(values: Values, front: Values, reference: Values) -> Values:
    """Sum over the strips between neighbouring front members of the area that the candidate adds there."""
    front = front[nondominated_mask(front)] if len(front) else front
    front = front[np.argsort(front[:, 0])]
    edges = np.concatenate([[-np.inf], front[:, 0], [reference[0]]])
    heights = np.concatenate([[reference[1]], front[:, 1]])  # what is dominated begins here, strip by strip
    left = np.maximum(edges[:-1], values[:, :1])
    width = np.maximum(edges[1:] - left, 0.0)
    return (width * np.maximum(heights - values[:, 1:], 0.0)).sum(axis=1)


def _improvement_by_rays(values: Values, front: Values, reference: Values, rays: Values) -> Values:
    m = values.shape[1]
    # The volume of a box cone: pi^(M/2) / (2^M Gamma(M/2 + 1)) times the mean of the M-th power of the length.
    constant = math.pi ** (m / 2) / (2**m * math.gamma(m / 2 + 1))
    best = _lengths(front, reference, rays).max(axis=0, initial=0.0)
    gain = np.maximum(_lengths(values, reference, rays) ** m - best**m, 0.0)
    return constant * gain.mean(axis=1)


def _lengths(values: Values, reference: Values, rays: Values) -> Values:
    """[B, L] how far along each ray from the reference the values still dominate."""
    return np.maximum(((reference - values)[:, None, :] / rays).min(axis=2), 0.0)
