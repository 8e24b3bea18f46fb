"""The contract of search spaces: genes in the base class, networks in the families.

Everything that only needs genes (counting, sampling, variation, keys) is written once here, over whole populations. A
family adds what a choice means: `ops`, `sites`, `network` and, where weights can be shared, `supernet`.

Notation: B candidates, G genes. A population is always an array, `genomes: [B, G] int16`, canonical unless said
otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import SpaceError
from .architecture import Architecture, Value
from .candidate import Candidate
from .digest import digest_rows, hex_digest
from .gene import Gene, GeneTable, Population
from .op import Op, total_macs, total_params
from .site import Site, SiteIndex

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .elastic.mixture import ChoicePlaces, MixedPlace
    from .elastic.supernet import Supernet

__all__ = ["GeneSpace", "SearchSpace"]


class SearchSpace:
    """A search space: genes, and in subclasses how a choice becomes a network.

    Args:
        genes: in any order in which conditions do not run in a circle.
        name: the family's name in the catalog.
        preset: which preset of the family, "" if none.
        options: what else shaped it (input size, classes); JSON-able, part of the identity.
    """

    partial_channels: ClassVar[bool] = False
    """Whether `supernet` takes `partial`: K of PC-DARTS, operations with 1/K of the channels."""

    def __init__(
        self, genes: Sequence[Gene], *, name: str, preset: str = "", options: Mapping[str, Value] | None = None
    ) -> None:
        self.table = GeneTable(genes)
        self.name = name
        self.preset = preset
        self.options = dict(options or {})

    # --- identity and size ---------------------------------------------------------------------------------------

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, in genome order."""
        return self.table.genes

    @functools.cached_property
    def identity(self) -> str:
        """Stable name of exactly this space: equal identities have equal genes, options and meaning."""
        content = json.dumps(self.description(), sort_keys=True, default=str)
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def description(self) -> dict[str, object]:
        """JSON-able description: name, preset, options and genes."""
        return {
            "name": self.name,
            "preset": self.preset,
            "options": self.options,
            "genes": [
                {
                    "name": gene.name,
                    "values": list(gene.values),
                    "kind": gene.kind,
                    "when": [{"gene": when.gene, "values": list(when.values)} for when in gene.when],
                    "default": gene.values[gene.default],
                }
                for gene in self.genes
            ],
        }

    @property
    def size(self) -> int:
        """Exact number of canonical genomes."""
        return self.table.size

    # --- populations ---------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Population:
        """[n, G] canonical genomes, uniform over all canonical genomes, with replacement."""
        return self.table.sample(n, rng)

    def active(self, genomes: Population) -> NDArray[np.bool_]:
        """[B, G] bool: which genes matter in each genome."""
        return self.table.active(self.table.check_range(genomes))

    def canonical(self, genomes: Population) -> Population:
        """[B, G] with inactive genes set to 0; raises SpaceError for indices out of range."""
        return self.table.canonical(self.table.check_range(genomes))

    def check(self, genomes: Population) -> Population:
        """Return `genomes` if they are canonical; raises SpaceError naming gene, value and allowed values."""
        genomes = self.table.check_range(genomes)
        stray = (genomes != 0) & ~self.table.active(genomes)
        if stray.any():
            row, column = np.argwhere(stray)[0]
            gene = self.genes[column]
            needs = " and ".join(f"{when.gene} in {list(when.values)!r}" for when in gene.when)
            raise SpaceError(
                f"gene {gene.name!r} of genome {row} is inactive but set to choice {int(genomes[row, column])}; an "
                f"inactive gene must be 0 (it is active only when {needs}). Call canonical() first."
            )
        return genomes

    def mutate(self, genomes: Population, rng: np.random.Generator, rate: float | None = None) -> Population:
        """Change each active gene with probability `rate`, at least one per genome where the space allows it.

        Args:
            genomes: [B, G] canonical.
            rng: source of randomness.
            rate: probability per active gene; None = 1 / number of active genes.

        Returns:
            [B, G] canonical; a changed gene takes one of its *other* values uniformly, newly active genes a random one.
        """
        table = self.table
        shape = genomes.shape
        active = table.active(genomes)
        mutable = active & (table.cardinalities > 1)
        score = rng.random(shape, dtype=np.float32)
        threshold = 1.0 / np.maximum(mutable.sum(axis=1, keepdims=True), 1) if rate is None else rate
        change = score < threshold
        # The gene with the lowest score changes in any case, so that a child is never its parent.
        forced = np.where(mutable, score, np.float32(2.0)).argmin(axis=1)
        change[np.arange(len(genomes)), forced] = True
        change &= mutable
        steps = 1 + (rng.random(shape, dtype=np.float32) * (table.cardinalities - 1)).astype(np.int16)
        filled = np.where(active, genomes, table.uniform(len(genomes), rng))
        mutated = np.where(change, (genomes + steps) % table.cardinalities, filled)
        return table.canonical(mutated.astype(np.int16, copy=False))

    def crossover(self, a: Population, b: Population, rng: np.random.Generator) -> Population:
        """Uniform crossover of parents `a` and `b` [B, G]; a newly active gene comes from the parent that has it."""
        table = self.table
        active_a, active_b = table.active(a), table.active(b)
        spare = table.uniform(len(a), rng)
        from_a = np.where(active_a, a, np.where(active_b, b, spare))
        from_b = np.where(active_b, b, np.where(active_a, a, spare))
        pick = rng.random(a.shape, dtype=np.float32) < 0.5
        return table.canonical(np.where(pick, from_a, from_b))

    def neighbors(self, genome: NDArray[np.int16]) -> Population:
        """[N, G] all canonical genomes that differ from `genome` [G] in one gene active in both.

        Genes that the change newly activates take their declared defaults.
        """
        table = self.table
        row = self.check(np.asarray(genome)[None])
        active = table.active(row)[0]
        filled = np.where(active, row[0], table.defaults)
        genes = np.repeat(np.arange(len(self.genes)), np.where(active, table.cardinalities - 1, 0))
        first = np.concatenate([[0], np.cumsum(np.where(active, table.cardinalities - 1, 0))])
        shift = np.arange(len(genes)) - first[genes] + 1
        out = np.repeat(filled[None], len(genes), axis=0)
        out[np.arange(len(genes)), genes] = (filled[genes] + shift) % table.cardinalities[genes]
        return table.canonical(out.astype(np.int16, copy=False))

    def smallest(self) -> NDArray[np.int16]:
        """[G] the canonical genome with every ordered gene at its first value, categorical ones at their default."""
        row = np.where([gene.kind == "categorical" for gene in self.genes], self.table.defaults, 0)
        return self.canonical(row.astype(np.int16)[None])[0]

    def largest(self) -> NDArray[np.int16]:
        """[G] the canonical genome with every ordered gene at its last value, categorical ones at their default."""
        ordered = [gene.kind != "categorical" for gene in self.genes]
        row = np.where(ordered, self.table.cardinalities - 1, self.table.defaults)
        return self.canonical(row.astype(np.int16)[None])[0]

    # --- keys ----------------------------------------------------------------------------------------------------

    def key_form(self, genomes: Population) -> NDArray[np.integer]:
        """[B, K] integers that are equal exactly where two genomes perform the same computation with the same weights.

        The canonical genome is enough where no two canonical genomes compute the same; other families override this.
        """
        return genomes

    def exported_form(self, genomes: Population) -> Population:
        """[B, G] the genomes without the parts whose output nobody reads: what a compiler or an exporter removes.

        Parts that read only zeros stay, unlike in `key_form`. Here the genomes themselves, as nothing is unread where a
        family does not say so.
        """
        return genomes

    def keys(self, genomes: Population) -> NDArray[np.uint64]:
        """[B, 2] uint64, 128-bit digests: equal keys mean the same computation with the same shared weights."""
        return digest_rows(self.key_form(genomes), self.identity)

    # --- single architectures ------------------------------------------------------------------------------------

    def decode(self, genome: NDArray[np.int16]) -> Architecture:
        """The architecture of one canonical genome [G]; raises SpaceError if it is not canonical."""
        row = self.check(np.asarray(genome)[None])
        active = self.table.active(row)[0]
        choices = {
            gene.name: gene.values[int(choice)]
            for gene, choice, used in zip(self.genes, row[0], active, strict=True)
            if used
        }
        return Architecture(
            space=self.identity,
            genome=tuple(int(choice) for choice in row[0]),
            choices=choices,
            key=hex_digest(self.keys(row)[0]),
        )

    def encode(self, architecture: Architecture) -> NDArray[np.int16]:
        """[G] the canonical genome of an architecture of this space; raises SpaceError for one of another space."""
        if architecture.space != self.identity:
            raise SpaceError(
                f"architecture {architecture.key} belongs to space {architecture.space}, not to {self.identity}; "
                "decode its choices with the space it came from."
            )
        return np.array(architecture.genome, dtype=np.int16)

    def architecture(self, choices: Mapping[str, Value]) -> Architecture:
        """The architecture with these values by gene name; active genes left out take their defaults.

        Raises:
            SpaceError: unknown gene or value, or a value for a gene that these choices leave inactive.
        """
        row = self.table.defaults.copy()
        for name, value in choices.items():
            row[self.table.find(name)] = self.genes[self.table.find(name)].index(value)
        active = self.table.active(row[None])[0]
        if idle := [name for name in choices if not active[self.table.find(name)]]:
            raise SpaceError(f"genes {idle} are inactive under the other choices; leave them out.")
        return self.decode(np.where(active, row, 0).astype(np.int16))

    # --- costs that need no device -------------------------------------------------------------------------------

    @functools.cached_property
    def site_index(self) -> SiteIndex:
        """The sites, numbered; raises SpaceError where the space has none."""
        sites = self.sites()
        if sites is None:
            raise SpaceError(
                f"space {self.name!r} is not additive over sites; ask for the Ops of single architectures."
            )
        return SiteIndex(self.table, sites)

    @functools.cached_property
    def _site_costs(self) -> NDArray[np.float64]:
        """[T, 2] MACs and parameters per site configuration; float64 is exact up to 2**53."""
        return self.site_index.table(lambda ops: (total_macs(ops), total_params(ops)), 2)

    def macs(self, genomes: Population) -> NDArray[np.int64]:
        """[B] multiply-accumulates per sample."""
        return self.site_index.total(self._site_costs[:, 0], genomes).astype(np.int64)

    def params(self, genomes: Population) -> NDArray[np.int64]:
        """[B] learned parameters."""
        return self.site_index.total(self._site_costs[:, 1], genomes).astype(np.int64)

    # --- what families add ---------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        raise SpaceError(f"space {self.name!r} has genes only; it cannot tell the Ops of {architecture.key}.")

    def sites(self) -> tuple[Site, ...] | None:
        """The sites whose Ops add up to `ops`, or None where costs are not additive over few genes."""
        return None

    def network(self, architecture: Architecture, seed: int | None = None) -> nn.Module:
        """A freshly initialised network of this architecture; `seed` makes the initialisation repeatable."""
        raise SpaceError(f"space {self.name!r} has genes only; it cannot build {architecture.key}.")

    def constrain(self, network: nn.Module, architecture: Architecture) -> None:
        """Put weights that a training step has moved back to what the architecture allows; most allow any."""

    def supernet(self, seed: int | None = None) -> Supernet:
        """One set of shared weights that runs every architecture of the space."""
        raise SpaceError(f"space {self.name!r} has no supernet; train its architectures alone.")

    @functools.cached_property
    def choice_places(self) -> ChoicePlaces | None:
        """The places whose choices are independent, so that the supernet runs mixtures of them; None = no mixtures."""
        return None

    def mixed_places(self) -> tuple[MixedPlace, ...] | None:
        """What a mixture weights, place by place; None where the space has no mixtures."""
        return None if self.choice_places is None else self.choice_places.places

    def assembled(self, chosen: Mapping[str, int | None]) -> NDArray[np.int16]:
        """[G] the canonical genome with these choices by place, None where an edge is left out; `choices_of` inverts.

        Raises:
            SpaceError: a place is missing or unknown, or these choices are no architecture of the space.
        """
        return self._places().assembled(chosen)

    def choices_of(self, genome: NDArray[np.int16]) -> dict[str, int | None]:
        """The choice that a canonical genome [G] makes at every place, None where it leaves the edge out."""
        return self._places().choices_of(self.check(np.asarray(genome)[None])[0])

    def _places(self) -> ChoicePlaces:
        if self.choice_places is None:
            raise self.no_mixtures()
        return self.choice_places

    def no_mixtures(self) -> SpaceError:
        """What to raise where a space without mixtures is asked for one."""
        return SpaceError(
            f"space {self.name!r}, preset {self.preset!r}, has no mixtures: its choices do not belong to one place "
            "each (depths, widths and resolutions concern several). Fix those, or take another preset or space."
        )

    def candidates(self) -> tuple[Candidate, ...]:
        """Operations that can be tried alone (`checking` vets them); () where the family does not list any."""
        return ()

    def example_inputs(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Tensors that the space's networks take, `batch` samples each."""
        raise SpaceError(f"space {self.name!r} has genes only; it takes no inputs (asked for batch {batch}).")


class GeneSpace(SearchSpace):
    """A space of genes alone: for tables, strategies and tests that need no network.

    >>> space = GeneSpace([Gene("depth", (1, 2)), Gene("kernel", (3, 5, 7))], name="toy")
    >>> space.size
    6
    """
