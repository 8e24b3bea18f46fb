"""DARTS: a normal and a reduction cell, each of four nodes that add two operations on earlier nodes.

Genes per node: which two nodes it reads, and the operation on each. A genotype of 20 cells is the published CIFAR-10
network, the same genes over 8 narrow cells with every candidate are the search network.

Nodes that add the same operations without weights to the same nodes are one value; edges without weights that read
either are the same computation, and share a key.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055; Hundt et al., sharpDARTS,
https://arxiv.org/abs/1903.09900.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..candidate import Candidate
from ..elastic.choice import share_norms
from ..elastic.mixed_cell import MixedEdges, check_partial, mixed_edges, no_network
from ..elastic.mixture import Mixture, one_hot
from ..elastic.supernet import Supernet
from ..gene import Population
from ..layers.cell import Edge, sum_cell_ops
from ..layers.cell_ops import candidate_ops, make_candidate, weighted
from ..layers.classifier import classifier_ops
from ..layers.materialise import allocate, builder, initialise
from ..op import Op, Tensor, make_op
from ..site import Site
from ..space import SearchSpace
from .darts_genes import DartsPlaces, darts_genes, pairs
from .darts_network import INPUTS, KINDS, NODES, SHARP_CHOICES, Darts, DartsSpec, Kind, Place, candidate, run, stem_ops

__all__ = ["GENOTYPES", "PRESETS", "DartsSpace", "DartsSupernet", "Genotype"]

Genotype = Mapping[str, Sequence[tuple[str, int]]]
"""By kind of cell, (operation, node it reads), two in a row for each node."""

PRESETS: Final[Mapping[str, DartsSpec]] = MappingProxyType({
    "search": DartsSpec(affine=False, pool_norm=True),
    "cifar10": DartsSpec(channels=36, layers=20),
    "imagenet": DartsSpec(resolution=224, classes=1000, channels=48, layers=14, stem="large"),
    "sharp_search": DartsSpec(choices=SHARP_CHOICES, sharp=True, affine=False),
    "sharp_cifar10": DartsSpec(choices=SHARP_CHOICES, sharp=True, channels=36, layers=20),
    "digits": DartsSpec(in_channels=1, resolution=12, channels=8, layers=3),
    "tiny": DartsSpec(in_channels=1, resolution=16, channels=2, layers=3),
})  # fmt: skip
"""The family's presets, by name: search networks, published networks, and two for small grey images."""

GENOTYPES: Final[Mapping[str, Genotype]] = MappingProxyType({
    "darts_v2": {
        "normal": (
            ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
        ),
        "reduction": (
            ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
            ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
        ),
    },
})  # fmt: skip
"""Published cells, by name."""


