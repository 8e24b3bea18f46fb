"""Graph convolutional networks: one weight matrix per layer for every vertex, read out over the whole graph.

    h' = silu(A_in h W_in + A_out h W_out + h W + b),  A normalised by each vertex's number of neighbours

Both directions are kept apart, as data flows one way. Graphs come flattened in the columns, so that the contract stays
arrays in, arrays out; columns behind the graph (costs) join at the read-out. Members of an ensemble run side by side.

Source: Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017; Dudziak et al.,
BRP-NAS, NeurIPS 2020, section 3 (graph networks as predictors; theirs are four layers of 600 and larger data).

Notation: N rows to fit, B rows asked, F columns, V vertices, K columns per vertex, D columns behind the graph, M
members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import PredictorError
from ..graphs import GraphLayout
from .columns import checked_features, checked_table

__all__ = ["GraphNetwork", "GraphSettings"]

Array = NDArray[np.float64]

_LEAST_VARIANCE: Final = 1e-4
_CHUNK: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSettings:
    """How the network looks and is trained.

    Attributes:
        width: of each layer.
        layers: graph convolutions.
        members: networks side by side, whose spread is part of the uncertainty.
        steps: of the optimiser.
        rate: the largest learning rate.
        decay: weight decay.
        batch: rows in a step, at most.
        seed: of the start and of the batches.
    """

    width: int = 48
    layers: int = 3
    members: int = 3
    steps: int = 300
    rate: float = 3e-3
    decay: float = 1e-2
    batch: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.members, self.steps, self.batch) < 1:
            raise PredictorError(f"graph network: {self}; width, layers, members, steps and batch must be at least 1.")


class GraphNetwork:
    """An ensemble of graph convolutional networks. A `Regressor`.

    Args:
        layout: where the graph stands in the columns.
        settings: how the network looks and is trained.
    """

    least = 8
    """Fewest rows to fit."""

    def __init__(self, layout: GraphLayout, settings: GraphSettings | None = None) -> None:
        self.layout = layout
        self.settings = settings or GraphSettings()
        self._network: _Members | None = None

    def fit(self, features: Array, targets: Array) -> None:
        """Fit on `features` [N, F] and `targets` [N].

        Raises:
            PredictorError: too few rows, fewer columns than the graph takes, or a value that is not finite.
        """
        x, y = checked_table(features, targets, least=self.least, name="graph network")
        if x.shape[1] < self.layout.columns:
            raise PredictorError(f"graph network: got {x.shape[1]} columns; its graphs take {self.layout.columns}.")
        self._level, self._unit = float(y.mean()), float(y.std()) or 1.0
        behind = x[:, self.layout.columns :]
        self._middle, self._scale = behind.mean(axis=0), behind.std(axis=0)
        self._scale[self._scale == 0] = 1.0
        self._width = x.shape[1]
        generator = torch.Generator().manual_seed(self.settings.seed)
        network = _Members(self.layout, behind.shape[1], self.settings, generator)
        self._train(network, x, torch.from_numpy((y - self._level) / self._unit).float(), generator)
        self._network = network

    def _train(self, network: _Members, x: Array, wanted: Tensor, generator: torch.Generator) -> None:
        """Minimise the Gaussian negative log likelihood under a one-cycle schedule."""
        settings = self.settings
        edges, labels, behind = self._tensors(x)
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.steps)
        size = min(settings.batch, len(x))
        for _ in range(settings.steps):
            rows = torch.randint(len(x), (size,), generator=generator)
            told = network(edges[rows], labels[rows], behind[rows])
            variance = nn.functional.softplus(told[..., 1]) + _LEAST_VARIANCE
            error = (told[..., 0] - wanted[rows]).square()
            optimiser.zero_grad(set_to_none=True)
            (0.5 * variance.log() + 0.5 * error / variance).mean(dim=1).sum().backward()
            optimiser.step()
            schedule.step()

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean [B] and standard deviation [B] of a new observation at `features` [B, F]."""
        if self._network is None:
            raise PredictorError("the graph network was asked before it was fitted; call fit() first.")
        x = checked_features(features, self._width, name="graph network")
        with torch.inference_mode():
            told = [self._network(*self._tensors(x[i : i + _CHUNK])) for i in range(0, len(x), _CHUNK)]
        members = torch.cat(told, dim=1).double().numpy() if told else np.zeros((self.settings.members, 0, 2))
        means, variances = members[..., 0], np.logaddexp(0.0, members[..., 1]) + _LEAST_VARIANCE
        std = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
        return self._level + self._unit * means.mean(axis=0), self._unit * std

    def _tensors(self, x: Array) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 2, V', V'] normalised edges in both directions, [B, V', K] labels, [B, D]; V' over all graphs."""
        layout = self.layout
        graph = torch.from_numpy(x[:, : layout.columns]).float()
        behind = torch.from_numpy((x[:, layout.columns :] - self._middle) / self._scale).float()
        total = layout.graphs * layout.vertices
        graph = graph.view(len(x), layout.graphs, layout.vertices, layout.vertices + layout.labels)
        forward = torch.zeros(len(x), total, total)
        for number in range(layout.graphs):
            span = slice(number * layout.vertices, (number + 1) * layout.vertices)
            forward[:, span, span] = graph[:, number, :, : layout.vertices]
        both = torch.stack([forward, forward.transpose(1, 2)], dim=1)
        both = both / both.sum(dim=-1, keepdim=True).clamp(min=1.0)
        return both, graph[..., layout.vertices :].reshape(len(x), total, layout.labels), behind


class _Members(nn.Module):
    """M networks side by side: edges, labels, columns behind -> [M, B, 2] mean and raw variance."""

    def __init__(self, layout: GraphLayout, behind: int, settings: GraphSettings, generator: torch.Generator) -> None:
        super().__init__()
        members, width = settings.members, settings.width
        total = layout.graphs * layout.vertices

        def weight(read: int, written: int) -> nn.Parameter:
            bound = 1.0 / math.sqrt(read)
            return nn.Parameter(torch.empty(members, read, written).uniform_(-bound, bound, generator=generator))

        # A vertex knows its place: the same operation does different work at the start and at the end.
        self.place = nn.Parameter(0.1 * torch.randn(members, total, width, generator=generator))
        self.enter = weight(layout.labels, width)
        self.layers = nn.ParameterList(weight(3 * width, width) for _ in range(settings.layers))
        self.hidden = weight(2 * width + behind, width)
        self.out = weight(width, 2)

    def forward(self, edges: Tensor, labels: Tensor, behind: Tensor) -> Tensor:
        """[B, 2, V, V], [B, V, K], [B, D] -> [M, B, 2]."""
        here = labels.sum(dim=2, keepdim=True).clamp(max=1.0)  # vertices that are there, [B, V, 1]
        h = torch.einsum("bvk,mkw->mbvw", labels, self.enter) + self.place[:, None]
        for weight in self.layers:
            arriving = torch.einsum("bduv,mbvw->mbudw", edges, h).flatten(3)
            h = h + nn.functional.silu(torch.einsum("mbuw,mwx->mbux", torch.cat([arriving, h], dim=3), weight))
        mean = (h * here).sum(dim=2) / here.sum(dim=1).clamp(min=1.0)
        read = torch.cat([mean, h[:, :, -1], behind.expand(len(h), *behind.shape)], dim=2)
        hidden = nn.functional.silu(torch.einsum("mbw,mwx->mbx", read, self.hidden))
        return torch.einsum("mbw,mwx->mbx", hidden, self.out)
