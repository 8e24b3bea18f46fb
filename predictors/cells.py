"""Cells as labelled graphs, a population at a time: what the path and adjacency encodings and graph networks read.

Operations are vertices, whatever the family writes them on. Graphs are those of the representative that a family's keys
are made from, so that cells of equal keys are equal graphs: dead operations are gone and isomorphic cells coincide.

Notation: B candidates, V vertices (the first `sources` are inputs, the last is the output), K operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.gene import Population
from ..spaces.space import SearchSpace

__all__ = ["ABSENT", "IDENTITY", "Cells", "cells", "has_cells", "path_counts", "path_names"]

ABSENT: Final = -1
"""Label of a vertex that is not there, and of inputs and outputs."""

IDENTITY: Final = -2
"""Label of a vertex that passes its input on."""

MAX_PATHS: Final = 400
"""Most sequences told apart; longer ones than fit are left out, as truncated path encodings do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """One kind of cell of every candidate.

    Attributes:
        name: of the kind of cell; "" where a space has one.
        operations: names of the labels 0 … K - 1.
        sources: how many vertices are inputs.
        adjacency: [B, V, V] bool, an edge from row to column, rows before columns.
        labels: [B, V] operation of every vertex, `IDENTITY` or `ABSENT`.
    """

    name: str
    operations: tuple[str, ...]
    sources: int
    adjacency: NDArray[np.bool_]
    labels: NDArray[np.int16]


def has_cells(space: SearchSpace) -> bool:
    """Whether `cells` knows the space's family."""
    return space.name in _FAMILIES and type(space).__name__ != "GeneSpace"


def cells(space: SearchSpace, genomes: Population) -> tuple[Cells, ...]:
    """The kinds of cells of canonical genomes [B, G].

    Raises:
        PredictorError: the family is not made of cells.
    """
    if not has_cells(space):
        raise PredictorError(
            f"space {space.name!r} is not made of cells; the encodings of cells exist for {sorted(_FAMILIES)}."
        )
    return _FAMILIES[space.name](space, genomes)


def path_names(cell: Cells) -> tuple[str, ...]:
    """Names of the columns of `path_counts`, e.g. ``0>conv3x3-bn-relu>maxpool3x3``."""
    sequences = [""]
    names: list[str] = []
    for _ in range(_longest(cell) + 1):
        names += sequences
        sequences = [f"{head}>{operation}" for head in sequences for operation in cell.operations]
    prefix = f"{cell.name}." if cell.name else ""
    return tuple(f"{prefix}{source}{name}" for source in range(cell.sources) for name in names)


def path_counts(cell: Cells) -> NDArray[np.float64]:
    """[B, S] how many paths from each input to the output run through each sequence of operations.

    Identities leave no trace in a sequence. Sequences are ordered by input, then length, then first operation.

    Source: White et al., BANANAS, AAAI 2021, https://arxiv.org/abs/1910.11858, section 3; counted, not only noted.
    """
    kinds, longest = len(cell.operations), _longest(cell)
    vertices = cell.labels.shape[1]
    out = []
    for source in range(cell.sources):
        # runs[v][l]: [B, K**l] how many paths of sequence l-long end in vertex v.
        runs: list[list[NDArray[np.float64]] | None] = [None] * vertices
        runs[source] = [np.ones((len(cell.labels), 1))]
        for vertex in range(cell.sources, vertices):
            arriving = _arriving(cell, runs, vertex, longest)
            last = vertex == vertices - 1
            runs[vertex] = arriving if last else _through(arriving, cell.labels[:, vertex], kinds, longest)
        final = runs[-1] or []
        final += [np.zeros((len(cell.labels), kinds**length)) for length in range(len(final), longest + 1)]
        out += final
    return np.concatenate(out, axis=1)


def _longest(cell: Cells) -> int:
    """Longest sequence that is told apart."""
    kinds, inner = len(cell.operations), cell.labels.shape[1] - cell.sources - 1
    total, longest = 1, 0
    while longest < inner and total + kinds ** (longest + 1) <= MAX_PATHS // cell.sources:
        longest += 1
        total += kinds**longest
    return longest


def _arriving(
    cell: Cells, runs: list[list[NDArray[np.float64]] | None], vertex: int, longest: int
) -> list[NDArray[np.float64]]:
    """By length, the paths that reach a vertex's input."""
    out: list[NDArray[np.float64]] = []
    for earlier in range(vertex):
        present = cell.adjacency[:, earlier, vertex].astype(np.float64)[:, None]
        if not present.any():
            continue
        for length, counts in enumerate((runs[earlier] or [])[: longest + 1]):
            if length == len(out):
                out.append(np.zeros_like(counts))
            out[length] = out[length] + counts * present
    return out


