"""Encodings: genomes as numbers that regressors read.

Architectures of equal keys have equal encodings wherever the family says which genome stands for them: inactive genes
take no value, dead operations of cells are gone, isomorphic cells coincide.

- `one_hot`: a column per gene and choice, and one per gene that can be inactive.
- `genes`: as `one_hot`, but an ordered gene is a thermometer ("more than the first choice", "… the second", …). Scaled
  so that two different categorical choices, and the two ends of an ordered gene, are at squared distance 1.
- `pairs`: products of two genes' columns of `one_hot`.
- `counts`: how often each choice occurs among genes with equal choices, or in a cell, with the cell's edges and depth.
- `path`: of cells, how many paths run through each sequence of operations; see `cells`.
- `adjacency`: edges and labels of cells, flattened; elsewhere the genes are the vertices of a chain.
- `op_statistics`: MACs, parameters, bytes, layers: in total and by stage, as logarithms.
- `site_costs`: log MACs of every site.
- `reference_latency`: log roofline latency on `REFERENCE_DEVICES`.

Numbers (all but 0/1 columns and path counts) are standardised over a fixed sample of the space, never over the rows at
hand, so that an encoding is a function of the genome alone.

Notation: B candidates, G genes, F columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError, SpaceError
from ..spaces.gene import Population
from ..spaces.space import SearchSpace
from .cells import ABSENT, Cells, cells, has_cells, path_counts, path_names
from .graphs import GraphLayout
from .op_statistics import QUANTITIES, SiteStatistics
from .representatives import CACHED, SpaceKey, reference_sample, representatives

__all__ = [
    "KINDS",
    "REFERENCE_DEVICES",
    "Encoding",
    "available",
    "encode",
    "encoding",
    "graph_layout",
    "representatives",
]

Array = NDArray[np.float64]
Apply = Callable[[Population], Array]

REFERENCE_DEVICES: Final = ("raspberry_pi_4", "t4", "h100")
"""A processor, a small and a large accelerator: their balances of rate, bandwidth and overhead differ."""

_PAIR_COLUMNS: Final = 4096
_FLAT: Final = 1e-9
_FEW: Final = 64


def graph_layout(space: SearchSpace) -> GraphLayout:
    """How the encoding `adjacency` of a space is laid out."""
    if has_cells(space):
        found = cells(space, reference_sample(SpaceKey(space))[:1])
        return GraphLayout(vertices=found[0].labels.shape[1], labels=len(found[0].operations) + 1, graphs=len(found))
    choosable, _ = _gene_columns(space)
    kinds = max((space.genes[gene].cardinality for gene in choosable), default=0)
    return GraphLayout(vertices=len(choosable), labels=kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A way to turn genomes of one space into columns.

    Attributes:
        kind: one of `KINDS`.
        names: [F] of the columns.
        groups: [F] which columns belong together: those of one gene, or one number alone.
        apply: genomes [B, G], canonical, B > 0 -> [B, F] float64.
    """

    kind: str
    names: tuple[str, ...]
    groups: tuple[int, ...]
    apply: Apply

    def __call__(self, genomes: Population) -> Array:
        """[B, F] columns of canonical genomes [B, G], which are not checked."""
        return self.apply(genomes) if len(genomes) else np.zeros((0, len(self.names)))

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.groups):
            raise PredictorError(f"encoding {self.kind!r}: {len(self.names)} names for {len(self.groups)} groups.")


def encode(space: SearchSpace, genomes: Population, kind: str) -> Array:
    """[B, F] columns of canonical genomes [B, G].

    Raises:
        PredictorError: an unknown kind, or one that this space does not have.
        SpaceError: genomes that are not of the space.

    >>> from archsmith.spaces.gene import Gene
    >>> from archsmith.spaces.space import GeneSpace
    >>> space = GeneSpace([Gene("depth", (1, 2, 3), kind="ordered"), Gene("op", ("a", "b"))], name="toy")
    >>> encode(space, np.array([[2, 1]], dtype=np.int16), "one_hot").astype(int).tolist()
    [[0, 0, 1, 0, 1]]
    """
    return encoding(space, kind)(space.check(genomes))


def encoding(space: SearchSpace, kind: str) -> Encoding:
    """The encoding `kind` of a space, its tables made once and kept; raises PredictorError if there is none."""
    if kind not in _BUILDERS:
        raise PredictorError(f"encoding {kind!r} is unknown; choose one of {list(KINDS)}.")
    return _cached(SpaceKey(space), kind)


