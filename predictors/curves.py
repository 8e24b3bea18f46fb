"""Learning curves: where a training run will end, from its first epochs.

A curve is fitted by several families of saturating curves, ``value(t) = end + drop * basis(t)``, each linear once its
shape is fixed, so that all curves are fitted by one matrix product per shape. Shapes are averaged by how well they fit
each curve; a prior on `drop` keeps short, noisy curves from being extrapolated boldly. Where finished runs are known,
`CurveModel` learns from them how those extrapolations, the last values and the slope foretell the end.

Source: Domhan et al., Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by Extrapolation of
Learning Curves, IJCAI 2015 (families of curves); Klein et al., Learning Curve Prediction with Bayesian Neural Networks,
ICLR 2017 (learning across curves).

Notation: N finished curves, B curves to extrapolate, T epochs seen, L epochs in all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from .regressors.covariance import Block
from .regressors.gp import GaussianProcess

__all__ = ["FEATURES", "CurveModel", "curve_features", "extrapolate"]

Array = NDArray[np.float64]

POWERS: Final = (0.25, 0.5, 1.0, 2.0)
"""Of power laws t ** -power."""

DECAYS: Final = (0.1, 0.3, 1.0)
"""Of exponentials exp(-t / (decay * T)), relative to the epochs seen."""

FEATURES: Final = ("extrapolated", "spread of extrapolations", "last", "smoothed last", "best", "slope", "roughness")
"""Columns of `curve_features`."""

_PRIOR: Final = 0.05
"""Ridge on the drop, relative to the weight of the epochs."""

_FADE: Final = 3.0
"""The first epoch weighs exp(-this) of the last: early epochs follow other laws."""


def extrapolate(curves: Array, length: int) -> tuple[Array, Array]:
    """Where curves end, from their first T epochs, with no other knowledge.

    Args:
        curves: [B, T] value after each epoch, T from 1 to `length`.
        length: L, the epochs of a finished run.

    Returns:
        [B] expected value after epoch L, and [B] the standard deviation between the families of curves.

    Raises:
        PredictorError: a shape or value that does not fit.

    >>> t = np.arange(1.0, 11.0)
    >>> end, _ = extrapolate((2.0 + 3.0 / t)[None], 100)
    >>> bool(abs(end[0] - 2.03) < 0.15)
    True
    """
    curves = _checked(curves, length)
    seen = curves.shape[1]
    last = curves[:, -1]
    if seen < 3 or seen == length:
        return last.copy(), np.zeros(len(curves))
    weight = np.exp(_FADE * (np.arange(1, seen + 1) / seen - 1.0))
    ends, errors = [], []
    for now, later in _bases(seen, length):
        # The basis is measured from the last epoch, so that `end` is the level now and `drop` what is to come.
        basis = now - now[-1]
        design = np.column_stack([np.ones(seen), basis])
        normal = design.T @ (weight[:, None] * design)
        normal[1, 1] += _PRIOR * weight.sum() * basis.var()
        level, drop = np.linalg.solve(normal, design.T @ (weight[:, None] * curves.T))
        residual = curves - level[:, None] - drop[:, None] * basis
        errors.append((weight * residual**2).sum(axis=1) / weight.sum())
        ends.append(level + drop * (later - now[-1]))
    candidates, misfit = np.stack(ends), np.stack(errors)
    floor = 1e-12 + 1e-6 * curves.var(axis=1)
    odds = np.log(misfit + floor) * (-0.5 * weight.sum())
    share = np.exp(odds - odds.max(axis=0))
    share /= share.sum(axis=0)
    mean = (share * candidates).sum(axis=0)
    return mean, np.sqrt((share * (candidates - mean) ** 2).sum(axis=0))


def curve_features(curves: Array, length: int) -> Array:
    """[B, len(FEATURES)] what the first T epochs of curves [B, T] tell; the first column is the extrapolation."""
    curves = _checked(curves, length)
    seen = curves.shape[1]
    end, spread = extrapolate(curves, length)
    window = curves[:, -max(1, seen // 4) :]
    half = curves[:, seen // 2 :]
    steps = np.diff(half, axis=1)
    flat = np.zeros(len(curves))
    slope = (half[:, -1] - half[:, 0]) / max(half.shape[1] - 1, 1)
    roughness = np.abs(np.diff(steps, axis=1)).mean(axis=1) if steps.shape[1] > 1 else flat
    best = np.where(slope <= 0, curves.min(axis=1), curves.max(axis=1))
    return np.column_stack([end, spread, curves[:, -1], window.mean(axis=1), best, slope, roughness])


class CurveModel:
    """Learns from finished curves how unfinished ones end.

    Args:
        length: L, the epochs of a finished run.

    >>> rng = np.random.default_rng(0)
    >>> ends = rng.normal(size=60)
    >>> curves = ends[:, None] + rng.uniform(1, 3, 60)[:, None] / np.arange(1.0, 21.0)
    >>> model = CurveModel(length=20)
    >>> model.fit(curves[:40])
    >>> mean, std = model.predict(curves[40:, :5])
    >>> bool(np.abs(mean - curves[40:, -1]).max() < 0.3)
    True
    """

    def __init__(self, *, length: int) -> None:
        if length < 2:
            raise PredictorError(f"learning curves: length is {length}; a curve has at least 2 epochs.")
        self.length = length
        self._curves: Array | None = None
        self._architecture: Array | None = None
        self._models: dict[int, tuple[GaussianProcess, Array, Array]] = {}

    def fit(self, curves: Array, features: Array | None = None) -> None:
        """Keep finished `curves` [N, L], and `features` [N, F] of their architectures if those shall help.

        Raises:
            PredictorError: fewer than 5 curves, other shapes, or values that are not finite.
        """
        curves = _checked(curves, self.length)
        if curves.shape[1] != self.length or len(curves) < 5:
            raise PredictorError(
                f"learning curves: got {curves.shape}; at least 5 finished curves of {self.length} epochs are needed."
            )
        if features is not None and len(features) != len(curves):
            raise PredictorError(f"learning curves: {len(features)} rows of features for {len(curves)} curves.")
        self._curves, self._architecture = curves, features
        self._models = {}

    def predict(self, curves: Array, features: Array | None = None) -> tuple[Array, Array]:
        """Value after epoch L, mean [B] and standard deviation [B], of curves [B, T] after T epochs.

        One model is fitted for each T asked, and kept.
        """
        if self._curves is None:
            raise PredictorError("learning curves: nothing was fitted yet; call fit() first.")
        if (features is None) != (self._architecture is None):
            raise PredictorError("learning curves: give features to both fit and predict, or to neither.")
        curves = _checked(curves, self.length)
        seen = curves.shape[1]
        if seen == self.length:
            return curves[:, -1].copy(), np.zeros(len(curves))
        if seen not in self._models:
            self._models[seen] = self._model(seen)
        model, middle, scale = self._models[seen]
        columns = self._columns(curves, features)
        change, std = model.predict((columns - middle) / scale)
        return extrapolate(curves, self.length)[0] + change, std

    def _model(self, seen: int) -> tuple[GaussianProcess, Array, Array]:
        assert self._curves is not None
        columns = self._columns(self._curves[:, :seen], self._architecture)
        middle, scale = columns.mean(axis=0), columns.std(axis=0)
        scale[scale == 0] = 1.0
        every = tuple(range(columns.shape[1]))
        shapes = ("linear", "rbf")
        model = GaussianProcess([Block(name=shape, columns=every, groups=every, shape=shape) for shape in shapes])
        model.fit((columns - middle) / scale, self._curves[:, -1] - extrapolate(self._curves[:, :seen], self.length)[0])
        return model, middle, scale

    def _columns(self, curves: Array, features: Array | None) -> Array:
        """What the extrapolation's error is learned from: what the curve tells, relative to its last value."""
        told = curve_features(curves, self.length)
        last = told[:, 2:3]
        relative = np.column_stack([told[:, [0, 3, 4]] - last, told[:, [1, 2, 5, 6]]])
        return relative if features is None else np.column_stack([relative, features])


def _bases(seen: int, length: int) -> list[tuple[Array, float]]:
    """Every shape: its values at epochs 1 … T, and at epoch L."""
    t = np.arange(1.0, seen + 1.0)
    powers = [(t**-power, float(length) ** -power) for power in POWERS]
    decays = [(np.exp(-t / (decay * seen)), float(np.exp(-length / (decay * seen)))) for decay in DECAYS]
    return [*powers, *decays]


def _checked(curves: Array, length: int) -> Array:
    array = np.asarray(curves, dtype=np.float64)
    if array.ndim != 2 or not 1 <= array.shape[1] <= length:
        raise PredictorError(f"learning curves: got shape {array.shape}; [B, T] with T from 1 to {length} is needed.")
    if not np.isfinite(array).all():
        raise PredictorError("learning curves: a value is not finite; leave diverged runs out, they end badly.")
    return array
