"""The contract of relaxations: from architecture parameters to a mixture that the supernet runs.

Lifecycle of a step. `draw` gives the mixture of one forward pass; its weights are differentiable with respect to the
parameters. The trainer runs the supernet, adds the cost of `Draw.chances`, goes backward and lets the optimiser step;
then `settle` may correct the step. At the end `chances` tells the learned distribution, without noise.

Everything random comes from `Moment.generator`, which follows from (seed, step).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import torch
from torch import Tensor

from ...spaces.elastic.mixture import MixedPlace
from ...spaces.elastic.supernet import Supernet
from ...spaces.space import SearchSpace
from .parameters import ArchitectureParameters

__all__ = ["Draw", "Learns", "Moment", "PlaceDraw", "Relaxation", "gumbel_noise"]


class Learns(StrEnum):
    """What a backward pass is for."""

    WEIGHTS = "weights"
    CHOICES = "choices"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something is drawn.

    Attributes:
        learns: what the pass is for.
        generator: of all noise, on the CPU.
        temperature: of softmaxes.
        warming: whether choices are not learned yet.
    """

    learns: Learns
    generator: torch.Generator
    temperature: float = 1.0
    warming: bool = False


@dataclass(frozen=True, slots=True)
class PlaceDraw:
    """One place of a mixture.

    Attributes:
        weights: [choices] factors of the candidates' outputs.
        chances: [choices] probabilities that the cost is an expectation under; differentiable.
        active: candidates to run; None = all.
    """

    weights: Tensor
    chances: Tensor
    active: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What one forward pass runs.

    Attributes:
        weights, active, edges: of the mixture, see `Mixture`.
        chances: by place, [choices] probabilities.
        kept: by node, [edges] probabilities that a network keeps the edge; a node left out keeps all alike.
    """

    weights: Mapping[str, Tensor]
    chances: Mapping[str, Tensor]
    active: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    edges: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    kept: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))


class Relaxation(ABC):
    """Turns logits into weights, place by place.

    Attributes:
        blended: whether the mixture's choices share one kernel, see `Mixture.blended`.
    """

    blended = False

    def bind(self, space: SearchSpace, supernet: Supernet) -> None:  # noqa: B027  # most need nothing of it
        """Look at what is searched, once, before anything is trained."""

    def size(self, place: MixedPlace) -> int:
        """How many parameters a place has; one per choice unless the relaxation says otherwise."""
        return len(place.choices)

    @abstractmethod
    def place(self, place: MixedPlace, logits: Tensor, moment: Moment) -> PlaceDraw:
        """The draw of one place from its logits [choices]."""

    def chances(self, place: MixedPlace, logits: Tensor) -> Tensor:
        """[choices] the learned distribution of a place, without noise."""
        del place
        return torch.softmax(logits, dim=0)

    def settle(  # noqa: B027  # most leave the step as it is
        self, parameters: ArchitectureParameters, before: Mapping[str, Tensor], draw: Draw
    ) -> None:
        """Correct the optimiser's step, in place.

        Args:
            parameters: after the step.
            before: by place, copies of the logits before it.
            draw: that the step's gradients came from.
        """


def gumbel_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of the shape, type and device of `like`; the argmax of log p + noise is a draw from p."""
    uniform = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return -(-uniform.clamp(1e-12, 1 - 1e-12).log()).log().to(like)
