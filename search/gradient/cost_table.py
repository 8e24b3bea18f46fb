"""What a network costs, choice by choice, so that the cost of a mixture is a differentiable expectation.

Where places choose independently and costs are additive over sites, a network's cost is a constant plus one number per
place. The table is read off the cost of networks that differ in one place, in a single vectorised call of any quantity:
MACs, parameters, or a device's latency model. Where costs are not quite additive it is the best such table; its error
on random networks is part of it.

Source: look-up tables in the loss go back to Cai et al., ProxylessNAS, ICLR 2019, https://arxiv.org/abs/1812.00332, and
Wu et al., FBNet, CVPR 2019, https://arxiv.org/abs/1812.03443.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...spaces.elastic.mixture import MixedPlace
from ...spaces.space import SearchSpace
from ..problem import Quantity
from .distribution import Chosen, choosable, options_of, places_of
from .parameters import edges_of
from .relaxation import Draw

__all__ = ["CostTable"]

CHECKED: Final = 128
"""Random networks that the table is held against."""

TRIALS_PER_CHOICE: Final = 8
"""Random networks that tell the table of a space of cells, per choice of an edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """An additive cost.

    Attributes:
        quantity: label of what is told, e.g. ``latency_ms@host``.
        places: of the space.
        constant: what every network costs, in the quantity's unit.
        costs: by place, [choices], what a choice adds; of edges that a node does not keep nothing is added.
        error: largest relative error over random networks of the space; rounding where costs are additive.
    """

    quantity: str
    places: tuple[MixedPlace, ...]
    constant: float
    costs: Mapping[str, NDArray[np.float64]]
    error: float

    @classmethod
    def of(cls, space: SearchSpace, name: str, quantity: Quantity, rng: np.random.Generator) -> CostTable:
        """Read the table off a quantity.

        Args:
            space: whose places choose.
            name: of the quantity, as a label.
            quantity: [B, G] genomes -> [B] cost.
            rng: draws the networks that the table is held against.
        """
        places = places_of(space)
        trials = _trials(space, places, rng)
        genomes = np.stack([space.assembled(chosen) for chosen in trials])
        checked = space.sample(CHECKED, rng)
        values = quantity(np.concatenate([genomes, checked]))
        design = np.stack([_indicators(places, chosen) for chosen in trials])
        # Some columns always add up to the same; the solution of least norm is one of many that tell the same costs.
        solution = np.asarray(np.linalg.lstsq(design, values[: len(trials)], rcond=None)[0], dtype=np.float64)
        table = cls(quantity=name, places=places, constant=solution[0], costs=_split(places, solution[1:]), error=0.0)
        table = table._anchored()
        told = np.array([table.total(space.choices_of(genome)) for genome in checked])
        truth = values[len(trials) :]
        error = float(np.max(np.abs(told - truth) / np.maximum(np.abs(truth), 1e-300)))
        return cls(quantity=name, places=places, constant=table.constant, costs=table.costs, error=error)

    @property
    def identity(self) -> str:
        """Hash of the numbers, to nine digits of the largest: what is below is rounding."""
        numbers = np.concatenate([[self.constant], *self.costs.values()])
        rounded = np.round(numbers / np.abs(numbers).max(), 9) + 0.0  # no negative zeros
        return hashlib.sha256(" ".join(map(str, rounded)).encode()).hexdigest()[:24]

    @property
    def least(self) -> float:
        """Cost of the cheapest network."""
        return sum(min(map(self.added, group)) for group in options_of(self.places)) + self.constant

    @property
    def uniform(self) -> float:
        """Mean cost where every choice is as likely as any other."""
        return sum(float(np.mean([*map(self.added, group)])) for group in options_of(self.places)) + self.constant

    def total(self, chosen: Chosen) -> float:
        """Cost of one network."""
        return self.constant + self.added(chosen)

    def added(self, chosen: Chosen) -> float:
        """What these choices add to the constant; places that are not named add nothing."""
        return sum(float(self.costs[name][choice]) for name, choice in chosen.items() if choice is not None)

    def expected(self, draw: Draw) -> Tensor:
        """Scalar, differentiable: the cost of a mixture, every place's choice drawn from its chances."""
        nodes = edges_of(self.places)
        total = torch.as_tensor(self.constant)
        for place in self.places:
            chances = draw.chances[place.name]
            cost = (chances * torch.as_tensor(self.costs[place.name], dtype=chances.dtype, device=chances.device)).sum()
            if place.kept:
                edges = nodes[place.node]
                kept = draw.kept.get(place.node)
                cost = cost * (place.kept / len(edges) if kept is None else kept[edges.index(place)])
            total = total.to(cost) + cost
        return total

    def _anchored(self) -> CostTable:
        """The same costs with the cheapest choice of every place at 0; of a node, of all of its edges."""
        constant, costs = self.constant, dict(self.costs)
        nodes = edges_of(self.places)
        groups = [(place,) for place in self.places if not place.kept]
        groups += [edges for edges in nodes.values() if edges[0].kept]
        for group in groups:
            least = min(float(costs[place.name][list(choosable(place))].min()) for place in group)
            constant += least * (group[0].kept or 1)
            for place in group:
                shifted = costs[place.name].copy()
                shifted[list(choosable(place))] -= least
                costs[place.name] = shifted
        return CostTable(quantity=self.quantity, places=self.places, constant=constant, costs=costs, error=self.error)


def _trials(space: SearchSpace, places: tuple[MixedPlace, ...], rng: np.random.Generator) -> list[Chosen]:
    """The networks that tell the table: one, and all that differ from it in one place.

    Where nodes keep some of their edges, random ones instead: nodes that compute the same are run once, so that costs
    are not quite additive, and what differs in one edge from a regular network would tell of little else.
    """
    if not any(place.kept for place in places):
        base: Chosen = {place.name: 0 for place in places}
        return [base] + [{**base, place.name: choice} for place in places for choice in range(1, len(place.choices))]
    count = TRIALS_PER_CHOICE * sum(len(place.choices) for place in places)
    return [space.choices_of(genome) for genome in space.sample(count, rng)]


def _indicators(places: tuple[MixedPlace, ...], chosen: Chosen) -> NDArray[np.float64]:
    """[1 + choices of all places] 1 for the constant and for every choice that is made."""
    parts = [np.ones(1)]
    for place in places:
        part = np.zeros(len(place.choices))
        if (choice := chosen[place.name]) is not None:
            part[choice] = 1.0
        parts.append(part)
    return np.concatenate(parts)


def _split(places: tuple[MixedPlace, ...], numbers: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    ends = np.cumsum([len(place.choices) for place in places])[:-1]
    return {place.name: part for place, part in zip(places, np.split(numbers, ends), strict=True)}
