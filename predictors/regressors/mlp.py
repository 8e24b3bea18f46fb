"""A multi-layer perceptron, HAT's latency predictor: three hidden layers of 400, absolute errors, several members.

Source: Wang et al., HAT, ACL 2020, https://arxiv.org/abs/2005.14187 (three hidden layers of 400, ReLU); deep
ensembles: Lakshminarayanan et al., NeurIPS 2017. Standardised inputs and targets, absolute errors and a one-cycle
learning rate are ours.

Notation: N rows to fit, B rows asked, D derived columns (`columns.py`).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...errors import PredictorError
from .columns import Columns, checked_features, checked_table, part
from .robust import robust_scale

__all__ = ["MLPRegressor"]

BATCH: Final = 64
MIN_STEPS: Final = 600
"""Few rows are passed over more often, for as many steps."""

HELD_OUT: Final = 0.1
"""Share of the rows that only the stated error is found from."""


class MLPRegressor:
    """An ensemble of perceptrons on standardised columns. A `Regressor`.

    Args:
        hidden: width of each hidden layer.
        epochs: passes over the rows, at least.
        members: networks; their mean is predicted.
        absolute: fit absolute errors (the median); False = squared ones (the mean).
        seed: of the weights and the order of the rows.
    """

    least = 20

    def __init__(
        self, *, hidden: tuple[int, ...] = (400, 400, 400), epochs: int = 60, members: int = 3, absolute: bool = True,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if members < 1 or epochs < 1 or not hidden:
            raise PredictorError(
                f"MLP: got hidden {hidden}, {epochs} epochs and {members} members; each needs at least one."
            )
        self._hidden, self._epochs, self._members = hidden, epochs, members
        self._absolute, self._seed = absolute, seed
        self._columns: Columns | None = None
        self._networks: list[nn.Sequential] = []
        self._level, self._unit, self._std = 0.0, 1.0, 0.0

    def fit(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        """Fit on `features` [N, F] and `targets` [N]; raises PredictorError on too few or non-finite rows."""
        table, values = checked_table(features, targets, least=self.least, name="MLP")
        self._columns = Columns.of(table)
        self._level, self._unit = float(np.median(values)), max(float(values.std()), 1e-12)
        generator = torch.Generator().manual_seed(self._seed)
        order = torch.randperm(len(values), generator=generator)
        held = order[: max(2, int(HELD_OUT * len(values)))]
        rows = torch.from_numpy(self._columns.transform(table).astype(np.float32))
        wanted = torch.from_numpy(((values - self._level) / self._unit).astype(np.float32))
        self._networks = [self._network(rows.shape[1], generator) for _ in range(self._members)]
        for network in self._networks:
            self._train(network, rows[order[len(held) :]], wanted[order[len(held) :]], generator)
        self._std = robust_scale(values[held.numpy()] - self._mean(rows[held])[0])

    def _network(self, width: int, generator: torch.Generator) -> nn.Sequential:
        layers: list[nn.Module] = []
        for read, written in zip((width, *self._hidden), (*self._hidden, 1), strict=True):
            linear = nn.Linear(read, written, device="meta").to_empty(device="cpu")
            bound = read**-0.5
            nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
            nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def _train(
        self, network: nn.Sequential, rows: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator
    ) -> None:
        batches = max(1, len(rows) // BATCH)
        epochs = max(self._epochs, math.ceil(MIN_STEPS / batches))
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=epochs * batches)
        for _ in range(epochs):
            for chosen in torch.randperm(len(rows), generator=generator).tensor_split(batches):
                errors = network(rows[chosen])[:, 0] - wanted[chosen]
                loss = errors.abs().mean() if self._absolute else errors.square().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()

    def _mean(self, rows: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and deviation [B] between the members."""
        with torch.inference_mode():
            each = torch.stack([network(rows)[:, 0] for network in self._networks]).double().numpy()
        return self._level + self._unit * each.mean(axis=0), self._unit * each.std(axis=0)

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and standard deviation [B] of the error of every row of `features` [B, F]."""
        if self._columns is None:
            raise PredictorError("MLP: nothing was fitted yet; call fit first.")
        table = checked_features(features, self._columns.width, name="MLP")
        mean, between = self._mean(torch.from_numpy(self._columns.transform(table).astype(np.float32)))
        return mean, np.hypot(between, self._std)

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes."""
        if self._columns is None:
            raise PredictorError("MLP: nothing was fitted yet, so there is nothing to store.")
        weights = {
            f"weights.{member}.{name}": tensor.detach().double().numpy()
            for member, network in enumerate(self._networks)
            for name, tensor in network.named_parameters()
        }
        columns = {f"columns.{key}": value for key, value in self._columns.state().items()}
        constants = np.array([self._members, self._level, self._unit, self._std])
        return columns | weights | {"hidden": np.array(self._hidden, dtype=np.float64), "constants": constants}

    @classmethod
    def restore(cls, state: dict[str, NDArray[np.float64]]) -> MLPRegressor:
        """A regressor with the stored networks; its settings, were it fitted again, are the defaults."""
        members, level, unit, std = (float(value) for value in state["constants"])
        model = cls(hidden=tuple(int(width) for width in state["hidden"]), members=int(members))
        model._columns = Columns.restore(part(state, "columns"))
        model._level, model._unit, model._std = level, unit, std
        for member in range(int(members)):
            network = model._network(len(model._columns.source), torch.Generator())
            for name, tensor in network.named_parameters():
                tensor.data = torch.from_numpy(state[f"weights.{member}.{name}"].astype(np.float32))
            model._networks.append(network)
        return model
