"""Genes: named choices, some of which only matter when another gene says so.

A space is a tuple of genes in any order; conditions may refer to earlier or later genes but not in a circle.
`GeneTable` compiles them once into arrays, so that activity, canonical form, exact counting and uniform sampling run
over whole populations.

Notation: B candidates, G genes. Genomes are [B, G] int16 choice indices.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import SpaceError
from .architecture import Value

__all__ = ["Gene", "GeneTable", "Population", "When"]

Population = NDArray[np.int16]

CHUNK = 8192
"""Rows worked on at once: 46 int16 genes of a chunk fit a core's L2 cache."""


@dataclass(frozen=True, slots=True)
class When:
    """The condition "gene `gene` is active and has one of `values`"."""

    gene: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Gene:
    """A named choice among listed values.

    Attributes:
        name: unique in its space; dots group names (``stages.1.depth``).
        values: the choices, without repetition; ascending for ordered and logarithmic genes.
        kind: `categorical`, or `ordered`/`logarithmic` where distance between values means something.
        when: conditions that must all hold for the gene to be active; () = always active.
        default: index of the value taken when nothing else says which.

    >>> Gene("depth", (1, 2, 3), kind="ordered").cardinality
    3
    """

    name: str
    values: tuple[Value, ...]
    kind: Literal["categorical", "ordered", "logarithmic"] = field(default="categorical", kw_only=True)
    when: tuple[When, ...] = field(default=(), kw_only=True)
    default: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise SpaceError(f"gene {self.name!r}: values {self.values!r} must be at least one and all different.")
        if not 0 <= self.default < len(self.values):
            raise SpaceError(f"gene {self.name!r}: default index {self.default}; allowed: 0 to {len(self.values) - 1}.")
        if self.kind != "categorical":
            numbers = [value for value in self.values if isinstance(value, int | float)]
            if len(numbers) != len(self.values) or numbers != sorted(numbers):
                raise SpaceError(f"{self.kind} gene {self.name!r}: values {self.values!r} must be ascending numbers.")
            if self.kind == "logarithmic" and numbers[0] <= 0:
                raise SpaceError(f"logarithmic gene {self.name!r}: values {self.values!r} must be positive.")

    @property
    def cardinality(self) -> int:
        """Number of choices."""
        return len(self.values)

    def index(self, value: Value) -> int:
        """Choice index of `value`; raises SpaceError naming the allowed values."""
        for position, candidate in enumerate(self.values):
            if candidate == value and isinstance(candidate, bool) == isinstance(value, bool):
                return position
        raise SpaceError(f"gene {self.name!r}: value {value!r} is not allowed; choose one of {list(self.values)!r}.")


@dataclass(frozen=True, slots=True)
class _Condition:
    """One distinct `when`, compiled: per parent gene, which of its choices keep the gene active."""

    parents: tuple[int, ...]
    allowed: tuple[NDArray[np.bool_], ...]


