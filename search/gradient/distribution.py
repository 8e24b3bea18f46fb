"""What a gradient-based search has learned: how likely every choice of every place is, and every edge of every node.

It is plain data and outlives the supernet: a strategy draws from it, a derivation takes its best, JSON keeps it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ...spaces.elastic.mixture import NONE, MixedPlace
from ...spaces.gene import Population
from ...spaces.space import SearchSpace
from .parameters import edges_of

__all__ = ["Chosen", "Distribution", "choosable", "options_of", "places_of"]

MOST_OPTIONS: Final = 1 << 16

Chosen = dict[str, int | None]
"""By place, the index of its choice; None where its edge is left out."""


def places_of(space: SearchSpace) -> tuple[MixedPlace, ...]:
    """The places of a space; raises StrategyError where it has none."""
    places = space.mixed_places()
    if places is None:
        raise StrategyError(
            f"gradient-based search needs a space whose places choose independently; {space.name!r} "
            f"({space.preset or 'no preset'}) has no mixtures. Take darts, fbnet, single_path_nas or another such "
            "space, or search this one without `gradient`."
        )
    return places


def choosable(place: MixedPlace) -> tuple[int, ...]:
    """The choices that may stand on an edge that is kept: all but `NONE`, where a node says how many it keeps."""
    return tuple(index for index, name in enumerate(place.choices) if not (place.kept and name == NONE))


def options_of(places: tuple[MixedPlace, ...]) -> list[list[Chosen]]:
    """What may stand where, in groups that are independent: of a place its choices, of a node its edges with theirs.

    A network takes one option of every group.

    Raises:
        StrategyError: a node has more options than can be listed.
    """
    groups: list[list[Chosen]] = [
        [{place.name: choice} for choice in choosable(place)] for place in places if not place.kept
    ]
    for node, edges in edges_of(places).items():
        if not edges[0].kept:
            continue
        count = math.comb(len(edges), edges[0].kept) * max(len(choosable(edge)) for edge in edges) ** edges[0].kept
        if count > MOST_OPTIONS:
            raise StrategyError(f"node {node!r} has {count} options; at most {MOST_OPTIONS} can be compared.")
        left_out: Chosen = dict.fromkeys((edge.name for edge in edges), None)
        groups.append(
            [
                left_out | dict(zip((edge.name for edge in kept), choices, strict=True))
                for kept in itertools.combinations(edges, edges[0].kept)
                for choices in itertools.product(*map(choosable, kept))
            ]
        )
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Independent choices.

    Attributes:
        places: of the space.
        chances: by place, [choices] probabilities.
        edges: by node whose edges compete, [edges] shares of 1; a node that is left out has no preference.
    """

    places: tuple[MixedPlace, ...]
    chances: Mapping[str, NDArray[np.float64]]
    edges: Mapping[str, NDArray[np.float64]]

    @classmethod
    def uniform(cls, places: tuple[MixedPlace, ...]) -> Distribution:
        """Where nothing was learned."""
        chances = {place.name: np.full(len(place.choices), 1 / len(place.choices)) for place in places}
        return cls(places=places, chances=chances, edges={})

    @property
    def entropy(self) -> float:
        """Mean over the places, as a share of that of a uniform choice: 1 = nothing learned, 0 = decided."""
        shares = []
        for place in self.places:
            chances = self.chances[place.name]
            if len(chances) > 1:
                shares.append(-float((chances * np.log(np.maximum(chances, 1e-300))).sum()) / np.log(len(chances)))
        return float(np.mean(shares)) if shares else 0.0

    def draw(self, rng: np.random.Generator) -> Chosen:
        """One network: a choice for each place, and the kept edges of each node without replacement."""
        chosen: Chosen = {}
        for place in self.places:
            allowed = choosable(place)
            chances = self.chances[place.name][list(allowed)]
            chosen[place.name] = int(rng.choice(allowed, p=chances / chances.sum()))
        for node, edges in edges_of(self.places).items():
            if edges[0].kept:
                shares = self.edges.get(node, np.full(len(edges), 1 / len(edges)))
                shares = np.maximum(shares, 1e-12)
                kept = rng.choice(len(edges), edges[0].kept, replace=False, p=shares / shares.sum())
                chosen |= {edge.name: None for index, edge in enumerate(edges) if index not in kept}
        return chosen

    def sample(self, space: SearchSpace, n: int, rng: np.random.Generator) -> Population:
        """[n, G] genomes of `draw`."""
        return np.stack([space.assembled(self.draw(rng)) for _ in range(n)])

    def to_json(self) -> dict[str, Any]:
        """Plain data: `chances` with the names of the choices, and `edges`."""
        return {
            "chances": {
                place.name: dict(zip(place.choices, self.chances[place.name].tolist(), strict=True))
                for place in self.places
            },
            "edges": {node: shares.tolist() for node, shares in self.edges.items()},
        }

    @classmethod
    def from_json(cls, places: tuple[MixedPlace, ...], data: Mapping[str, Any]) -> Distribution:
        """Inverse of `to_json`; raises StrategyError where the places are others."""
        told = data["chances"]
        if {name: tuple(chances) for name, chances in told.items()} != {place.name: place.choices for place in places}:
            raise StrategyError("learned distribution: its places are not those of this space; learn it again.")
        return cls(
            places=places,
            chances={name: np.array(list(chances.values())) for name, chances in told.items()},
            edges={node: np.array(shares) for node, shares in data["edges"].items()},
        )
