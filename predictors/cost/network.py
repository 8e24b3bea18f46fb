"""The whole-network model: one quantity on one device, from end-to-end measurements alone.

Where neither kernels nor layers can be measured, a table of architectures and what they cost is all there is. Genes and
work (`features.py`) go into the stacked regressor for costs (`regressors/ensemble.py`). A share of the measurements is
kept out of a first fit, whose error on them is the report; the model that predicts is then fitted on all of them.

Notation: N measured architectures, B candidates, G genes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from ...hwmodels.calibration import held_out_report
from ...hwmodels.cost import Prediction
from ...spaces.gene import Population
from ...spaces.space import SearchSpace
from ..regressors.columns import Columns, part
from ..regressors.ensemble import CostRegressor
from .features import NetworkFeatures

__all__ = ["NetworkCostModel"]

FORMAT: Final = 1
MIN_NETWORKS: Final = 30
HELD_OUT: Final = 0.2


class NetworkCostModel:
    """Cost of whole networks, learned from measured whole networks. A `CostModel`.

    Args:
        quantity: what is predicted, with its unit in the name.
        device: the device's name.
        seed: of the choice of held-out rows and of everything random in the regressor.

    Call `fit` before `predict`, or `load` a stored model.
    """

    source = "predicted:network"

    def __init__(self, *, quantity: str = "latency_ms", device: str, seed: int = 0) -> None:
        self.quantity, self.device = quantity, device
        self._seed = seed
        self._space = ""
        self._regressor: CostRegressor | None = None
        self._columns: Columns | None = None
        self._features: NetworkFeatures | None = None
        self._errors: dict[str, float] = {}

    @classmethod
    def fit(
        cls, space: SearchSpace, genomes: Population, values: NDArray[np.float64], *, quantity: str = "latency_ms",
        device: str, held_out: float = HELD_OUT, seed: int = 0,
    ) -> NetworkCostModel:  # fmt: skip
        """Fit on measured architectures.

        Args:
            space: the search space of the genomes.
            genomes: [N, G] canonical.
            values: [N] what was measured, finite and positive.
            quantity: what `values` are, with the unit in the name.
            device: the device's name.
            held_out: share of the rows that the report is made on; 0 = no report, and half the time.
            seed: of everything random.

        Raises:
            PredictorError: too few networks, a value that is not finite and positive, or shapes that do not fit.
            SpaceError: genomes of another space, or not canonical.
        """
        costs = np.asarray(values, dtype=np.float64)
        population = space.check(np.asarray(genomes))
        _check(population, costs, quantity, held_out)
        model = cls(quantity=quantity, device=device, seed=seed)
        model._space, model._features = space.identity, NetworkFeatures(space)
        table = model._features.matrix(population)
        order = np.random.default_rng(seed).permutation(len(costs))
        out, kept = np.split(order, [round(held_out * len(costs))])
        if len(out):
            first = CostRegressor(seed=seed)
            first.fit(table[kept], costs[kept])
            mean, std = first.predict(table[out])
            model._errors = held_out_report(mean, costs[out], std)
        model._regressor = CostRegressor(seed=seed)
        model._regressor.fit(table, costs)
        model._columns = Columns.of(table)
        return model

    def predict(self, space: SearchSpace, genomes: Population) -> Prediction:
        """Estimate the quantity for every row of `genomes` ([B, G], canonical).

        A row is out of range where it makes a choice, or has a total, that no measured network had.

        Raises:
            PredictorError: nothing was fitted, or on another space.
        """
        if self._regressor is None or self._columns is None:
            raise PredictorError(f"the network model of {self.device} is not fitted; call NetworkCostModel.fit.")
        if space.identity != self._space:
            raise PredictorError(
                f"the network model of {self.device} was fitted on space {self._space}, not on {space.identity}; "
                "fit one for this space."
            )
        if self._features is None:
            self._features = NetworkFeatures(space)
        table = self._features.matrix(genomes)
        mean, std = self._regressor.predict(table)
        return Prediction(
            quantity=self.quantity, mean=mean, std=std, source=self.source, in_range=self._columns.in_range(table)
        )

    def report(self) -> dict[str, float]:
        """Errors on held-out networks, as `held_out_report` names them; empty if none were held out.

        `kendall_tau`, `spearman`, `within_5_percent`, `within_10_percent`, `rmse`, `mape`, `coverage_1sd`, `n`, ….
        """
        return dict(self._errors)

    @property
    def weights(self) -> dict[str, float]:
        """What each member of the regressor contributes."""
        return dict(self._regressor.weights) if self._regressor else {}

    def save(self, directory: Path) -> None:
        """Write ``model.json`` and ``arrays.npz`` into a folder, making it if needed."""
        if self._regressor is None or self._columns is None:
            raise PredictorError(f"the network model of {self.device} is not fitted; there is nothing to store.")
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {f"columns.{key}": value for key, value in self._columns.state().items()}
        arrays |= {f"regressor.{key}": value for key, value in self._regressor.state().items()}
        with (directory / "arrays.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # the names are no parameters of savez
        content = {
            "format": FORMAT, "model": "network", "quantity": self.quantity, "device": self.device, "seed": self._seed,
            "space": self._space, "errors": {key: _json(value) for key, value in self._errors.items()},
        }  # fmt: skip
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
        (directory / "model.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> NetworkCostModel:
        """Read what `save` wrote; raises PredictorError for a missing, foreign or newer folder."""
        try:
            content = json.loads((directory / "model.json").read_text(encoding="utf-8"))
            if (content["format"], content["model"]) != (FORMAT, "network"):
                raise PredictorError(f"{directory}: written by another version of archsmith; fit the model again.")
            with np.load(directory / "arrays.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            model = cls(quantity=content["quantity"], device=content["device"], seed=content["seed"])
            model._space = content["space"]
            model._errors = {key: math.nan if value is None else value for key, value in content["errors"].items()}
            model._columns = Columns.restore(part(arrays, "columns"))
            model._regressor = CostRegressor.restore(part(arrays, "regressor"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PredictorError(f"{directory}: no readable network model ({error}); fit it again.") from error
        return model


def _check(population: Population, costs: NDArray[np.float64], quantity: str, held_out: float) -> None:
    if costs.shape != (len(population),):
        raise PredictorError(f"network model: got {len(population)} genomes and {quantity} of shape {costs.shape}.")
    if len(costs) < MIN_NETWORKS:
        raise PredictorError(
            f"network model: got {len(costs)} measured networks; at least {MIN_NETWORKS} are needed. Measure more, or "
            "adapt a model of other devices (predictors.cost.transfer)."
        )
    if not (np.isfinite(costs).all() and (costs > 0).all()):
        bad = int(np.argmax(~(np.isfinite(costs) & (costs > 0))))
        raise PredictorError(
            f"network model: {quantity} is {costs[bad]:g} in row {bad}; all must be finite and positive. Leave failed "
            "measurements out."
        )
    if not 0.0 <= held_out <= 0.5:
        raise PredictorError(f"network model: held_out is {held_out}; it must be a share from 0 to 0.5.")


def _json(value: float) -> float | None:
    """A number that JSON can hold; None for nan."""
    return value if math.isfinite(value) else None
