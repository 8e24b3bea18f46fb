"""Architecture parameters: what gradient-based search learns beside the weights.

Every place has a vector of logits, one per choice. Where edges compete (PC-DARTS, ROME) every node has one more vector,
one logit per edge that ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

import torch
from torch import Tensor, nn

from ...predictors.tasks.task import step_generator
from ...spaces.elastic.mixture import MixedPlace

__all__ = ["ArchitectureParameters", "edges_of"]

SPREAD: Final = 1e-3
"""Standard deviation of initial logits, as published for DARTS and ProxylessNAS."""

_STREAM: Final = 17


def edges_of(places: Iterable[MixedPlace]) -> dict[str, tuple[MixedPlace, ...]]:
    """By node, the edges that end there, in their order; places that stand alone are in none.

    >>> places = [MixedPlace(name=name, choices=("a", "b"), node=node) for name, node in ("xn", "yn", "z-")]
    >>> [place.name for place in edges_of(places)["n"]]
    ['x', 'y']
    """
    edges = [place for place in places if place.node]
    order = {node: index for index, node in enumerate(dict.fromkeys(place.node for place in edges))}
    edges.sort(key=lambda place: order[place.node])
    return {node: tuple(group) for node, group in groupby(edges, key=lambda place: place.node)}


class ArchitectureParameters:
    """The learned logits of a space's places.

    Args:
        places: of the space.
        sizes: how many logits each place has; None = one per choice.
        compete: whether the edges of a node have logits of their own.
        seed: of the small random values they start with.
        device: where they are.

    Attributes:
        logits: by place, [choices], or as many as `sizes` says.
        edges: by node, [edges that end there]; empty where edges do not compete.
    """

    def __init__(
        self,
        places: Sequence[MixedPlace],
        sizes: Sequence[int] | None = None,
        *,
        compete: bool = False,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.places = tuple(places)
        generator = step_generator(seed, 0, _STREAM)
        nodes = edges_of(places) if compete else {}

        def small(size: int) -> nn.Parameter:
            return nn.Parameter((SPREAD * torch.randn(size, generator=generator)).to(device))

        counts = sizes if sizes is not None else [len(place.choices) for place in self.places]
        self.logits = {place.name: small(count) for place, count in zip(self.places, counts, strict=True)}
        self.edges = {node: small(len(edges)) for node, edges in nodes.items()}

    def tensors(self) -> list[nn.Parameter]:
        """All of them, for an optimiser."""
        return [*self.logits.values(), *self.edges.values()]

    def state(self) -> dict[str, Tensor]:
        """Copies by name: ``logits/<place>`` and ``edges/<node>``."""
        return {name: parameter.detach().clone() for name, parameter in self._named()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, parameter in self._named():
            parameter.copy_(state[name])

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        named = [(f"logits/{name}", parameter) for name, parameter in self.logits.items()]
        return named + [(f"edges/{node}", parameter) for node, parameter in self.edges.items()]
