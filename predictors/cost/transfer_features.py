"""What few-shot transfer knows of an architecture: its choices, how often each is made, and which pairs of them meet.

A genome is read in one of the space's *forms*: as it is; as a runtime sees it that removes what nobody reads
(`SearchSpace.exported_form`); and without all that has no effect, where `SearchSpace.key_form` is such a genome. Which
form a device runs is not known beforehand; the models weigh them.

Notation: B candidates, G genes, F columns of a design.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import SpaceError
from ...spaces.space import SearchSpace

__all__ = [
    "FORMS",
    "Codes",
    "Design",
    "Encoding",
    "Form",
    "FormCodes",
    "codes_of",
    "forms_of",
    "gene_pairs",
    "in_forms",
    "take",
]

Codes = NDArray[np.int16]
"""[B, G]: 0 where a gene is inactive, else 1 + its choice."""

Form = Literal["as_is", "exported", "pruned"]
FormCodes = Mapping[Form, Codes]
"""The same genomes in every form that is weighed."""

FORMS: Final[tuple[Form, ...]] = ("as_is", "exported", "pruned")

MAX_PAIR_COLUMNS: Final = 1500
"""A design of more columns than this is slow to fit and, at common table sizes, no better."""


def codes_of(space: SearchSpace, genomes: NDArray[np.int16], form: Form) -> Codes:
    """Codes of canonical genomes [B, G] in one form."""
    if form == "exported":
        genomes = space.exported_form(genomes)
    elif form == "pruned":
        genomes = space.key_form(genomes).astype(np.int16, copy=False)
    return np.where(space.active(genomes), genomes + 1, 0).astype(np.int16)


def forms_of(space: SearchSpace, genomes: NDArray[np.int16]) -> tuple[Form, ...]:
    """The forms that differ somewhere on these genomes."""
    exported = space.exported_form(genomes)
    forms: tuple[Form, ...] = ("as_is",) if (exported == genomes).all() else ("as_is", "exported")
    pruned = space.key_form(genomes)
    return (*forms, "pruned") if _stands_for(space, pruned, genomes) and (pruned != exported).any() else forms


def _stands_for(space: SearchSpace, form: NDArray[np.integer], genomes: NDArray[np.int16]) -> bool:
    """Whether these key forms are genomes themselves, ones that compute the same."""
    if form.shape != genomes.shape or (form < 0).any() or (form >= space.table.cardinalities).any():
        return False
    again = form.astype(np.int16)
    return bool((space.canonical(again) == again).all() and (space.keys(again) == space.keys(genomes)).all())


def in_forms(space: SearchSpace, genomes: NDArray[np.int16], forms: Sequence[Form]) -> FormCodes:
    """Codes of canonical genomes [B, G] in several forms."""
    return {form: codes_of(space, genomes, form) for form in forms}


def take(codes: FormCodes, rows: NDArray[np.int64]) -> FormCodes:
    """These rows of the codes."""
    return {form: values[rows] for form, values in codes.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Similarities between genomes of one space, centred on a reference population.

    Attributes:
        levels: [G] number of codes of every gene, "inactive" included.
        frequencies: per gene [levels] share of the reference population with each code.
        shared: groups of genes that choose among the same values; counts are over a group.
        count_mean: [C] mean of the counts over the reference population.
        count_scale: root mean square distance of the counts from their mean; 0 where nothing is shared.
    """

    levels: NDArray[np.int64]
    frequencies: tuple[NDArray[np.float64], ...]
    shared: tuple[tuple[int, ...], ...]
    count_mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    count_scale: float = 0.0

    @classmethod
    def of(cls, space: SearchSpace, codes: Codes) -> Encoding:
        """The encoding of a space, centred on `codes` [B, G]."""
        levels = space.table.cardinalities.astype(np.int64) + 1
        frequencies = tuple(
            np.bincount(codes[:, gene], minlength=count) / len(codes) for gene, count in enumerate(levels)
        )
        groups: dict[tuple[str, ...], list[int]] = {}
        for position, gene in enumerate(space.genes):
            groups.setdefault(tuple(map(repr, gene.values)), []).append(position)
        shared = tuple(tuple(genes) for genes in groups.values() if len(genes) > 1)
        plain = cls(levels=levels, frequencies=frequencies, shared=shared)
        counts = plain.raw_counts(codes)
        mean = counts.mean(axis=0)
        scale = float(np.sqrt(((counts - mean) ** 2).sum(axis=1).mean())) if counts.size else 0.0
        return cls(levels=levels, frequencies=frequencies, shared=shared, count_mean=mean, count_scale=scale)

    def raw_counts(self, codes: Codes) -> NDArray[np.float64]:
        """[B, C] how often each value is chosen among the genes of each group."""
        columns = [
            (codes[:, genes] == level).sum(axis=1)
            for genes in self.shared
            for level in range(1, int(self.levels[genes[0]]))
        ]
        return np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((len(codes), 0))

    def counts(self, codes: Codes) -> NDArray[np.float64]:
        """[B, C] centred counts whose squares sum to 1 on average."""
        return (self.raw_counts(codes) - self.count_mean) / (self.count_scale or 1.0)

    def similarity(self, left: Codes, right: Codes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[A, B] inner products of centred one-hot codes and of their products over pairs of genes, 1 on average."""
        total = np.zeros((len(left), len(right)))
        squares = np.zeros_like(total)
        own = np.array([1.0 - (share**2).sum() for share in self.frequencies])
        for gene, share in enumerate(self.frequencies):
            if own[gene] <= 0.0:
                continue
            table = np.eye(len(share)) - share[:, None] - share[None, :] + (share**2).sum()
            part = table[left[:, gene][:, None], right[:, gene][None, :]]
            total += part
            squares += part**2
        pairs = (own.sum() ** 2 - (own**2).sum()) / 2
        return total / (own.sum() or 1.0), (total**2 - squares) / (2.0 * (pairs or 1.0))

    def own(self, codes: Codes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[B] the similarities of every genome to itself."""
        total, squares, first, second = np.zeros(len(codes)), np.zeros(len(codes)), 0.0, 0.0
        for gene, share in enumerate(self.frequencies):
            mean = 1.0 - float((share**2).sum())
            part = (1.0 - 2.0 * share + (share**2).sum())[codes[:, gene]] if mean > 0.0 else np.zeros(len(codes))
            total, squares, first, second = total + part, squares + part**2, first + mean, second + mean**2
        pairs = (first**2 - second) / 2
        return total / (first or 1.0), (total**2 - squares) / (2.0 * (pairs or 1.0))

    def seen(self, codes: Codes) -> NDArray[np.bool_]:
        """[B] whether every code occurs in the reference population."""
        known = np.ones(len(codes), dtype=np.bool_)
        for gene, share in enumerate(self.frequencies):
            known &= share[codes[:, gene]] > 0.0
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Columns of a linear model over codes: one per code but the most frequent of its gene, and products over pairs.

    Attributes:
        columns: [F1, 2] (gene, code) of the plain columns.
        products: [F2, 2] pairs of plain columns that are multiplied.
    """

    columns: NDArray[np.int64]
    products: NDArray[np.int64]

    @classmethod
    def of(cls, codes: Codes, pairs: Sequence[tuple[int, int]]) -> Design:
        """The design over the codes that occur in `codes` [B, G], with products over these pairs of genes."""
        plain: list[tuple[int, int]] = []
        of_gene: list[list[int]] = []
        for gene in range(codes.shape[1]):
            counts = np.bincount(codes[:, gene])
            kept = [code for code in np.flatnonzero(counts) if code != counts.argmax()]
            of_gene.append(list(range(len(plain), len(plain) + len(kept))))
            plain += [(gene, int(code)) for code in kept]
        products = [(a, b) for left, right in pairs for a in of_gene[left] for b in of_gene[right]]
        return cls(columns=np.array(plain).reshape(-1, 2), products=np.array(products, dtype=np.int64).reshape(-1, 2))

    @property
    def size(self) -> int:
        """Number of columns F."""
        return len(self.columns) + len(self.products)

    def matrix(self, codes: Codes) -> NDArray[np.float64]:
        """[B, F]."""
        plain = (codes[:, self.columns[:, 0]] == self.columns[:, 1]).astype(np.float64)
        return np.concatenate([plain, plain[:, self.products[:, 0]] * plain[:, self.products[:, 1]]], axis=1)


def gene_pairs(space: SearchSpace, codes: Codes, rows: int) -> list[list[tuple[int, int]]]:
    """Which pairs of genes a design may multiply, from none to all, as far as `rows` rows can carry them."""
    count = len(space.genes)
    every = [(left, right) for left in range(count) for right in range(left + 1, count)]
    together: set[tuple[int, int]] = set()
    try:
        sites = space.sites() or ()
    except SpaceError:
        sites = ()
    for site in sites:
        together |= {(left, right) for left in site.genes for right in site.genes if left < right}
    options: list[list[tuple[int, int]]] = [[]]
    for pairs in (sorted(together), every):
        size = Design.of(codes, pairs).size if pairs else 0
        if pairs and pairs != options[-1] and size <= min(MAX_PAIR_COLUMNS, rows // 2):
            options.append(pairs)
    return options