class GeneTable:
    """Genes compiled to arrays: activity, canonical form, exact size and uniform sampling of canonical genomes."""

    def __init__(self, genes: Sequence[Gene]) -> None:
        self.genes = tuple(genes)
        self.names = tuple(gene.name for gene in self.genes)
        self.position = {name: index for index, name in enumerate(self.names)}
        if len(self.position) != len(self.genes):
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise SpaceError(f"gene names must be unique; repeated: {repeated}.")
        self.cardinalities = np.array([gene.cardinality for gene in self.genes], dtype=np.int16)
        self.defaults = np.array([gene.default for gene in self.genes], dtype=np.int16)
        self.order = self._parents_first()
        self._conditions, self._condition_of = self._compile()
        self._sampler = _Sampler(self)

    def _compile(self) -> tuple[list[_Condition], NDArray[np.intp]]:
        """Number the distinct conditions, parents' before children's; number 0 is "always active"."""
        conditions = [_Condition((), ())]
        numbers: dict[tuple[When, ...], int] = {(): 0}
        of_gene = [0] * len(self.genes)
        for index in self.order:
            gene = self.genes[index]
            if gene.when not in numbers:
                numbers[gene.when] = len(conditions)
                conditions.append(self._condition(gene))
            of_gene[index] = numbers[gene.when]
        return conditions, np.array(of_gene, dtype=np.intp)

    def _condition(self, gene: Gene) -> _Condition:
        parents, allowed = [], []
        for when in gene.when:
            parent = self.position[when.gene]
            mask = np.zeros(self.genes[parent].cardinality, dtype=np.bool_)
            for value in when.values:
                mask[self.genes[parent].index(value)] = True
            parents.append(parent)
            allowed.append(mask)
        return _Condition(tuple(parents), tuple(allowed))

    def _parents_first(self) -> tuple[int, ...]:
        """Gene positions in an order where every condition refers to an earlier one; their own order where it does."""
        order: list[int] = []
        placed: set[str] = set()
        waiting = list(range(len(self.genes)))
        while waiting:
            held = []
            for index in waiting:
                if all(when.gene in placed for when in self.genes[index].when):
                    order.append(index)
                    placed.add(self.names[index])
                else:
                    held.append(index)
            if len(held) == len(waiting):
                gene = self.genes[held[0]]
                when = next(when.gene for when in gene.when if when.gene not in placed)
                raise SpaceError(
                    f"gene {gene.name!r}: condition on {when!r}, which is no gene or itself depends on {gene.name!r}."
                )
            waiting = held
        return tuple(order)

    @property
    def size(self) -> int:
        """Exact number of canonical genomes."""
        return self._sampler.size

    def find(self, name: str) -> int:
        """Position of the gene called `name`; raises SpaceError with the closest names."""
        if name not in self.position:
            close = difflib.get_close_matches(name, self.names, n=3) or list(self.names[:8])
            raise SpaceError(f"gene {name!r} does not exist; did you mean one of {close}?")
        return self.position[name]

    def check_range(self, genomes: Population) -> Population:
        """Return `genomes` as [B, G] int16; raises SpaceError naming the first gene and value out of range."""
        array = np.asarray(genomes)
        if array.ndim != 2 or array.shape[1] != len(self.genes):
            raise SpaceError(f"genomes: got shape {array.shape}; this space needs [B, {len(self.genes)}].")
        if array.dtype != np.int16:
            if not np.issubdtype(array.dtype, np.integer):
                raise SpaceError(f"genomes: got dtype {array.dtype}; choice indices are int16.")
            wide = array
            array = array.astype(np.int16)
            if not np.array_equal(wide, array):
                raise SpaceError("genomes: a choice index exceeds int16; indices run from 0 to the gene's last choice.")
        # As unsigned, a negative index is larger than any cardinality: one comparison checks both ends.
        out = array.view(np.uint16) >= self.cardinalities.view(np.uint16)
        if out.any():
            row, column = np.argwhere(out)[0]
            gene = self.genes[column]
            raise SpaceError(
                f"gene {gene.name!r} of genome {row}: choice index {int(array[row, column])} is out of range; "
                f"allowed: 0 to {gene.cardinality - 1}, for values {list(gene.values)!r}."
            )
        return array

    def active_columns(self, columns: NDArray[np.int16]) -> NDArray[np.bool_]:
        """[G, b] gene-major choice indices -> [G, b] activity."""
        rows = np.empty((len(self._conditions), columns.shape[1]), dtype=np.bool_)
        rows[0] = True
        # A condition's parents have conditions with lower numbers: one pass suffices.
        for number, condition in enumerate(self._conditions[1:], start=1):
            row = rows[number]
            row[:] = True
            for parent, allowed in zip(condition.parents, condition.allowed, strict=True):
                row &= allowed[columns[parent]]
                row &= rows[self._condition_of[parent]]
        return rows[self._condition_of]

    def active(self, genomes: Population) -> NDArray[np.bool_]:
        """[B, G] bool: True where the gene matters."""
        out = np.empty(genomes.shape, dtype=np.bool_)
        for start in range(0, len(genomes), CHUNK):
            rows = slice(start, start + CHUNK)
            out[rows] = self.active_columns(np.ascontiguousarray(genomes[rows].T)).T
        return out

    def canonical(self, genomes: Population) -> Population:
        """[B, G] with inactive genes set to 0."""
        out = np.empty_like(genomes, order="C")
        for start in range(0, len(genomes), CHUNK):
            rows = slice(start, start + CHUNK)
            columns = np.ascontiguousarray(genomes[rows].T)
            columns *= self.active_columns(columns)
            out[rows] = columns.T
        return out

    def sample(self, n: int, rng: np.random.Generator) -> Population:
        """[n, G] canonical genomes, uniform over all canonical genomes."""
        out = np.empty((n, len(self.genes)), dtype=np.int16)
        for start in range(0, n, CHUNK):
            rows = out[start : start + CHUNK]
            columns = self._sampler.draw(len(rows), rng)
            columns *= self.active_columns(columns)
            rows[:] = columns.T
        return out

    def uniform(self, n: int, rng: np.random.Generator) -> Population:
        """[n, G] independent uniform choices for every gene, active or not (not canonical)."""
        floats = rng.random((n, len(self.genes)), dtype=np.float32)
        return (floats * self.cardinalities).astype(np.int16)