def available(space: SearchSpace, kinds: Sequence[str] | None = None) -> tuple[str, ...]:
    """Those of `kinds` (None = all) that a space has; makes and keeps them."""
    out = []
    for kind in KINDS if kinds is None else kinds:
        try:
            if encoding(space, kind).names:
                out.append(kind)
        except (PredictorError, SpaceError):
            continue
    return tuple(out)


@functools.lru_cache(maxsize=CACHED)
def _cached(key: SpaceKey, kind: str) -> Encoding:
    return _BUILDERS[kind](key.space)


# --- genes ----------------------------------------------------------------------------------------------------------


def _one_hot(space: SearchSpace) -> Encoding:
    names, groups = [], []
    choosable, idle = _gene_columns(space)
    for gene in choosable:
        names += [f"{space.genes[gene].name}={value}" for value in space.genes[gene].values]
        names += [f"{space.genes[gene].name} inactive"] * (gene in idle)
        groups += [gene] * (space.genes[gene].cardinality + (gene in idle))

    def apply(genomes: Population) -> Array:
        genomes = representatives(space, genomes)
        active = space.table.active(genomes)
        columns = []
        for gene in choosable:
            hot = (genomes[:, gene, None] == np.arange(space.genes[gene].cardinality)) & active[:, gene, None]
            columns.append(hot)
            if gene in idle:
                columns.append(~active[:, gene, None])
        return _stack(columns, len(genomes))

    return Encoding(kind="one_hot", names=tuple(names), groups=tuple(groups), apply=apply)


def _genes(space: SearchSpace) -> Encoding:
    """Distances: two categorical choices 1, the ends of an ordered gene 1, inactive to anything at least 1/2."""
    names, groups = [], []
    choosable, idle = _gene_columns(space)
    scales: list[float] = []
    for gene in choosable:
        what = space.genes[gene]
        if what.kind == "categorical":
            names += [f"{what.name}={value}" for value in what.values]
            scales += [np.sqrt(0.5)] * what.cardinality
        else:
            names += [f"{what.name}>={value}" for value in what.values[1:]]
            scales += [np.sqrt(1.0 / (what.cardinality - 1))] * (what.cardinality - 1)
        if gene in idle:
            names.append(f"{what.name} inactive")
            scales.append(np.sqrt(0.5))
        groups += [gene] * (len(names) - len(groups))
    scale = np.array(scales)

    def apply(genomes: Population) -> Array:
        genomes = representatives(space, genomes)
        active = space.table.active(genomes)
        columns = []
        for gene in choosable:
            what, column, used = space.genes[gene], genomes[:, gene, None], active[:, gene, None]
            steps = np.arange(what.cardinality)
            columns.append((column == steps if what.kind == "categorical" else column >= steps[1:]) & used)
            if gene in idle:
                columns.append(~used)
        return _stack(columns, len(genomes)) * scale

    return Encoding(kind="genes", names=tuple(names), groups=tuple(groups), apply=apply)


def _pairs(space: SearchSpace) -> Encoding:
    base = encoding(space, "one_hot")
    groups = np.array(base.groups)
    left, right = np.triu_indices(len(groups), k=1)
    apart = groups[left] != groups[right]
    left, right = left[apart], right[apart]
    if len(left) > _PAIR_COLUMNS:
        raise PredictorError(
            f"encoding 'pairs' of space {space.name!r} has {len(left)} columns; at most {_PAIR_COLUMNS} are made. Use "
            "a Gaussian process on 'genes', which sees interactions without listing them."
        )

    def apply(genomes: Population) -> Array:
        columns = base.apply(genomes)
        return columns[:, left] * columns[:, right]

    names = tuple(f"{base.names[a]} & {base.names[b]}" for a, b in zip(left, right, strict=True))
    return Encoding(kind="pairs", names=names, groups=tuple(range(len(names))), apply=apply)


def _counts(space: SearchSpace) -> Encoding:
    if has_cells(space):
        return _standardised(space, "counts", *_cell_counts(space))
    alike: dict[tuple[object, ...], list[int]] = {}
    for position, gene in enumerate(space.genes):
        if gene.cardinality > 1:
            alike.setdefault((gene.values, gene.kind), []).append(position)
    sets = [positions for positions in alike.values() if len(positions) > 1]
    shorts = [space.genes[positions[0]].name.rsplit(".", 1)[-1] for positions in sets]
    if len(set(shorts)) < len(shorts):  # genes of one last name, but not of one set of choices
        shorts = [space.genes[positions[0]].name for positions in sets]
    names = [
        f"{short}={value}"
        for short, positions in zip(shorts, sets, strict=True)
        for value in space.genes[positions[0]].values
    ]

    def count(genomes: Population) -> Array:
        active = space.table.active(genomes)
        columns = [
            ((genomes[:, positions] == choice) & active[:, positions]).sum(axis=1, keepdims=True)
            for positions in sets
            for choice in range(space.genes[positions[0]].cardinality)
        ]
        return _stack(columns, len(genomes))

    return _standardised(space, "counts", names, count)


