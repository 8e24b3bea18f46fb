"""Thresholds over superkernels: a choice is made by how strong the weights are that it adds.

A larger kernel adds a ring of weights, a larger expansion adds channels, and the smallest expansion adds the block
itself. One gate per such step is open where the strength of the added weights exceeds a learned threshold; forward it
is 0 or 1, backward it is a sigmoid. The weight of a choice is the product of the gates that lead to it, so that exactly
one choice has weight 1, and the mixture is one blended convolution.

Notation: s, strength of a group of weights: its squared norm as a multiple of that at the start; h, threshold.

Source: Stamoulis et al., Single-Path NAS, ECML 2019, https://arxiv.org/abs/1904.02877, sections 3.1 and 3.2, and
https://github.com/dstamoulis/single-path-nas, nas-search/superkernel.py. We deviate in the strength: theirs is the
squared norm itself, whose scale differs from layer to layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from ...errors import StrategyError
from ...spaces.elastic.blocks import ElasticInvertedBottleneck
from ...spaces.elastic.mixture import MixedPlace
from ...spaces.elastic.superkernel import Steps, Superkernel
from ...spaces.elastic.supernet import Supernet
from ...spaces.space import SearchSpace
from .relaxation import Learns, Moment, PlaceDraw, Relaxation

__all__ = ["Thresholds"]

DROPOUT: Final = 0.6
"""Chance that a gate is closed while choices are not learned yet, as published: without it early gates freeze."""

SHARPNESS: Final = 0.1
"""Width, in strengths, of the distribution that is told of gates: narrow, so that its mode is what they say."""


@runtime_checkable
class _HasSuperkernels(Protocol):
    def superkernels(self) -> dict[str, tuple[Superkernel, ElasticInvertedBottleneck]]: ...


class Thresholds(Relaxation):
    """Gates that compare weights with thresholds; one choice at a time, in one blended kernel."""

    blended = True

    def __init__(self) -> None:
        self._superkernels: dict[str, tuple[Superkernel, ElasticInvertedBottleneck]] = {}
        self._starts: dict[str, Tensor] = {}

    def bind(self, space: SearchSpace, supernet: Supernet) -> None:
        """Find the superkernel of every place, and how strong its weights are now.

        Raises:
            StrategyError: the choices of a place are no superkernel.
        """
        self._superkernels = supernet.superkernels() if isinstance(supernet, _HasSuperkernels) else {}
        for place in space.mixed_places() or ():
            if place.name not in self._superkernels:
                raise StrategyError(
                    f"thresholds: the choices {list(place.choices)} of place {place.name!r} are no superkernel, "
                    "because they differ in more than kernel and expansion; use another relaxation for this space."
                )
            with torch.no_grad():
                kernels = self._superkernels[place.name][0].kernels
                self._starts[place.name] = self._norms(place, torch.ones(len(kernels) - 1))

    def size(self, place: MixedPlace) -> int:
        """One threshold per gate."""
        return len(self._starts[place.name])

    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """The choice that the open gates lead to; while warming, gates are closed at random."""

        def gate(margins: Tensor) -> Tensor:
            soft = torch.sigmoid(margins)
            hard = (margins >= 0).to(soft)
            if moment.warming:
                closed = torch.rand(len(hard), generator=moment.generator) < DROPOUT
                hard = hard.masked_fill(closed.to(hard.device), 0.0)
            return hard if moment.learns is Learns.WEIGHTS else hard + soft - soft.detach()

        weights = self._weights(place, logits, gate)
        return PlaceDraw(weights, weights)

    @torch.no_grad()
    def chances(self, place: MixedPlace, logits: Tensor) -> Tensor:
        """[choices] what the gates say, softened a little: a gate close to its threshold is undecided."""
        return self._weights(place, logits, lambda margins: torch.sigmoid(margins / SHARPNESS))

    def _weights(self, place: MixedPlace, logits: Tensor, gate: Callable[[Tensor], Tensor]) -> Tensor:
        """[choices] the product of gates, each a function of by how much strengths exceed thresholds."""
        superkernel = self._superkernels[place.name][0]
        starts, rings = self._starts[place.name].to(logits), len(superkernel.kernels) - 1
        opened = self._norms(place, logits.new_ones(rings))[:rings]
        kernels = gate(opened / starts[:rings] - logits[:rings])
        channels = gate(self._norms(place, kernels)[rings:] / starts[rings:] - logits[rings:])
        present = channels[0] if superkernel.optional else channels.new_ones(())
        expansions = channels[1:] if superkernel.optional else channels
        return superkernel.weights(Steps(present=present, kernels=kernels, expansions=expansions))

    def _norms(self, place: MixedPlace, kernels: Tensor) -> Tensor:
        """[gates] squared norms of what each gate adds: rings, then channels, which depend on gates of kernels."""
        superkernel, block = self._superkernels[place.name]
        channels = superkernel.expansion_norms(block, kernels)
        return torch.cat([superkernel.kernel_norms(block), channels if superkernel.optional else channels[1:]])