def _through(
    arriving: list[NDArray[np.float64]], labels: NDArray[np.int16], kinds: int, longest: int
) -> list[NDArray[np.float64]]:
    """By length, the paths that leave a vertex: longer by its operation, or as they came through an identity."""
    if not arriving:
        return []
    performs = (labels[:, None] == np.arange(kinds)).astype(np.float64)
    passes = (labels == IDENTITY).astype(np.float64)[:, None]
    out = [counts * passes for counts in arriving]
    for length, counts in enumerate(arriving[:longest]):
        grown = (counts[:, :, None] * performs[:, None, :]).reshape(len(labels), -1)
        if length + 1 == len(out):
            out.append(np.zeros_like(grown))
        out[length + 1] = out[length + 1] + grown
    return out


# --- the families ---------------------------------------------------------------------------------------------------


def _nas_bench_201(space: SearchSpace, genomes: Population) -> tuple[Cells, ...]:
    """Input, an operation per edge in the order of the genes, output."""
    from ..spaces.families.nas_bench_201_cells import CHOICES, EDGES

    choices = space.key_form(genomes)
    operations = tuple(choice for choice in CHOICES if choice not in ("none", "skip_connect"))
    label = {"none": ABSENT, "skip_connect": IDENTITY} | {name: number for number, name in enumerate(operations)}
    vertices = len(EDGES) + 2
    labels = np.full((len(genomes), vertices), ABSENT, dtype=np.int16)
    labels[:, 1:-1] = np.array([label[choice] for choice in CHOICES])[choices]
    # Edges by their source, so that an operation never stands before one that it reads.
    order = sorted(range(len(EDGES)), key=lambda gene: EDGES[gene])
    labels[:, 1:-1] = labels[:, 1:-1][:, order]
    edges = [(-1, 0), *(EDGES[gene] for gene in order), (EDGES[-1][1], -2)]
    joined = np.array([[a[1] == b[0] for b in edges] for a in edges])
    joined[0, -1] = False
    here = labels != ABSENT
    here[:, [0, -1]] = True
    adjacency = joined & here[:, :, None] & here[:, None, :]
    return (Cells(name="", operations=operations, sources=1, adjacency=adjacency, labels=labels),)


def _nas_bench_101(space: SearchSpace, genomes: Population) -> tuple[Cells, ...]:
    """The seven vertices of the module's canonical form."""
    from ..spaces.families.nas_bench_101 import CHOICES, NasBench101Space
    from ..spaces.graph import edge_pairs, has_edge, used_vertices

    if not isinstance(space, NasBench101Space):
        raise PredictorError(f"space {space.name!r} carries the name of a family that it does not belong to.")
    codes, inner = space.modules(genomes)
    vertices = inner.shape[1] + 2
    adjacency = np.zeros((len(genomes), vertices, vertices), dtype=np.bool_)
    for x, y in edge_pairs(vertices):
        adjacency[:, x, y] = has_edge(codes, x, y)
    labels = np.full((len(genomes), vertices), ABSENT, dtype=np.int16)
    labels[:, 1:-1] = np.where(used_vertices(codes, vertices)[:, 1:-1], inner, ABSENT)
    return (Cells(name="", operations=tuple(CHOICES), sources=1, adjacency=adjacency, labels=labels),)


def _darts(space: SearchSpace, genomes: Population) -> tuple[Cells, ...]:
    """Two inputs, two operations for each inner node, output; the normal cell, then the reduction cell."""
    from ..spaces.families.darts import INPUTS, KINDS, DartsSpace

    if not isinstance(space, DartsSpace):
        raise PredictorError(f"space {space.name!r} carries the name of a family that it does not belong to.")
    choices = tuple(space.spec.choices)
    operations = tuple(choice for choice in choices if choice != "skip_connect")
    label = np.array([IDENTITY if choice == "skip_connect" else operations.index(choice) for choice in choices])
    forms = np.split(space.key_form(genomes), len(KINDS), axis=1)
    out = []
    for kind, form in zip(KINDS, forms, strict=True):
        source, operation = np.divmod(form, 64)
        terms = form.shape[1]
        labels = np.full((len(genomes), INPUTS + terms + 1), ABSENT, dtype=np.int16)
        labels[:, INPUTS:-1] = label[operation]
        adjacency = np.zeros((len(genomes), INPUTS + terms + 1, INPUTS + terms + 1), dtype=np.bool_)
        for term in range(terms):
            for read in range(INPUTS):
                adjacency[:, read, INPUTS + term] = source[:, term] == read
            for earlier in range(2 * (term // 2)):
                adjacency[:, INPUTS + earlier, INPUTS + term] = source[:, term] == INPUTS + earlier // 2
        adjacency[:, INPUTS:-1, -1] = True
        out.append(Cells(name=kind, operations=operations, sources=INPUTS, adjacency=adjacency, labels=labels))
    return tuple(out)


_FAMILIES: Final[Mapping[str, Callable[[SearchSpace, Population], tuple[Cells, ...]]]] = MappingProxyType({
    "darts": _darts,
    "nas_bench_101": _nas_bench_101,
    "nas_bench_201": _nas_bench_201,
})  # fmt: skip
