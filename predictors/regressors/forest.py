"""Random forests whose spread over trees and within leaves is the uncertainty, scaled by their out-of-bag errors.

    variance = mean over trees of the leaf's variance + variance over trees of the leaf's mean

is the law of total variance over a tree drawn at random. It is that of one tree's answer, and so too wide for the mean
of many: one factor makes 68 % of the out-of-bag errors lie within a deviation.

Source: Breiman, Random Forests, Machine Learning 45, 2001; Hutter et al., Algorithm runtime prediction, Artificial
Intelligence 206, 2014, section 4.3.2 (law of total variance).

Notation: N fitted rows, B rows asked, F columns, T trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from ...errors import PredictorError
from .columns import checked_features, checked_table

__all__ = ["Forest", "ForestSettings"]

Array = NDArray[np.float64]

_ONE_SIGMA: Final = 0.6827
_SCALES: Final = (0.1, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestSettings:
    """How the trees are grown.

    Attributes:
        trees: how many.
        columns: share of the columns tried at every split.
        leaf: fewest rows in a leaf.
        seed: of the bootstrap and of the columns tried.
    """

    trees: int = 100
    columns: float = 0.4
    leaf: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trees < 2 or self.leaf < 1 or not 0.0 < self.columns <= 1.0:
            raise PredictorError(
                f"forest: got {self.trees} trees, leaves of {self.leaf}, columns {self.columns}; allowed: at least 2 "
                "trees, leaves of at least 1, a share of columns above 0 and up to 1."
            )


class Forest:
    """A random forest. A `Regressor`.

    >>> x = np.arange(40.0)[:, None]
    >>> forest = Forest()
    >>> forest.fit(x, x[:, 0])
    >>> bool(abs(forest.predict(x)[0] - x[:, 0]).max() < 3.0)
    True
    """

    least = 2
    """Fewest rows to fit."""

    def __init__(self, settings: ForestSettings | None = None) -> None:
        self.settings = settings or ForestSettings()
        self._forest: RandomForestRegressor | None = None

    def fit(self, features: Array, targets: Array) -> None:
        """Fit on `features` [N, F] and `targets` [N].

        Raises:
            PredictorError: fewer than 2 rows, a value that is not finite, or shapes that do not fit.
        """
        x, y = checked_table(features, targets, least=self.least, name="forest")
        forest = RandomForestRegressor(
            self.settings.trees, max_features=self.settings.columns, min_samples_leaf=self.settings.leaf,
            random_state=self.settings.seed, n_jobs=1,
        )  # fmt: skip
        forest.fit(x, y)
        self._forest, self._width = forest, x.shape[1]
        self._scale, self._least = self._calibrate(x, y)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean [B] and standard deviation [B] of a new observation at `features` [B, F]."""
        if self._forest is None:
            raise PredictorError("the forest was asked before it was fitted; call fit() first.")
        means, inside = self._by_tree(checked_features(features, self._width, name="forest"))
        mean = means.mean(axis=0)
        return mean, np.maximum(self._scale * np.sqrt(inside.mean(axis=0) + means.var(axis=0)), self._least)

    def _by_tree(self, x: Array) -> tuple[Array, Array]:
        """[T, B] mean and [T, B] variance of the leaf that each tree puts each row of `x` into."""
        assert self._forest is not None
        leaves = self._forest.apply(x)
        trees = [estimator.tree_ for estimator in self._forest.estimators_]
        means = np.stack([tree.value[leaves[:, number], 0, 0] for number, tree in enumerate(trees)])
        inside = np.stack([tree.impurity[leaves[:, number]] for number, tree in enumerate(trees)])
        return means, np.maximum(inside, 0.0)

    def _calibrate(self, x: Array, y: Array) -> tuple[float, float]:
        """Factor on deviations, and the least deviation, from rows' errors by the trees that did not see them."""
        assert self._forest is not None
        unseen = np.ones((self.settings.trees, len(y)))
        for number, rows in enumerate(self._forest.estimators_samples_):
            unseen[number, rows] = 0.0
        count = unseen.sum(axis=0)
        told = count > 1
        if not told.any():
            return 1.0, 0.0
        means, inside = self._by_tree(x)
        weight = unseen[:, told] / count[told]
        mean = (weight * means[:, told]).sum(axis=0)
        variance = (weight * (inside[:, told] + (means[:, told] - mean) ** 2)).sum(axis=0)
        error = np.abs(y[told] - mean)
        least = 0.1 * float(np.quantile(error, _ONE_SIGMA))
        ratio = error / np.maximum(np.sqrt(variance), max(least, 1e-300))
        return float(np.clip(np.quantile(ratio, _ONE_SIGMA), *_SCALES)), least