def _gene_columns(space: SearchSpace) -> tuple[list[int], set[int]]:
    """Positions of the genes with a choice, and of those among them that can be inactive."""
    choosable = [position for position, gene in enumerate(space.genes) if gene.cardinality > 1]
    return choosable, {position for position in choosable if space.genes[position].when}


# --- cells ----------------------------------------------------------------------------------------------------------


def _cell_counts(space: SearchSpace) -> tuple[Sequence[str], Apply]:
    names = []
    for cell in cells(space, reference_sample(SpaceKey(space))[:1]):
        prefix = f"{cell.name}." if cell.name else ""
        names += [f"{prefix}{what}" for what in (*cell.operations, "edges", "identities", "deepest", "shallowest")]

    def count(genomes: Population) -> Array:
        columns = []
        for cell in cells(space, genomes):
            columns.append((cell.labels[:, :, None] == np.arange(len(cell.operations))).sum(axis=1))
            columns.append(cell.adjacency.sum(axis=(1, 2))[:, None])
            columns.append((cell.labels < ABSENT).sum(axis=1, keepdims=True))
            columns.append(np.column_stack([_depth(cell, longest=longest) for longest in (True, False)]))
        return _stack(columns, len(genomes))

    return names, count


def _depth(cell: Cells, *, longest: bool) -> NDArray[np.float64]:
    """[B] most, or fewest, operations on a path from an input to the output; 0 where there is none."""
    far = -np.inf if longest else np.inf
    choose = np.maximum if longest else np.minimum
    vertices = cell.labels.shape[1]
    depth = np.full((len(cell.labels), vertices), far)
    depth[:, : cell.sources] = 0.0
    for vertex in range(cell.sources, vertices):
        reached = np.where(cell.adjacency[:, :vertex, vertex], depth[:, :vertex], far)
        depth[:, vertex] = choose.reduce(reached, axis=1) + (cell.labels[:, vertex] >= 0)
    return np.where(np.isfinite(depth[:, -1]), depth[:, -1], 0.0)


def _path(space: SearchSpace) -> Encoding:
    """Path counts, without the sequences that the fixed sample and the family never show."""
    sample = reference_sample(SpaceKey(space))
    names = np.array([name for cell in cells(space, sample[:1]) for name in path_names(cell)])
    seen = np.concatenate([path_counts(cell) for cell in cells(space, sample)], axis=1).any(axis=0)

    def apply(genomes: Population) -> Array:
        return np.concatenate([path_counts(cell) for cell in cells(space, genomes)], axis=1)[:, seen]

    kept = tuple(str(name) for name in names[seen])
    return Encoding(kind="path", names=kept, groups=tuple(range(len(kept))), apply=apply)


def _adjacency(space: SearchSpace) -> Encoding:
    """[V * (V + K)] of every graph: for each vertex the vertices that read it, then its label."""
    if not has_cells(space):
        return _gene_chain(space)
    names: list[str] = []
    for cell in cells(space, reference_sample(SpaceKey(space))[:1]):
        vertices = range(cell.labels.shape[1])
        names += _graph_names(cell.name, [str(vertex) for vertex in vertices], ("identity", *cell.operations))

    def apply(genomes: Population) -> Array:
        columns = []
        for cell in cells(space, genomes):
            label = np.where(cell.labels < ABSENT, 0, cell.labels + 1)
            present = cell.labels != ABSENT
            hot = (label[:, :, None] == np.arange(len(cell.operations) + 1)) & present[:, :, None]
            columns.append(np.concatenate([cell.adjacency, hot], axis=2).reshape(len(genomes), -1))
        return _stack(columns, len(genomes))

    return Encoding(kind="adjacency", names=tuple(names), groups=tuple(range(len(names))), apply=apply)


