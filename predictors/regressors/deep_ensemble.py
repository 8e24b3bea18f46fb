"""Deep ensembles: small networks that state their own uncertainty, all members trained at once.

Every member maps standardised columns through hidden layers (the body) to a mean and a variance, and is trained on the
Gaussian likelihood; members differ by their start. The prediction is the mixture of the members.

Where free statistics are given (MACs, parameters, … of architectures nobody trained), the body first learns to tell
them, and labels then fine-tune it.

Source: Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS
2017; Dai et al., FBNetV3, CVPR 2021, section 3.2 (pretraining on statistics). The published
recipe freezes the body first; here all of it is fine-tuned at once.

Notation: N rows to fit, B rows asked, F columns, M members, U unlabelled rows, S statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import PredictorError
from .columns import checked_features, checked_table

__all__ = ["DeepEnsemble", "DeepEnsembleSettings", "FreeStatistics"]

Array = NDArray[np.float64]

_LEAST_VARIANCE: Final = 1e-4

_Loss = Callable[[tuple[Tensor, Tensor], Tensor], Tensor]
"""(what the members tell, [M, rows] the rows chosen for each) -> what to minimise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeStatistics:
    """What is known of architectures without training them.

    Attributes:
        features: [U, F].
        statistics: [U, S], standardised.
    """

    features: Array
    statistics: Array

    def __post_init__(self) -> None:
        if len(self.features) != len(self.statistics) or not len(self.features):
            raise PredictorError(
                f"free statistics: {len(self.features)} rows of features and {len(self.statistics)} of statistics; "
                "give one of each for at least one architecture."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepEnsembleSettings:
    """How the members look and are trained.

    Attributes:
        members: how many.
        hidden: width of each hidden layer.
        steps: of the optimiser, on labels.
        pretraining_steps: on free statistics.
        rate: the largest learning rate.
        decay: weight decay.
        batch: rows in a step, at most.
        seed: of the start and of the batches.
    """

    members: int = 5
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 300
    pretraining_steps: int = 500
    rate: float = 3e-3
    decay: float = 1e-2
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.members, self.steps, self.pretraining_steps, self.batch, *self.hidden) < 1 or not self.hidden:
            raise PredictorError(f"deep ensemble: {self}; members, widths, steps and batch must be at least 1.")


class DeepEnsemble:
    """A deep ensemble. A `Regressor`.

    Args:
        settings: how members look and are trained.
        pretraining: what the body learns before it sees labels; None = nothing.
    """

    least = 8
    """Fewest rows to fit."""

    def __init__(
        self, settings: DeepEnsembleSettings | None = None, *, pretraining: FreeStatistics | None = None
    ) -> None:
        self.settings = settings or DeepEnsembleSettings()
        self._free = pretraining
        self._network: _Members | None = None

    def fit(self, features: Array, targets: Array) -> None:
        """Fit on `features` [N, F] and `targets` [N].

        Raises:
            PredictorError: too few rows, a value that is not finite, or pretraining on other columns.
        """
        x, y = checked_table(features, targets, least=self.least, name="deep ensemble")
        if self._free is not None and self._free.features.shape[1] != x.shape[1]:
            raise PredictorError(
                f"deep ensemble: pretrained on {self._free.features.shape[1]} columns, fitted on {x.shape[1]}; encode "
                "both alike."
            )
        seen = x if self._free is None else np.concatenate([self._free.features, x])
        self._middle, self._scale = seen.mean(axis=0), seen.std(axis=0)
        self._scale[self._scale == 0] = 1.0
        self._level, self._unit = float(y.mean()), float(y.std()) or 1.0
        generator = torch.Generator().manual_seed(self.settings.seed)
        statistics = 0 if self._free is None else self._free.statistics.shape[1]
        network = _Members(x.shape[1], statistics, self.settings, generator)
        if self._free is not None:
            rows, known = self._tensor(self._free.features), torch.from_numpy(self._free.statistics).float()
            self._train(network, rows, lambda told, chosen: _squared(told[1], known[chosen]), generator, pretrain=True)
        wanted = torch.from_numpy((y - self._level) / self._unit).float()
        self._train(
            network, self._tensor(x), lambda told, chosen: _likelihood(told[0], wanted[chosen]), generator,
            pretrain=False,
        )  # fmt: skip
        self._network = network

    def _train(
        self, network: _Members, rows: Tensor, loss: _Loss, generator: torch.Generator, *, pretrain: bool
    ) -> None:
        """Minimise `loss` of (what members tell, the rows chosen for each) under a cosine schedule."""
        settings = self.settings
        steps = settings.pretraining_steps if pretrain else settings.steps
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=steps)
        size = min(settings.batch, len(rows))
        for _ in range(steps):
            chosen = torch.randint(len(rows), (settings.members, size), generator=generator)
            optimiser.zero_grad(set_to_none=True)
            loss(network(rows[chosen]), chosen).backward()
            optimiser.step()
            schedule.step()

    def _tensor(self, x: Array) -> Tensor:
        return torch.from_numpy((x - self._middle) / self._scale).float()

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean [B] and standard deviation [B] of a new observation at `features` [B, F]."""
        if self._network is None:
            raise PredictorError("the deep ensemble was asked before it was fitted; call fit() first.")
        rows = self._tensor(checked_features(features, len(self._middle), name="deep ensemble"))
        with torch.inference_mode():
            told = self._network(rows.expand(self.settings.members, *rows.shape))[0].double().numpy()
        means, variances = told[..., 0], _variance(told[..., 1])
        std = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
        return self._level + self._unit * means.mean(axis=0), self._unit * std


class _Members(nn.Module):
    """M networks side by side: [M, B, F] -> ([M, B, 2] mean and log-like variance, [M, B, S] statistics)."""

    def __init__(
        self, columns: int, statistics: int, settings: DeepEnsembleSettings, generator: torch.Generator
    ) -> None:
        super().__init__()

        def layer(read: int, written: int) -> nn.ParameterList:
            bound = 1.0 / math.sqrt(read)
            weight = torch.empty(settings.members, read, written).uniform_(-bound, bound, generator=generator)
            return nn.ParameterList([weight, torch.zeros(settings.members, 1, written)])

        widths = (columns, *settings.hidden)
        self.body = nn.ModuleList(layer(read, written) for read, written in zip(widths, settings.hidden, strict=False))
        self.head = layer(widths[-1], 2)
        self.statistics = layer(widths[-1], statistics) if statistics else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for weight, bias in self.body:  # type: ignore[misc]  # ParameterList unpacks into its parameters
            x = torch.nn.functional.silu(torch.baddbmm(bias, x, weight))
        told = torch.baddbmm(self.head[1], x, self.head[0])
        if self.statistics is None:
            return told, told[..., :0]
        return told, torch.baddbmm(self.statistics[1], x, self.statistics[0])


def _squared(told: Tensor, known: Tensor) -> Tensor:
    """Mean squared error of each member, added up."""
    return (told - known).square().mean(dim=(1, 2)).sum()


def _likelihood(told: Tensor, wanted: Tensor) -> Tensor:
    """Negative Gaussian log likelihood of each member, added up."""
    variance = torch.nn.functional.softplus(told[..., 1]) + _LEAST_VARIANCE
    return (0.5 * variance.log() + 0.5 * (told[..., 0] - wanted).square() / variance).mean(dim=1).sum()


def _variance(raw: Array) -> Array:
    return np.logaddexp(0.0, raw) + _LEAST_VARIANCE
