"""Choice tables: a value that depends on a few genes, as an array with one axis per gene.

What a place of a network computes, and the shape that reaches it, are such values. Tables are combined cell by cell and
then drop the genes that turn out not to matter, so dependencies are exact, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SpaceError
from .gene import Gene

__all__ = ["ChoiceTable", "combine"]

MAX_CELLS = 1 << 14
"""Joint choices that one place may depend on."""


@dataclass(frozen=True, slots=True)
class ChoiceTable:
    """A value by the choices of some genes.

    Attributes:
        genes: positions of the genes, ascending.
        cells: one axis per gene, of objects.
    """

    genes: tuple[int, ...]
    cells: NDArray[Any]

    @classmethod
    def constant(cls, value: object) -> ChoiceTable:
        """The same value whatever is chosen."""
        return cls((), _filled((), [value]))

    @classmethod
    def of_gene(cls, position: int, values: Sequence[object]) -> ChoiceTable:
        """One value per choice of one gene."""
        return cls((position,), _filled((len(values),), values))

    def at(self, choices: Mapping[int, int]) -> Any:
        """The value under the choice indices by gene position; others are ignored."""
        return self.cells[tuple(choices[gene] for gene in self.genes)]

    def reduced(self) -> ChoiceTable:
        """Without the genes that change nothing."""
        genes, cells = list(self.genes), self.cells
        for axis in reversed(range(len(genes))):
            first = cells.take([0], axis=axis)
            if all(a == b for a, b in zip(np.broadcast_to(first, cells.shape).flat, cells.flat, strict=True)):
                cells = first.squeeze(axis) if cells.ndim > 1 else _filled((), [cells[0]])
                del genes[axis]
        return ChoiceTable(tuple(genes), cells)


def combine(
    genes: Sequence[Gene], place: str, function: Callable[..., object], tables: Sequence[ChoiceTable]
) -> ChoiceTable:
    """Apply `function` to the tables' values in every cell of their joint table.

    Args:
        genes: of the space, by position.
        place: what messages call the place.
        function: one argument per table.
        tables: what it depends on.

    Raises:
        SpaceError: too many joint choices, or what `function` raises, with place and choices.
    """
    positions = tuple(sorted({gene for table in tables for gene in table.genes}))
    shape = tuple(genes[position].cardinality for position in positions)
    if math.prod(shape) > MAX_CELLS:
        names = ", ".join(genes[position].name for position in positions)
        raise SpaceError(
            f"{place}: depends on {names} together, {math.prod(shape)} combinations; allowed: {MAX_CELLS}. "
            "Fix the shape in between (a conv with `out`), or choose fewer widths and strides before it."
        )
    values = []
    for index in np.ndindex(shape):
        choices = dict(zip(positions, index, strict=True))
        try:
            values.append(function(*(table.at(choices) for table in tables)))
        except SpaceError as error:
            when = ", ".join(f"{genes[at].name} = {genes[at].values[choice]!r}" for at, choice in choices.items())
            raise SpaceError(f"{place}: {error}" + (f" This happens when {when}." if when else "")) from error
    return ChoiceTable(positions, _filled(shape, values))


def _filled(shape: tuple[int, ...], values: Sequence[object]) -> NDArray[Any]:
    cells = np.empty(shape, dtype=object)
    for index, value in zip(np.ndindex(shape), values, strict=True):
        cells[index] = value
    return cells
