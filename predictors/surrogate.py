"""Surrogates: a regressor over a space's features as a `Predictor`, with uncertainty held against left-out rows.

Notation: N fitted architectures, B candidates, G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..hwmodels.cost import Prediction
from ..spaces.gene import Population
from ..spaces.space import SearchSpace
from .contracts import Regressor
from .cross_validation import HeldOut, folds, held_out
from .features import Features, kernel_blocks
from .regressors.gp import GaussianProcess

__all__ = ["MakeRegressor", "Surrogate", "gaussian_process"]

Array = NDArray[np.float64]
MakeRegressor = Callable[[Features], Regressor]
"""From the features to a fresh regressor over them."""

FOLDS: Final = 5
VALIDATED_ROWS: Final = 400
"""Most rows that are cross-validated; more would only cost time."""

FEWEST_VALIDATED: Final = 10


def gaussian_process(features: Features) -> Regressor:
    """The Gaussian process over all the features; the default of `Surrogate`."""
    return GaussianProcess(kernel_blocks(features))


class Surrogate:
    """Learns one quantity from evaluated architectures. A `Predictor`.

    Args:
        make: the regressor; None = a Gaussian process.
        quantity: what is learned, with its unit in the name.
        method: how `Prediction.source` calls it, ``predicted:<method>``.
        kinds: encodings to read; None = all of `DEFAULT_KINDS` that the space has.
        seed: of the folds.

    >>> from archsmith.spaces.catalog import get
    >>> space = get("nas_bench_macro")
    >>> genomes = space.sample(60, np.random.default_rng(0))
    >>> surrogate = Surrogate(quantity="macs")
    >>> surrogate.fit(space, genomes, space.macs(genomes).astype(np.float64))
    >>> surrogate.report()["kendall_tau"] > 0.9
    True
    """

    def __init__(
        self,
        make: MakeRegressor | None = None,
        *,
        quantity: str = "accuracy",
        method: str = "gaussian_process",
        kinds: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.quantity = quantity
        self.method = method
        self._make = make or gaussian_process
        self._kinds = kinds
        self._seed = seed
        self._regressor: Regressor | None = None

    def fit(self, space: SearchSpace, genomes: Population, targets: Array) -> None:
        """Fit on canonical `genomes` [N, G] and `targets` [N], and hold the uncertainty against left-out rows.

        Raises:
            PredictorError: too few or non-finite targets.
        """
        self._features = Features(space, self._kinds)
        columns = self._features(genomes)
        targets = np.asarray(targets, dtype=np.float64)
        regressor = self._make(self._features)
        regressor.fit(columns, targets)
        self._seen = (genomes.max(axis=0), genomes.min(axis=0))
        self._held_out = self._validate(columns, targets)
        self._regressor = regressor

    def _validate(self, columns: Array, targets: Array) -> HeldOut | None:
        if len(targets) < FEWEST_VALIDATED:
            return None
        rng = np.random.default_rng(self._seed)
        rows = np.sort(rng.permutation(len(targets))[:VALIDATED_ROWS])
        parts = folds(len(rows), FOLDS, rng)
        return held_out(lambda: self._make(self._features), columns[rows], targets[rows], parts=parts)

    def predict(self, space: SearchSpace, genomes: Population) -> Prediction:
        """Estimate the quantity for every row of canonical `genomes` [B, G].

        `in_range` is False where an ordered choice lies beyond those fitted on.

        Raises:
            PredictorError: nothing was fitted, or another space was.
        """
        features, regressor = self._fitted()
        if space.identity != features.space.identity:
            raise PredictorError(
                f"the surrogate of {self.quantity} was fitted on space {features.space.identity}, not on "
                f"{space.identity}; fit one for this space."
            )
        mean, std = regressor.predict(features(genomes))
        high, low = self._seen
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=std * (self._held_out.std_scale if self._held_out else 1.0),
            source=f"predicted:{self.method}",
            in_range=((genomes <= high) & (genomes >= low)).all(axis=1),
        )

    def report(self) -> dict[str, float]:
        """Held-out `kendall_tau`, `spearman`, `rmse`, `within_10_percent`, `n`, …; empty below ten rows."""
        self._fitted()
        return self._held_out.report() | {"std_scale": self._held_out.std_scale} if self._held_out else {}

    @property
    def features(self) -> Features:
        """What the regressor reads."""
        return self._fitted()[0]

    @property
    def regressor(self) -> Regressor:
        """The fitted regressor."""
        return self._fitted()[1]

    def _fitted(self) -> tuple[Features, Regressor]:
        if self._regressor is None:
            raise PredictorError(f"the surrogate of {self.quantity} was asked before it was fitted; call fit() first.")
        return self._features, self._regressor
