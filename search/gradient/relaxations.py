"""Relaxations: how architecture parameters become the weights of a mixture.

Notation: a, logits of a place; p = softmax(a); t, temperature; g, Gumbel noise.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055 (softmax); Hundt et al., sharpDARTS,
https://arxiv.org/abs/1903.09900 (Max-W); Wu et al., FBNet, CVPR 2019, https://arxiv.org/abs/1812.03443, and Xie et al.,
SNAS, ICLR 2019, https://arxiv.org/abs/1812.09926 (Gumbel); Dong and Yang, GDAS, CVPR 2019,
https://arxiv.org/abs/1910.04465 (straight through); Chu et al., FairDARTS, ECCV 2020,
https://arxiv.org/abs/1911.12126 (sigmoid).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from ...spaces.elastic.mixture import MixedPlace
from .binary_gates import BinaryGates
from .relaxation import Moment, PlaceDraw, Relaxation, gumbel_noise
from .thresholds import Thresholds

__all__ = ["ALL_RUN", "RELAXATIONS", "Gumbel", "MaxW", "Sigmoid", "Softmax", "StraightThrough"]


class Softmax(Relaxation):
    """All candidates, weighted by softmax(a / t)."""

    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """The same whatever was drawn before: nothing is random."""
        del place
        weights = torch.softmax(logits / moment.temperature, dim=0)
        return PlaceDraw(weights, weights)


class MaxW(Relaxation):
    """All candidates, weighted by 1 - max(p) + p: the leader always counts 1, and only the gaps are learned."""

    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """The same whatever was drawn before: nothing is random."""
        del place
        chances = torch.softmax(logits / moment.temperature, dim=0)
        return PlaceDraw(1 - chances.max() + chances, chances)


class Gumbel(Relaxation):
    """All candidates, weighted by softmax((log p + g) / t); the cost is that of the same sample."""

    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """A soft sample; the lower the temperature, the closer to one candidate."""
        del place
        noisy = torch.log_softmax(logits, dim=0) + gumbel_noise(logits, moment.generator)
        weights = torch.softmax(noisy / moment.temperature, dim=0)
        return PlaceDraw(weights, weights)


class StraightThrough(Relaxation):
    """One candidate, drawn from p: weight 1 forward, the gradient of the soft Gumbel sample backward.

    Only the drawn candidate runs, so only its part of the gradient is known; the others count as 0.
    """

    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """A hard sample."""
        del place
        noisy = torch.log_softmax(logits, dim=0) + gumbel_noise(logits, moment.generator)
        soft = torch.softmax(noisy / moment.temperature, dim=0)
        drawn = int(soft.argmax())
        hard = torch.zeros_like(soft)
        hard[drawn] = 1
        return PlaceDraw(hard + soft - soft.detach(), torch.softmax(logits, dim=0), (drawn,))


class Sigmoid(Relaxation):
    """All candidates, each weighted by a gate of its own, sigmoid(a / t): they do not compete."""

    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """The same whatever was drawn before: nothing is random."""
        return PlaceDraw(torch.sigmoid(logits / moment.temperature), self.chances(place, logits))

    def chances(self, place: MixedPlace, logits: Tensor) -> Tensor:
        """[choices] the gates as shares of their sum."""
        del place
        gates = torch.sigmoid(logits)
        return gates / gates.sum()


RELAXATIONS: Final[Mapping[str, Callable[[], Relaxation]]] = MappingProxyType({
    "binary_gates": BinaryGates,
    "gumbel": Gumbel,
    "max_w": MaxW,
    "sigmoid": Sigmoid,
    "softmax": Softmax,
    "straight_through": StraightThrough,
    "thresholds": Thresholds,
})  # fmt: skip
"""Relaxations by name."""

ALL_RUN: Final = ("gumbel", "max_w", "sigmoid", "softmax")
"""Relaxations whose passes run every candidate; those of the others run one or two."""
