"""Gradient-boosted trees: scikit-learn grows them, plain arrays keep them.

The forest is copied out of scikit-learn's histogram booster as flat arrays, so that it can be stored without pickle and
is read the same by every version; the copy must give the booster's own predictions, or fitting fails.

Source: Friedman, Greedy Function Approximation: A Gradient Boosting Machine, Annals of Statistics 29(5), 2001 (least
absolute deviation); Ke et al., LightGBM, NeurIPS 2017 (histograms).

Notation: N rows to fit, B rows asked, F features, R rounds (trees), M nodes of the largest tree.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from .columns import checked_features, checked_table, settle
from .robust import robust_scale

__all__ = ["BoostingRegressor"]

CHUNK: Final = 2048
"""Rows walked through all trees at once."""

FOLDS: Final = 5


class BoostingRegressor:
    """Boosted trees on raw features. A `Regressor`.

    Args:
        loss: ``absolute_error`` follows the median, ``squared_error`` the mean.
        rounds: trees.
        rate: what each tree contributes.
        leaves: of each tree, at most.
        seed: of the folds that the left-out predictions come from.
    """

    least = 20

    def __init__(
        self, *, loss: Literal["absolute_error", "squared_error"] = "absolute_error", rounds: int = 300,
        rate: float = 0.05, leaves: int = 8, seed: int = 0,
    ) -> None:  # fmt: skip
        self._loss, self._rounds, self._rate, self._leaves, self._seed = loss, rounds, rate, leaves, seed
        self._forest: _Forest | None = None
        self._std = 0.0
        self.left_out = np.zeros(0)
        """[N] predictions of the rows it was fitted on, each by a booster that had not seen its fold."""

    def fit(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit on `features` [N, F] and `targets` [N]; raises PredictorError on too few or non-finite rows."""
        table, values = checked_table(features, targets, least=self.least, name="boosting")
        table = settle(table)
        fold = np.random.default_rng(self._seed).permutation(len(values)) % FOLDS
        self.left_out = np.zeros(len(values))
        for number in range(FOLDS):
            out = fold == number
            self.left_out[out] = self._grow(table[~out], values[~out]).predict(table[out])
        self._forest = self._grow(table, values)
        self._std = robust_scale(values - self.left_out)

    def _grow(self, table: NDArray[np.float64], values: NDArray[np.float64]) -> _Forest:
        """The trees that scikit-learn grows for these rows."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        # Boosting by medians takes steps in units of the target, so the target is given a unit of its own.
        level, scale = float(np.median(values)), max(float(values.std()), 1e-12)
        booster = HistGradientBoostingRegressor(
            loss=self._loss, max_iter=self._rounds, learning_rate=self._rate, max_leaf_nodes=self._leaves,
            min_samples_leaf=min(20, max(2, len(values) // 20)), random_state=self._seed,
            early_stopping=False,  # type: ignore[arg-type]  # the stub knows of "auto" alone
        ).fit(table, (values - level) / scale)  # fmt: skip
        forest = _Forest.copied(booster, width=table.shape[1], level=level, scale=scale)
        sample = table[:CHUNK]
        if not np.allclose(forest.predict(sample), level + scale * booster.predict(sample), rtol=1e-6, atol=1e-9):
            raise PredictorError(
                "boosting: the copied trees do not predict what scikit-learn's own do; this version of scikit-learn "
                "stores them in another way. Use the ridge, or an older scikit-learn."
            )
        return forest

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and standard deviation [B] of the error of every row of `features` [B, F]."""
        if self._forest is None:
            raise PredictorError("boosting: nothing was fitted yet; call fit first.")
        mean = self._forest.predict(settle(checked_features(features, self._forest.width, name="boosting")))
        return mean, np.full(len(mean), self._std)

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes: the trees; the left-out predictions are not among them."""
        if self._forest is None:
            raise PredictorError("boosting: nothing was fitted yet, so there is nothing to store.")
        forest = self._forest
        return {
            "feature": forest.feature.astype(np.float64), "threshold": forest.threshold,
            "child": forest.child.astype(np.float64), "value": forest.value,
            "constants": np.array([forest.width, forest.base, self._std]),
        }  # fmt: skip

    @classmethod
    def restore(cls, state: dict[str, NDArray[np.float64]]) -> BoostingRegressor:
        """A regressor with the stored trees; its settings, were it fitted again, are the defaults."""
        model = cls()
        width, base, model._std = (float(value) for value in state["constants"])
        model._forest = _Forest(
            feature=state["feature"].astype(np.int64), threshold=state["threshold"],
            child=state["child"].astype(np.int64), value=state["value"], width=int(width), base=base,
        )  # fmt: skip
        return model


class _Forest:
    """R trees as arrays padded to the largest; a leaf points at itself.

    Attributes:
        feature: [R, M] column read at a node.
        threshold: [R, M] rows at most this go left.
        child: [R, M, 2] nodes to the left and right.
        value: [R, M] what a leaf adds.
        width: F.
        base: what every prediction starts from.
    """

    def __init__(
        self, *, feature: NDArray[np.int64], threshold: NDArray[np.float64], child: NDArray[np.int64],
        value: NDArray[np.float64], width: int, base: float,
    ) -> None:  # fmt: skip
        self.feature, self.threshold, self.child, self.value = feature, threshold, child, value
        self.width, self.base = width, base

    @classmethod
    def copied(cls, booster: object, *, width: int, level: float, scale: float) -> _Forest:
        """The trees of a fitted `HistGradientBoostingRegressor`, their values in the target's unit."""
        # scikit-learn offers no public way to its histogram trees; `_grow` compares the predictions.
        trees = [predictors[0].nodes for predictors in booster._predictors]  # type: ignore[attr-defined]
        base = float(np.ravel(booster._baseline_prediction)[0])  # type: ignore[attr-defined]
        shape = (len(trees), max(len(nodes) for nodes in trees))
        feature, threshold, value = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
        child = np.broadcast_to(np.arange(shape[1])[:, None], (*shape, 2)).copy()
        for row, nodes in enumerate(trees):
            inner = np.flatnonzero(nodes["is_leaf"] == 0)
            feature[row, inner] = nodes["feature_idx"][inner]
            threshold[row, inner] = nodes["num_threshold"][inner]
            child[row, inner, 0], child[row, inner, 1] = nodes["left"][inner], nodes["right"][inner]
            value[row, : len(nodes)] = scale * nodes["value"]
        return cls(
            feature=feature, threshold=threshold, child=child, value=value, width=width, base=level + scale * base
        )

    def predict(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B] sums of the leaves that the rows of `table` [B, F] reach."""
        out = np.empty(len(table))
        trees, rounds = np.arange(len(self.value)), self.value.shape[1]
        for start in range(0, len(table), CHUNK):
            rows = table[start : start + CHUNK]
            number = np.arange(len(rows))[:, None]
            node = np.zeros((len(rows), len(trees)), dtype=np.int64)
            for _ in range(rounds):  # a path is shorter than the tree has nodes
                right = rows[number, self.feature[trees, node]] > self.threshold[trees, node]
                reached = self.child[trees, node, right.astype(np.int64)]
                if (reached == node).all():
                    break
                node = reached
            out[start : start + CHUNK] = self.base + self.value[trees, node].sum(axis=1)
        return out
