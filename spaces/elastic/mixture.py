"""Mixtures: weighted superpositions of choices, run by the same supernet that runs architectures.

A space whose choices are made independently at named places (blocks of a chain, edges of a cell) lists them as
`MixedPlace`; a `Mixture` says how much of every choice each place takes. The output of a place is
sum_c w_c * candidate_c(x). A mixture with all weight on one choice of every place is an architecture.

Lifecycle. ``places = space.mixed_places()`` (None: the space has no mixtures), then ``supernet(*inputs, mixture)`` as
often as wanted, and at the end ``space.decode(space.assembled(chosen))`` with one choice per place. Candidates may
share batch norms, which then know the statistics of no mixture: run mixtures in training mode.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055; Xu et al., PC-DARTS, ICLR 2020,
https://arxiv.org/abs/1907.05737 (edge factors); Cai et al., ProxylessNAS, ICLR 2019, https://arxiv.org/abs/1812.00332
(gates of paths that do not run); Stamoulis et al., Single-Path NAS, ECML 2019, https://arxiv.org/abs/1904.02877
(blended kernels).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import SpaceError

__all__ = ["NONE", "ChoicePlaces", "MixedPlace", "Mixture", "Term", "added", "combined", "one_hot"]

NONE: Final = "none"
"""The choice of no edge at all: it adds nothing to its node, and is never run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPlace:
    """A place of a network where one of several candidates stands, whatever stands elsewhere.

    Attributes:
        name: unique and stable, e.g. "stages.1.2" or "normal.0-3".
        choices: names of the candidates, in the order of a mixture's weights; `NONE` where the place may be empty.
        node: places with the same node are edges that end there, in the order of their factors; "" = it stands alone.
        kept: how many edges of its node a network keeps, none of them `NONE`; 0 = every edge by its own choice.
    """

    name: str
    choices: tuple[str, ...]
    node: str = ""
    kept: int = 0


class ChoicePlaces(Protocol):
    """All mixed places of a space, and how choices there make a genome."""

    @property
    def places(self) -> tuple[MixedPlace, ...]:
        """What a mixture weights."""
        ...

    def assembled(self, chosen: Mapping[str, int | None]) -> NDArray[np.int16]:
        """As `SearchSpace.assembled`."""
        ...

    def choices_of(self, genome: NDArray[np.int16]) -> dict[str, int | None]:
        """As `SearchSpace.choices_of`, for a canonical genome [G]."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """A candidate that runs at a place, or an edge that runs into a node.

    Attributes:
        index: the choice, or the edge among those of its node.
        weight: of the output, a tensor of no axes.
        silent: the weight is 0, so that nothing but the weight's own gradient needs the output.
    """

    index: int
    weight: Tensor
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """How much of every choice each place takes; gradients reach the weights and the factors.

    A candidate that is run with a weight of exactly 0 costs its output alone: no graph is kept of it, since all first
    derivatives through it are 0, yet its weight's gradient is right: <dL/d output of the place, candidate(x)>. So
    binary gates cost the memory of the one path whose gate is 1. Where a weight of 0 asks for no gradient, nothing
    runs.

    Attributes:
        weights: by place, [choices], floating point; need not add up to 1.
        active: by place, the indices of the candidates that are run at all; others cost neither time nor memory, and
            their weight counts as 0 and gets no gradient. A place that is left out runs all.
        edges: by node, [edges that end there] factors in the order of `SearchSpace.mixed_places`; a node that is left
            out has factors 1.
        blended: superkernels: one candidate runs per place, whose kernel and channels are blends of all choices,
            instead of a sum of outputs. Only where all choices of a place have a `Superkernel`.
    """

    weights: Mapping[str, Tensor]
    active: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    edges: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    blended: bool = False

    def terms(self, places: Iterable[MixedPlace]) -> dict[str, tuple[Term, ...]]:
        """By place, what runs there; waits for the device once.

        Raises:
            SpaceError: the mixture does not fit `places`, all those of the space.
        """
        places = tuple(places)
        self.check(places)
        values = iter(torch.cat([self.weights[place.name].detach() for place in places]).tolist() if places else ())
        found = {}
        for place in places:
            weights = self.weights[place.name]
            active = self.active.get(place.name, range(len(place.choices)))
            numbers = [next(values) for _ in place.choices]
            terms = [
                Term(index, weights[index], numbers[index] == 0)
                for index in active
                if place.choices[index] != NONE and (numbers[index] != 0 or weights.requires_grad)
            ]
            # Silent ones last: autocast remembers a weight as it first met it, with or without a graph.
            found[place.name] = tuple(sorted(terms, key=lambda term: term.silent))
        return found

    def factors(self, places: Iterable[MixedPlace]) -> dict[str, Term]:
        """By place, the factor of its edge; those of 1 are left out. Waits for the device once per node."""
        values = {node: factors.tolist() for node, factors in self.edges.items()}
        seen: dict[str, int] = {}
        found = {}
        for place in places:
            if place.node in self.edges:
                position = seen[place.node] = seen.get(place.node, -1) + 1
                found[place.name] = Term(position, self.edges[place.node][position], values[place.node][position] == 0)
        return found

    def check(self, places: Sequence[MixedPlace]) -> None:
        """Compare with the places of a space.

        Raises:
            SpaceError: a place is missing or unknown, or has another number of choices or edges than weights.
        """
        if different := sorted({place.name for place in places} ^ set(self.weights)):
            raise SpaceError(f"mixture and space differ in their places; only one has {different[:4]}.")
        nodes: dict[str, int] = {}
        for place in places:
            if place.node:
                nodes[place.node] = nodes.get(place.node, 0) + 1
            name, count = place.name, len(place.choices)
            if tuple(self.weights[name].shape) != (count,):
                raise SpaceError(
                    f"mixture: weights of place {name!r} have shape {tuple(self.weights[name].shape)}; they must be "
                    f"({count},), one for each of {list(place.choices)}."
                )
            if stray := [index for index in self.active.get(name, ()) if not 0 <= index < count]:
                raise SpaceError(f"mixture: active candidates {stray} of place {name!r}; allowed: 0 to {count - 1}.")
        for node, factors in self.edges.items():
            if tuple(factors.shape) != (nodes.get(node),):
                raise SpaceError(
                    f"mixture: factors of node {node!r} have shape {tuple(factors.shape)}; nodes and how many edges "
                    f"end there: {nodes}."
                )


def added(total: Tensor | None, term: Term, run: Callable[[], Tensor]) -> Tensor:
    """`total`, None for nothing, plus the weighted output of `run`, of the same shape."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not term.silent):
        output = run()
    weight = term.weight.to(output)  # its data type and device
    return output * weight if total is None else torch.addcmul(total, output, weight)


def combined(terms: Iterable[Term], run: Callable[[int], Tensor]) -> Tensor | None:
    """The weighted sum of the outputs of candidates, all of one shape; None where there are no terms."""
    total = None
    for term in terms:
        total = added(total, term, functools.partial(run, term.index))
    return total


def one_hot(
    places: Iterable[MixedPlace], chosen: Mapping[str, int | None], *, dtype: torch.dtype | None = None
) -> Mixture:
    """The mixture that is one architecture; its weights ask for no gradient.

    Args:
        places: of the space.
        chosen: by place, the choice that stands there; None where nothing does.
        dtype: of the weights; None = torch's default.
    """
    weights = {}
    for place in places:
        weights[place.name] = torch.zeros(len(place.choices), dtype=dtype)
        if (index := chosen[place.name]) is not None:
            weights[place.name][index] = 1
    return Mixture(weights=weights)
