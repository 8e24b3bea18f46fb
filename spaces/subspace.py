"""A part of a space: the same networks and the same supernet, with some genes limited to some of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import SpaceError
from .architecture import Architecture, Value
from .candidate import Candidate
from .gene import Gene, Population, When
from .op import Op
from .space import SearchSpace

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .elastic.supernet import Supernet

__all__ = ["SubSpace"]


class SubSpace(SearchSpace):
    """The architectures of a space whose genes have allowed values.

    It has genomes of its own, over the allowed values. What they decode to are architectures of the whole space, with
    their keys and their weights, so that whatever takes a space (a sampler, a trainer) works on the part. Genes that
    the limits leave inactive for good are no genes of the part.

    Notation: B candidates, G genes of the part, W genes of the whole.

    Args:
        whole: the space.
        allowed: by gene name, its allowed values; genes that are not named keep all.

    >>> from . import get
    >>> whole = get("mobilenet", "tiny")
    >>> part = SubSpace(whole, {"stages.0.depth": (1,), "stages.1.width": (8, 24)})
    >>> part.size < whole.size, part.architecture({}).choices["stages.0.depth"]
    (True, 1)

    Raises:
        SpaceError: an unknown gene, or a value that it does not have.
    """

    def __init__(self, whole: SearchSpace, allowed: Mapping[str, Sequence[Value]]) -> None:
        self.whole = whole
        self.allowed = {name: tuple(allowed[name]) for name in sorted(allowed)}
        for name in self.allowed:
            whole.table.find(name)
        genes = _limited(whole, self.allowed)
        names = [gene.name for gene in whole.genes if gene.name in genes]
        limits = {name: list(values) for name, values in self.allowed.items()}
        super().__init__(
            [genes[name] for name in names],
            name=whole.name,
            preset=whole.preset,
            options={**whole.options, "allowed": str(limits)},
        )
        self._columns = np.array([whole.table.find(name) for name in names], dtype=np.intp)
        width = max(gene.cardinality for gene in whole.genes)
        self._lifted = np.zeros((len(names), width), dtype=np.int16)
        self._lowered = np.full((len(names), width), -1, dtype=np.int16)
        for row, gene in enumerate(self.genes):
            whole_choices = [whole.genes[self._columns[row]].index(value) for value in gene.values]
            self._lifted[row, : gene.cardinality] = whole_choices
            self._lowered[row, whole_choices] = range(gene.cardinality)

    def __reduce__(self) -> tuple[type[SubSpace], tuple[SearchSpace, dict[str, tuple[Value, ...]]]]:
        """Travel to other processes as the whole and its limits; compiled tables are rebuilt there."""
        return SubSpace, (self.whole, self.allowed)

    def description(self) -> dict[str, object]:
        """That of the part, and the identity of the whole."""
        return super().description() | {"whole": self.whole.identity}

    # --- between the part and the whole --------------------------------------------------------------------------

    def lift(self, genomes: Population) -> Population:
        """[B, W] the genomes of the whole that genomes of the part [B, G] stand for."""
        out = np.zeros((len(genomes), len(self.whole.genes)), dtype=np.int16)
        out[:, self._columns] = self._lifted[np.arange(len(self._columns)), genomes]
        return self.whole.canonical(out)

    def contains(self, genomes: Population) -> NDArray[np.bool_]:
        """[B] which canonical genomes of the whole [B, W] have a counterpart in the part."""
        lowered = self._lowered[np.arange(len(self._columns)), genomes[:, self._columns]]
        idle = ~self.whole.table.active(genomes)[:, self._columns]
        return np.logical_and.reduce((lowered >= 0) | idle, axis=1)

    def lower(self, genomes: Population) -> Population:
        """[B, G] the part's genomes of canonical genomes of the whole [B, W]; inverts `lift`.

        Raises:
            SpaceError: one is not contained.
        """
        if not (inside := self.contains(genomes)).all():
            architecture = self.whole.decode(genomes[int(np.argmin(inside))])
            chosen = {name: value for name, value in architecture.choices.items() if name in self.allowed}
            raise SpaceError(
                f"architecture {architecture.key} with {chosen} is not in this part of space {self.name!r}; allowed: "
                f"{self.allowed}."
            )
        lowered = self._lowered[np.arange(len(self._columns)), genomes[:, self._columns]]
        return self.canonical(np.maximum(lowered, 0))

    # --- what the whole tells ------------------------------------------------------------------------------------

    def decode(self, genome: NDArray[np.int16]) -> Architecture:
        """The architecture, one of the whole space, of a canonical genome [G] of the part."""
        return self.whole.decode(self.lift(self.check(np.asarray(genome)[None]))[0])

    def encode(self, architecture: Architecture) -> NDArray[np.int16]:
        """[G] the part's genome of an architecture of the whole; raises SpaceError for one outside of the part."""
        return self.lower(self.whole.encode(architecture)[None])[0]

    def keys(self, genomes: Population) -> NDArray[np.uint64]:
        """[B, 2] those of the whole, so that the same architecture has the same key in every part."""
        return self.whole.keys(self.lift(genomes))

    def macs(self, genomes: Population) -> NDArray[np.int64]:
        """[B] multiply-accumulates per sample."""
        return self.whole.macs(self.lift(genomes))

    def params(self, genomes: Population) -> NDArray[np.int64]:
        """[B] learned parameters."""
        return self.whole.params(self.lift(genomes))

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        return self.whole.ops(architecture)

    def network(self, architecture: Architecture, seed: int | None = None) -> nn.Module:
        """A freshly initialised network of this architecture."""
        return self.whole.network(architecture, seed=seed)

    def supernet(self, seed: int | None = None) -> Supernet:
        """That of the whole space: parts of a space exchange weights by name."""
        return self.whole.supernet(seed=seed)

    def candidates(self) -> tuple[Candidate, ...]:
        """Those of the whole space."""
        return self.whole.candidates()

    def example_inputs(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Tensors that the networks take, `batch` samples each."""
        return self.whole.example_inputs(batch)


def _limited(whole: SearchSpace, allowed: Mapping[str, tuple[Value, ...]]) -> dict[str, Gene]:
    """The genes that can still be active, by name, with the values that they and their conditions are left with."""
    genes: dict[str, Gene] = {}
    for index in whole.table.order:  # conditions before what depends on them
        gene = whole.genes[index]
        if any(when.gene not in genes for when in gene.when):
            continue
        when = tuple(
            When(condition.gene, tuple(value for value in condition.values if value in genes[condition.gene].values))
            for condition in gene.when
        )
        if not all(condition.values for condition in when):
            continue
        chosen = {gene.index(value) for value in allowed.get(gene.name, gene.values)}
        kept = sorted(chosen)
        default = kept.index(gene.default) if gene.default in chosen else 0
        genes[gene.name] = Gene(
            gene.name, tuple(gene.values[choice] for choice in kept), kind=gene.kind, when=when, default=default
        )
    return genes