class _Sampler:
    """Counts canonical genomes exactly and draws them uniformly.

    Genes that share conditions form components. In a component where each gene has at most one condition the genes form
    trees: count(gene) = sum over choices of the product of the counts of the children that the choice activates, and a
    choice is drawn in proportion to its term. Elsewhere the joint choices of the controlling genes are enumerated.
    """

    MAX_JOINT = 1 << 20

    def __init__(self, table: GeneTable) -> None:
        self._table = table
        genes = table.genes
        self.size = 1
        self._cumulative: dict[int, NDArray[np.float64]] = {}
        self._joint: list[tuple[list[int], NDArray[np.int16], NDArray[np.float64]]] = []
        for component in _components(table):
            if all(len(genes[index].when) <= 1 for index in component):
                self._count_trees(component)
            else:
                self._count_joint(component)
        self._free = np.array([index not in self._cumulative for index in range(len(genes))])

    def _count_trees(self, component: list[int]) -> None:
        table = self._table
        counts: dict[int, int] = {}
        children: dict[int, list[int]] = {index: [] for index in component}
        for index in sorted(component, key=table.order.index, reverse=True):
            gene = table.genes[index]
            terms = [
                math.prod(counts[child] for child in children[index] if value in table.genes[child].when[0].values)
                for value in gene.values
            ]
            counts[index] = sum(terms)
            if len(set(terms)) > 1:
                shares = np.array([float(term / counts[index]) for term in terms])
                self._cumulative[index] = np.cumsum(shares)[:-1]
            if gene.when:
                children[table.position[gene.when[0].gene]].append(index)
            else:
                self.size *= counts[index]

    def _count_joint(self, component: list[int]) -> None:
        table = self._table
        controllers = sorted({table.position[when.gene] for index in component for when in table.genes[index].when})
        shape = [table.genes[index].cardinality for index in controllers]
        if math.prod(shape) > self.MAX_JOINT:
            names = ", ".join(table.names[index] for index in controllers)
            raise SpaceError(
                f"genes {names} condition others jointly in {math.prod(shape)} ways; at most {self.MAX_JOINT} can be "
                "counted. Give each gene a single condition, or split the group."
            )
        joint = np.stack([grid.ravel() for grid in np.indices(shape, dtype=np.int16)])
        columns = np.zeros((len(table.genes), joint.shape[1]), dtype=np.int16)
        columns[controllers] = joint
        active = table.active_columns(columns)
        keep = ~((columns != 0) & ~active).any(axis=0)
        weights = np.ones(int(keep.sum()), dtype=object)
        for index in set(component) - set(controllers):
            weights *= np.where(active[index, keep], table.genes[index].cardinality, 1).astype(object)
        total = int(weights.sum())
        self.size *= total
        shares = np.array([weight / total for weight in weights], dtype=np.float64)
        self._joint.append((controllers, joint[:, keep], np.cumsum(shares)[:-1]))

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int16]:
        """[G, n] gene-major draws; inactive genes still hold arbitrary choices."""
        table = self._table
        columns = rng.random((len(table.genes), n), dtype=np.float32)
        columns *= table.cardinalities[:, None]
        out = columns.astype(np.int16)
        for index, cumulative in self._cumulative.items():
            out[index] = np.searchsorted(cumulative, rng.random(n), side="right")
        for controllers, joint, cumulative in self._joint:
            out[controllers] = joint[:, np.searchsorted(cumulative, rng.random(n), side="right")]
        return out


def _components(table: GeneTable) -> list[list[int]]:
    """Gene positions grouped by shared conditions, each group ascending."""
    root = list(range(len(table.genes)))

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for index, gene in enumerate(table.genes):
        for when in gene.when:
            root[find(index)] = find(table.position[when.gene])
    groups: dict[int, list[int]] = {}
    for index in range(len(table.genes)):
        groups.setdefault(find(index), []).append(index)
    return list(groups.values())
