"""The genes of DARTS, which say what a node reads, and its mixed places, which say what stands on every edge.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055 (sections 2.1 and 2.4).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import SpaceError
from ..elastic.mixture import NONE, MixedPlace
from ..gene import Gene, GeneTable
from .darts_network import INPUTS, KINDS, NODES, Kind

__all__ = ["DartsPlaces", "darts_genes", "pairs"]

KEPT: Final = 2
"""Edges that a node keeps."""


def pairs(node: int) -> tuple[tuple[int, int], ...]:
    """The pairs of earlier nodes that a cell's node number `node` (from 0) may read.

    >>> pairs(1)
    ((0, 1), (0, 2), (1, 2))
    """
    return tuple(itertools.combinations(range(INPUTS + node), KEPT))


def darts_genes(choices: tuple[str, ...]) -> Iterator[Gene]:
    """Per node of both cells: the two nodes it reads, where there is a choice, and the operation on each."""
    default = choices.index("sep_conv_3x3") if "sep_conv_3x3" in choices else 0
    for kind in KINDS:
        for node in range(NODES):
            if node:
                yield Gene(f"{kind}.{node}.inputs", pairs(node))
            for letter in "ab":
                yield Gene(f"{kind}.{node}.{letter}", choices, default=default)


class DartsPlaces:
    """Every edge of both cells; its choices are `none`, then the operations.

    Args:
        table: the genes.
        choices: operations.
    """

    def __init__(self, table: GeneTable, choices: Sequence[str]) -> None:
        self.table = table
        self.choices = (NONE, *choices)
        # By kind of cell, by the node they end in, and by the one they read.
        self.places = tuple(
            MixedPlace(name=_edge(kind, source, node), choices=self.choices, node=_node(kind, node), kept=KEPT)
            for kind in KINDS
            for node in range(NODES)
            for source in range(INPUTS + node)
        )

    def assembled(self, chosen: Mapping[str, int | None]) -> NDArray[np.int16]:
        """[G] the canonical genome of two edges into every node; raises SpaceError for any other choices."""
        if different := sorted({place.name for place in self.places} ^ set(chosen)):
            raise SpaceError(f"darts: choices and places differ; only one has {different[:4]}.")
        genome = np.zeros(len(self.table.genes), dtype=np.int16)
        for kind in KINDS:
            for node in range(NODES):
                reads = {source: chosen[_edge(kind, source, node)] for source in range(INPUTS + node)}
                kept = {source: choice for source, choice in reads.items() if choice}
                if len(kept) != KEPT or not all(0 < choice < len(self.choices) for choice in kept.values()):
                    raise SpaceError(
                        f"darts: node {_node(kind, node)!r} is chosen to read {reads}; choose an operation, 1 to "
                        f"{len(self.choices) - 1}, for exactly {KEPT} of its edges, and None for the others."
                    )
                if node:
                    genome[self.table.find(f"{kind}.{node}.inputs")] = pairs(node).index(tuple(kept))  # type: ignore[arg-type]  # two of them
                for letter, choice in zip("ab", kept.values(), strict=True):
                    genome[self.table.find(f"{kind}.{node}.{letter}")] = choice - 1
        return genome

    def choices_of(self, genome: NDArray[np.int16]) -> dict[str, int | None]:
        """The choice on every edge of a canonical genome [G], None on those that no node reads."""
        chosen: dict[str, int | None] = dict.fromkeys(place.name for place in self.places)
        for kind in KINDS:
            for node in range(NODES):
                reads = pairs(node)[genome[self.table.find(f"{kind}.{node}.inputs")] if node else 0]
                for letter, source in zip("ab", reads, strict=True):
                    choice = int(genome[self.table.find(f"{kind}.{node}.{letter}")])
                    chosen[_edge(kind, source, node)] = choice + 1
        return chosen


def _node(kind: Kind, node: int) -> str:
    """Name of one of a cell's own nodes, whose numbers start behind the inputs'."""
    return f"{kind}.{INPUTS + node}"


def _edge(kind: Kind, source: int, node: int) -> str:
    return f"{kind}.{source}-{INPUTS + node}"