class DartsSupernet(Supernet):
    """Every operation of every edge of every cell with its own weights; an architecture runs two edges per node.

    Args:
        space: its space.
        partial: K; only the first 1/K of a node's channels pass through operations, the others bypass them.
    """

    def __init__(self, space: DartsSpace, *, partial: int = 1) -> None:
        super().__init__()
        self.space, self.partial = space, partial
        places = space.spec.places()
        for place in places:
            check_partial(space.name, place.channels, partial)
        network = share_norms(Darts(space.spec, [place.every_edge(partial) for place in places]))
        self.stem, self.stem_last, self.cells, self.head = network.stem, network.stem_last, network.cells, network.head

    def forward(self, x: TorchTensor, architecture: Architecture | Mixture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        if isinstance(architecture, Architecture) and self.partial == 1:
            return run(self, x, self.space.plan(architecture))
        return run(self, x, self._mixed(architecture))

    def _mixed(self, chosen: Architecture | Mixture) -> list[MixedEdges]:
        """By cell, what runs."""
        places = self.space.choice_places.places
        if isinstance(chosen, Architecture):
            chosen = one_hot(places, self.space.choices_of(self.space.encode(chosen)))
        edges = mixed_edges(chosen, places, self.partial)
        return [edges[place.kind] for place in self.space.spec.places()]

    def blank_network(self, architecture: Architecture) -> Darts:
        """The standalone network of `architecture`, allocated but not filled; partial channels have none."""
        if self.partial > 1:
            raise no_network(self.space.name, self.partial)
        return allocate(lambda: Darts(self.space.spec, self.space.plan(architecture)))


class DartsSpace(SearchSpace):
    """All pairs of cells in one network.

    Args:
        spec: the network around the cells, and their operations.
        preset: the name `spec` goes by, "" if none.

    >>> DartsSpace(PRESETS["cifar10"]).size == (7**8 * 3 * 6 * 10) ** 2
    True
    """

    partial_channels = True

    def __init__(self, spec: DartsSpec, *, preset: str = "") -> None:
        self.spec = spec
        super().__init__(
            tuple(darts_genes(spec.choices)), name="darts", preset=preset, options=dataclasses.asdict(spec)
        )

    def __reduce__(self) -> tuple[Callable[..., DartsSpace], tuple[DartsSpec, str]]:
        """Travel to other processes as the spec alone: compiled tables are rebuilt there."""
        return _restore, (self.spec, self.preset)

    # --- keys -----------------------------------------------------------------------------------------------------

    def key_form(self, genomes: Population) -> Population:
        """[B, 16] the two terms of each node of both cells, ascending; a term is 64 * source + operation.

        A term without weights reads the first of all nodes that are the same value.
        """
        return np.column_stack([form for kind in KINDS for form in self._terms(genomes, kind)]).astype(np.int16)

    def _terms(self, genomes: Population, kind: Kind) -> Iterator[NDArray[np.int64]]:
        """[B, 2] for each node of a cell."""
        rows = np.arange(len(genomes))
        free = self._free(kind)
        same = np.tile(np.arange(INPUTS + NODES), (len(genomes), 1))  # first node of equal value
        forms: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
        for node in range(NODES):
            reads = np.array(pairs(node))[self._column(genomes, f"{kind}.{node}.inputs")]
            terms, without = np.empty((len(genomes), 2), dtype=np.int64), np.ones(len(genomes), dtype=np.bool_)
            for side, letter in enumerate("ab"):
                choice, source = self._column(genomes, f"{kind}.{node}.{letter}"), reads[:, side]
                light = free[np.minimum(source, INPUTS), choice]
                terms[:, side] = 64 * np.where(light, same[rows, source], source) + choice
                without &= light
            terms.sort(axis=1)
            for earlier, (form, light) in enumerate(forms):
                equal = without & light & (form == terms).all(axis=1) & (same[:, INPUTS + node] == INPUTS + node)
                same[equal, INPUTS + node] = INPUTS + earlier
            forms.append((terms, without))
            yield terms

    def _free(self, kind: Kind) -> NDArray[np.bool_]:
        """[3, choices] whether a choice holds no weights, on edges from either input and from inner nodes."""
        strides = (2, 2, 1) if kind == "reduction" else (1, 1, 1)
        return np.array(
            [
                [not weighted(candidate(choice, 2, stride, self.spec)) for choice in self.spec.choices]
                for stride in strides
            ]
        )

    def _column(self, genomes: Population, name: str) -> NDArray[np.int16]:
        """[B] choices of a gene, 0 where there is none because nothing can be chosen."""
        position = self.table.position.get(name)
        return np.zeros(len(genomes), dtype=np.int16) if position is None else genomes[:, position]

    # --- from an architecture to layers ---------------------------------------------------------------------------

    def from_genotype(self, genotype: Genotype) -> Architecture:
        """The architecture of published cells; raises SpaceError where a node reads one node twice or a later one."""
        choices: dict[str, Value] = {}
        for kind in KINDS:
            for node in range(NODES):
                (first, a), (second, b) = sorted(genotype[kind][2 * node : 2 * node + 2], key=lambda term: term[1])
                if (a, b) not in pairs(node):
                    raise SpaceError(
                        f"darts: node {node} of the {kind} cell reads nodes {a} and {b}; allowed: {list(pairs(node))}."
                    )
                choices |= {f"{kind}.{node}.a": first, f"{kind}.{node}.b": second}
                if node:
                    choices[f"{kind}.{node}.inputs"] = (a, b)
        return self.architecture(choices)

    def plan(self, architecture: Architecture) -> tuple[tuple[Edge, ...], ...]:
        """For every cell, the edges it runs."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        form = self.key_form(np.array([architecture.genome], dtype=np.int16))[0].reshape(len(KINDS), NODES, 2)
        return tuple(
            tuple(
                place.edge(int(term) // 64, INPUTS + node, self.spec.choices[int(term) % 64])
                for node in range(NODES)
                for term in form[KINDS.index(place.kind), node]
            )
            for place in self.spec.places()
        )

    # --- mixtures -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def choice_places(self) -> DartsPlaces:
        """Every edge of both cells, each with `none` and all operations; a node keeps two."""
        return DartsPlaces(self.table, self.spec.choices)

    # --- costs ----------------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        ops, older, newer = stem_ops(self.spec, self._image())
        for place, edges in zip(self.spec.places(), self.plan(architecture), strict=True):
            prepared = _prepare_ops(place, older, newer)
            inputs = [made[-1].output for made in prepared]
            inner, nodes = sum_cell_ops(place.name, inputs, edges)
            joined = _join_op(place, [nodes[INPUTS + node] for node in range(NODES)])
            ops += (*prepared[0], *prepared[1], *inner, joined)
            older, newer = newer, joined.output
        return ops + classifier_ops("head", newer, self.spec.head)

    def sites(self) -> tuple[Site, ...]:
        """Stem, and per cell its preparation, every term of every node, its additions and its output; head."""
        sites = [Site("stem", (), lambda _: stem_ops(self.spec, self._image())[0])]
        for place in self.spec.places():
            sites += self._cell_sites(place)
        last = self.spec.places()[-1]
        side = last.side // (2 if last.kind == "reduction" else 1)
        x = Tensor("head.input", (self.spec.head.in_channels, side, side))
        return (*sites, Site("head", (), lambda _: classifier_ops("head", x, self.spec.head)))

    def _cell_sites(self, place: Place) -> Iterator[Site]:
        older = Tensor("older", (place.sources[0], *[place.side * (2 if place.shrunk else 1)] * 2))
        newer = Tensor("newer", (place.sources[1], place.side, place.side))
        out = place.side // (2 if place.kind == "reduction" else 1)
        nodes = [Tensor(f"node{node}", (place.channels, out, out)) for node in range(INPUTS + NODES)]
        yield Site(f"{place.name}.prepare", (), lambda _: sum(_prepare_ops(place, older, newer), ()))
        for node in range(NODES):
            for side in range(2):
                yield self._term_site(place, node, side)
            name = f"{place.name}.sums.{INPUTS + node}.1"
            yield Site(name, (), lambda _, name=name: (make_op(name, "add", (nodes[0], nodes[1])),))
        yield Site(f"{place.name}.join", (), lambda _: (_join_op(place, nodes[INPUTS:]),))

    def _term_site(self, place: Place, node: int, side: int) -> Site:
        letter = "ab"[side]
        choice_gene = self.table.find(f"{place.kind}.{node}.{letter}")
        inputs_gene = self.table.position.get(f"{place.kind}.{node}.inputs")
        out = place.side // (2 if place.kind == "reduction" else 1)

        def build(choices: tuple[int, ...]) -> tuple[Op, ...]:
            pair, choice = (0, choices[0]) if inputs_gene is None else choices
            source = pairs(node)[pair][side]
            size = place.side if source < INPUTS else out
            edge = place.edge(source, INPUTS + node, self.spec.choices[choice])
            return candidate_ops(f"{place.name}.{edge.path}", Tensor("x", (place.channels, size, size)), edge.spec)

        genes = (choice_gene,) if inputs_gene is None else (inputs_gene, choice_gene)
        return Site(f"{place.name}.{node}.{letter}", genes, build)

    def _image(self) -> Tensor:
        return Tensor("image", (self.spec.in_channels, self.spec.resolution, self.spec.resolution))

    # --- networks -------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> Darts:
        """A freshly initialised network."""
        network = allocate(lambda: Darts(self.spec, self.plan(architecture)))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None, *, partial: int = 1) -> DartsSupernet:
        """Shared weights of every architecture, freshly initialised.

        Args:
            seed: makes the initialisation repeatable.
            partial: K of PC-DARTS: operations have 1/K of the channels, the others bypass them. With K > 1 the supernet
                runs mixtures and architectures, but its weights are those of no standalone network.

        Raises:
            SpaceError: `partial` does not divide the channels.
        """
        supernet = allocate(lambda: DartsSupernet(self, partial=partial))
        initialise(supernet, seed)
        return supernet

    def candidates(self) -> tuple[Candidate, ...]:
        """The operations of an edge at every width, side and stride that occurs; all edges have the same."""
        ends = {}
        for place in self.spec.places():
            inner = place.side // (2 if place.kind == "reduction" else 1)
            # Edges from the cell's inputs, and from its own nodes behind them.
            for source, side in ((0, place.side), (INPUTS, inner)):
                ends[place.kind, place.channels, side, source] = place
        found = []
        for (kind, channels, side, source), place in ends.items():
            for choice in self.spec.choices:
                spec = place.edge(source, INPUTS + NODES - 1, choice).spec
                found.append(
                    Candidate(
                        place=f"{kind}.edges",
                        label=choice,
                        choice=True,
                        shape=(channels, side, side),
                        build=builder(functools.partial(make_candidate, spec)),
                        means="work" if spec else "identity",
                        key=(choice, spec, channels, side),
                    )
                )
        return tuple(found)

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        return (torch.randn((batch, *self._image().shape), generator=torch.Generator().manual_seed(0)),)


def _prepare_ops(place: Place, older: Tensor, newer: Tensor) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    first, second = place.preparations
    name = f"{place.name}.prepare"
    return candidate_ops(f"{name}.0", older, first), candidate_ops(f"{name}.1", newer, second)


def _join_op(place: Place, nodes: Sequence[Tensor]) -> Op:
    return make_op(f"{place.name}.joined", "concat", tuple(nodes))


def _restore(spec: DartsSpec, preset: str) -> DartsSpace:
    return DartsSpace(spec, preset=preset)
