"""Mixed places that are decided by genes of their own: from choices by place to genomes, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import SpaceError
from ..elastic.mixture import MixedPlace
from ..gene import GeneTable, Population

__all__ = ["GenePlace", "GenePlaces", "covers", "joint_choices"]


@dataclass(frozen=True, slots=True)
class GenePlace:
    """A mixed place, and the genes that nothing else depends on.

    Attributes:
        place: names of the choices, and where they stand.
        genes: positions of the genes that decide it, ascending.
        rows: [choices, genes] what they are for every choice.
    """

    place: MixedPlace
    genes: tuple[int, ...]
    rows: Population


def joint_choices(table: GeneTable, genes: Sequence[int]) -> Population:
    """[N, G] canonical genomes with all joint choices of `genes`, conditioned by one another alone; 0 elsewhere."""
    grids = np.indices([int(table.cardinalities[gene]) for gene in genes], dtype=np.int16)
    genomes = np.zeros((grids[0].size, len(table.genes)), dtype=np.int16)
    genomes[:, genes] = np.stack([grid.ravel() for grid in grids], axis=1)
    return np.unique(table.canonical(genomes), axis=0)


class GenePlaces:
    """The places of a space whose genomes are their choices side by side.

    Args:
        space: its name, for messages.
        table: its genes.
        places: all of them; together they hold every gene that has a choice, once.
    """

    def __init__(self, space: str, table: GeneTable, places: Iterable[GenePlace]) -> None:
        self.space = space
        self.table = table
        self.gene_places = tuple(places)
        self.places = tuple(each.place for each in self.gene_places)
        assert covers(table, [each.genes for each in self.gene_places])

    def assembled(self, chosen: Mapping[str, int | None]) -> NDArray[np.int16]:
        """[G] the canonical genome with one choice at every place; raises SpaceError for any other choices."""
        if different := sorted({place.name for place in self.places} ^ set(chosen)):
            raise SpaceError(f"{self.space}: choices and places differ; only one has {different[:4]}.")
        genome = np.zeros(len(self.table.genes), dtype=np.int16)
        for each in self.gene_places:
            index = chosen[each.place.name]
            if index is None or not 0 <= index < len(each.rows):
                raise SpaceError(
                    f"{self.space}: choice {index} at place {each.place.name!r}; choose one of 0 to "
                    f"{len(each.rows) - 1}, that is of {list(each.place.choices)}."
                )
            genome[list(each.genes)] = each.rows[index]
        return genome

    def choices_of(self, genome: NDArray[np.int16]) -> dict[str, int | None]:
        """The choice at every place of a canonical genome [G]."""
        chosen: dict[str, int | None] = {}
        for each in self.gene_places:
            (rows,) = np.nonzero((each.rows == genome[list(each.genes)]).all(axis=1))
            chosen[each.place.name] = int(rows[0])
        return chosen


def covers(table: GeneTable, groups: Iterable[Sequence[int]]) -> bool:
    """Whether every gene with a choice is in exactly one of the groups."""
    held = sorted(gene for group in groups for gene in group if table.cardinalities[gene] > 1)
    return held == np.flatnonzero(table.cardinalities > 1).tolist()