def _gene_chain(space: SearchSpace) -> Encoding:
    """Where there are no cells: each gene with a choice is a vertex that reads the one before it."""
    choosable, _ = _gene_columns(space)
    kinds = max((space.genes[gene].cardinality for gene in choosable), default=0)
    edges = np.eye(len(choosable), k=1)
    names = _graph_names("", [space.genes[gene].name for gene in choosable], [str(kind) for kind in range(kinds)])

    def apply(genomes: Population) -> Array:
        active = space.table.active(genomes)[:, choosable, None]
        hot = (genomes[:, choosable, None] == np.arange(kinds)) & active
        line = np.broadcast_to(edges, (len(genomes), *edges.shape))
        return np.concatenate([line, hot], axis=2).reshape(len(genomes), -1).astype(np.float64)

    return Encoding(kind="adjacency", names=tuple(names), groups=tuple(range(len(names))), apply=apply)


def _graph_names(name: str, vertices: Sequence[str], labels: Sequence[str]) -> list[str]:
    prefix = f"{name}." if name else ""
    return [
        f"{prefix}{vertex}{what}"
        for vertex in vertices
        for what in (*(f"-{reader}" for reader in vertices), *(f"={label}" for label in labels))
    ]


# --- costs ----------------------------------------------------------------------------------------------------------


def _op_statistics(space: SearchSpace) -> Encoding:
    try:
        statistics = SiteStatistics(space)
    except SpaceError:
        return _standardised(space, "op_statistics", *_totals(space))
    stages = range(statistics.stage_count)
    names = [f"total {what}" for what in QUANTITIES] + [f"stage {d} {what}" for d in stages for what in QUANTITIES]

    def logs(genomes: Population) -> Array:
        by_stage = statistics.by_stage(genomes)
        return np.log1p(np.concatenate([by_stage.sum(axis=1), by_stage.reshape(len(genomes), -1)], axis=1))

    return _standardised(space, "op_statistics", names, logs)


def _totals(space: SearchSpace) -> tuple[Sequence[str], Apply]:
    """MACs and parameters of families that count them without sites."""

    def logs(genomes: Population) -> Array:
        return np.log1p(np.column_stack([space.macs(genomes), space.params(genomes)]).astype(np.float64))

    return ("total macs", "total params"), logs


def _site_costs(space: SearchSpace) -> Encoding:
    statistics = SiteStatistics(space)
    return _standardised(space, "site_costs", statistics.site_names, statistics.by_site)


def _reference_latency(space: SearchSpace) -> Encoding:
    from ..hwmodels.catalog import get
    from ..hwmodels.roofline import RooflineModel

    models = [RooflineModel(get(name)) for name in REFERENCE_DEVICES]

    def logs(genomes: Population) -> Array:
        return np.log(np.column_stack([model.predict(space, genomes).mean for model in models]))

    # Without sites each network of the sample is built Op by Op for every device: seconds for all of them.
    rows = None if space.sites() is not None else _FEW
    return _standardised(space, "reference_latency", [model.device for model in models], logs, rows)


# --- helpers --------------------------------------------------------------------------------------------------------


def _standardised(space: SearchSpace, kind: str, names: Sequence[str], raw: Apply, rows: int | None = None) -> Encoding:
    """Columns of mean 0 and standard deviation 1 over the fixed sample, or its first `rows`.

    Constant and repeated columns are left out.
    """
    sample = raw(reference_sample(SpaceKey(space))[:rows])
    mean, std = sample.mean(axis=0), sample.std(axis=0)
    varies = np.flatnonzero(std > _FLAT * (1.0 + np.abs(mean)))
    scaled = (sample[:, varies] - mean[varies]) / std[varies]
    first = np.sort(np.unique(scaled.round(9), axis=1, return_index=True)[1]) if len(varies) else varies
    keep = varies[first]

    def apply(genomes: Population) -> Array:
        return (raw(genomes)[:, keep] - mean[keep]) / std[keep]

    kept = tuple(str(names[column]) for column in keep)
    return Encoding(kind=kind, names=kept, groups=tuple(range(len(kept))), apply=apply)


def _stack(columns: Sequence[NDArray[np.generic]], rows: int) -> Array:
    return np.concatenate(columns, axis=1).astype(np.float64) if columns else np.zeros((rows, 0))


_BUILDERS: Final[Mapping[str, Callable[[SearchSpace], Encoding]]] = MappingProxyType({
    "adjacency": _adjacency,
    "counts": _counts,
    "genes": _genes,
    "one_hot": _one_hot,
    "op_statistics": _op_statistics,
    "pairs": _pairs,
    "path": _path,
    "reference_latency": _reference_latency,
    "site_costs": _site_costs,
})  # fmt: skip

KINDS: Final = tuple(_BUILDERS)
"""The kinds of encodings, sorted."""
