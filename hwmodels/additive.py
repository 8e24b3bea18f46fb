"""Costs that add up over Ops, for whole populations.

Where a space has sites, the cost of every site's configurations is tabled once, and a population is a gather and a sum.
Where it has none, each distinct genome's Ops are looked through once and remembered, which takes milliseconds each.

Notation: B candidates, T configurations of all sites, W costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..spaces.op import Op
from ..spaces.space import SearchSpace

__all__ = ["AdditiveCost"]


class AdditiveCost:
    """W costs of Ops, summed over networks.

    Args:
        cost: Ops -> W numbers, additive over them.
        width: W.
    """

    def __init__(self, cost: Callable[[tuple[Op, ...]], Sequence[float]], width: int) -> None:
        self._cost = cost
        self._width = width
        self._tables: dict[str, NDArray[np.float64]] = {}
        self._known: dict[tuple[str, bytes], Sequence[float]] = {}

    def total(self, space: SearchSpace, genomes: NDArray[np.int16]) -> NDArray[np.float64]:
        """[B, W] costs of every row of `genomes` ([B, G], canonical)."""
        if space.sites() is None:
            return self._looked_through(space, genomes)
        if space.identity not in self._tables:
            self._tables[space.identity] = space.site_index.table(self._cost, self._width)
        return space.site_index.total(self._tables[space.identity], genomes)

    def _looked_through(self, space: SearchSpace, genomes: NDArray[np.int16]) -> NDArray[np.float64]:
        out = np.empty((len(genomes), self._width))
        for position, genome in enumerate(genomes):
            key = (space.identity, genome.tobytes())
            if key not in self._known:
                self._known[key] = self._cost(space.ops(space.decode(genome)))
            out[position] = self._known[key]
        return out
