"""An architecture's choices as a readable table: one row per stage and block, one column per kind of choice."""

from __future__ import annotations

from collections.abc import Mapping

from .format import gene_value
from .views import GeneGrid

__all__ = ["gene_tables"]

INDENT = "\N{EM SPACE}"


def gene_tables(choices: Mapping[str, object]) -> tuple[tuple[tuple[str, str], ...], tuple[GeneGrid, ...]]:
    """Split choices into those of the whole network and those of its numbered places.

    A gene named ``stages.0.1.kernel`` is the choice `kernel` at the place ``stages.0.1``; a gene without a
    number concerns the whole network. Places that share their words (``stages``) form one table, in network order.

    Returns:
        (name, value) pairs of the whole network, and one grid per family of places.
    """
    general: list[tuple[str, str]] = []
    places: dict[str, dict[tuple[int, ...], dict[str, str]]] = {}
    for name, value in choices.items():
        *path, what = name.split(".")
        numbers = tuple(int(part) for part in path if part.isdigit())
        if not numbers:
            general.append((name.replace("_", " ").replace(".", " "), gene_value(value)))
            continue
        family = ".".join(part for part in path if not part.isdigit()) or "place"
        places.setdefault(family, {}).setdefault(numbers, {})[what] = gene_value(value)
    return tuple(general), tuple(_grid(family, rows) for family, rows in places.items())


def _grid(family: str, rows: Mapping[tuple[int, ...], Mapping[str, str]]) -> GeneGrid:
    columns = tuple(dict.fromkeys(what for cells in rows.values() for what in cells))
    word = family.rpartition(".")[2].removesuffix("s").replace("_", " ").capitalize()
    outermost = min(len(numbers) for numbers in rows)
    return GeneGrid(
        title=word,
        columns=tuple(column.replace("_", " ").capitalize() for column in columns),
        rows=tuple(
            (
                _place(word, numbers, len(numbers) - outermost),
                tuple(rows[numbers].get(column, "") for column in columns),
            )
            for numbers in sorted(rows)
        ),
    )


def _place(word: str, numbers: tuple[int, ...], level: int) -> str:
    label = ".".join(str(number) for number in numbers)
    return f"{INDENT * level}Block {label}" if level else f"{word} {label}"
