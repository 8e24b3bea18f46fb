"""NAS-Bench-201: one cell of six edges with five choices each, stacked in three stages.

Dead parts are never built: an edge that no path from the cell's input to its output uses costs nothing, where the
published networks keep its weights. A network is made from the representative of its cell's class, so that equal keys
mean equal networks down to the names of their Ops.

Source: Dong and Yang, NAS-Bench-201, ICLR 2020, https://arxiv.org/abs/2001.00326; cells and macro structure as in
https://github.com/D-X-Y/AutoDL-Projects.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture
from ..candidate import Candidate, Meaning
from ..digest import digest_rows
from ..elastic.choice import share_norms
from ..elastic.mixed_cell import MixedEdges, check_partial, mix_cell, mixed_edges, no_network
from ..elastic.mixture import MixedPlace, Mixture, one_hot
from ..elastic.supernet import Supernet
from ..gene import Gene, Population
from ..layers.cell import Edge, SumCell, node_ops
from ..layers.cell_ops import CandidateSpec, PoolSpec, ReluConvNormSpec, Zero, candidate_ops, make_candidate
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..layers.materialise import allocate, builder, initialise
from ..layers.pool import GlobalAvgPool
from ..op import Op, Tensor, make_op
from ..site import Site, SiteIndex
from ..space import SearchSpace
from .gene_places import GenePlace, GenePlaces
from .nas_bench_201_cells import CHOICES, EDGES, cell_number, representatives, topologies, unread_removed

__all__ = ["PRESETS", "NasBench201", "NasBench201Space", "NasBench201Spec", "NasBench201Supernet"]

Path = tuple[Edge, ...]

OUTPUT: Final = EDGES[-1][1]
"""Number of the cell's last node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NasBench201Spec:
    """The macro structure around the cell.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image; each stage after the first halves it.
        classes: logits.
        channels: of the first stage; each further one doubles them.
        stages: how many.
        cells: in each stage.
    """

    in_channels: int = 3
    resolution: int = 32
    classes: int = 10
    channels: int = 16
    stages: int = 3
    cells: int = 5

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"nas_bench_201: {field.name} is {value!r}; it must be an integer of at least 1.")
        if self.resolution % (1 << (self.stages - 1)):
            raise SpaceError(
                f"nas_bench_201: resolution {self.resolution} cannot be halved {self.stages - 1} times; make it a "
                f"multiple of {1 << (self.stages - 1)}."
            )

    def width(self, stage: int) -> int:
        """Channels of a stage."""
        return self.channels << stage

    def side(self, stage: int) -> int:
        """Side of the image in a stage."""
        return self.resolution >> stage


PRESETS: Final[Mapping[str, NasBench201Spec]] = MappingProxyType({
    "cifar10": NasBench201Spec(),
    "cifar100": NasBench201Spec(classes=100),
    "imagenet16": NasBench201Spec(resolution=16, classes=120),
    "digits": NasBench201Spec(in_channels=1, resolution=12, channels=8, cells=1),
    "tiny": NasBench201Spec(in_channels=1, resolution=8, channels=4, stages=2, cells=1),
})  # fmt: skip
"""The family's presets, by name: the three data sets of the benchmark, and two for small grey images."""


def _candidate(choice: str, channels: int) -> CandidateSpec:
    match choice:
        case "nor_conv_1x1":
            return ReluConvNormSpec(in_channels=channels, out_channels=channels)
        case "nor_conv_3x3":
            return ReluConvNormSpec(in_channels=channels, out_channels=channels, kernel=3)
        case "avg_pool_3x3":
            return PoolSpec(kind="avg", channels=channels)
        case _:
            return None


def _edges(choices: Sequence[tuple[int, int, str]], channels: int) -> Path:
    """The edges that exist, in the order they run: by target, then by source."""
    return tuple(
        Edge(source, target, choice, _candidate(choice, channels))
        for source, target, choice in choices
        if choice != "none"
    )


class Cell(SumCell):
    """A cell of the benchmark: the last node, or zeros where no path leads to it."""

    def __init__(self, edges: Path) -> None:
        super().__init__(edges)
        self.zero = Zero()

    def forward(self, x: TorchTensor, edges: Path | MixedEdges) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        nodes = mix_cell(self, [x], edges) if isinstance(edges, MixedEdges) else self.walk([x], edges)
        return nodes[OUTPUT] if OUTPUT in nodes else self.zero(x)


class Reduction(nn.Module):
    """A residual block that halves the image: `first`, `second`, and a `shortcut` of average `pool` and convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = make_candidate(_reduction_conv(in_channels, out_channels, 2))
        self.second = make_candidate(_reduction_conv(out_channels, out_channels, 1))
        self.pool = nn.AvgPool2d(2, stride=2)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, H / 2, W / 2]; H and W are even."""
        return self.shortcut(self.pool(x)) + self.second(self.first(x))


def _reduction_conv(in_channels: int, out_channels: int, stride: int) -> ReluConvNormSpec:
    return ReluConvNormSpec(in_channels=in_channels, out_channels=out_channels, kernel=3, stride=stride)


def _reduction_ops(name: str, x: Tensor, out_channels: int) -> tuple[Op, ...]:
    ops = candidate_ops(f"{name}.first", x, _reduction_conv(x.shape[0], out_channels, 2))
    ops += candidate_ops(f"{name}.second", ops[-1].output, _reduction_conv(out_channels, out_channels, 1))
    pool = make_op(f"{name}.pool", "avg_pool2d", x, kernel=2, stride=2)
    shortcut = make_op(f"{name}.shortcut", "conv2d", pool.output, out_channels=out_channels, kernel=1)
    return (*ops, pool, shortcut, make_op(f"{name}.residual_add", "add", (shortcut.output, ops[-1].output)))


class Tail(nn.Module):
    """`norm`, `activation`, `pool`, `classifier`."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.ReLU()
        self.pool = GlobalAvgPool()
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, H, W] -> [N, classes] logits."""
        return self.classifier(self.pool(self.activation(self.norm(x))))


def _tail_ops(x: Tensor, classes: int) -> tuple[Op, ...]:
    norm = make_op("tail.norm", "batch_norm", x)
    activation = make_op("tail.activation", "activation", norm.output, function="relu")
    pool = make_op("tail.pool", "global_avg_pool", activation.output)
    return norm, activation, pool, make_op("tail.classifier", "linear", pool.output, out_features=classes)


class NasBench201(nn.Module):
    """`stem`, then ``stages.<stage>.<cell>`` with ``reductions.<stage>`` between stages, then `tail`.

    Args:
        spec: the macro structure.
        edges: for every stage, the candidates its cells hold.
    """

    def __init__(self, spec: NasBench201Spec, edges: Sequence[Path]) -> None:
        super().__init__()
        self.paths = tuple(edges)
        self.stem = ConvNorm(_stem(spec))
        self.stages = nn.ModuleList(nn.ModuleList(Cell(path) for _ in range(spec.cells)) for path in edges)
        self.reductions = nn.ModuleList(
            Reduction(spec.width(stage), spec.width(stage + 1)) for stage in range(spec.stages - 1)
        )
        self.tail = Tail(spec.width(spec.stages - 1), spec.classes)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        return _run(self, x, self.paths)


def _run(network: NasBench201 | NasBench201Supernet, x: TorchTensor, paths: Sequence[Path | MixedEdges]) -> TorchTensor:
    """The logits when only the edges of `paths` run, one path for each stage."""
    x = network.stem(x)
    for stage, (cells, path) in enumerate(zip(network.stages, paths, strict=True)):
        if stage:
            x = network.reductions[stage - 1](x)
        for cell in cast(nn.ModuleList, cells):
            x = cell(x, path)
    return network.tail(x)


def _stem(spec: NasBench201Spec) -> ConvNormSpec:
    return ConvNormSpec(in_channels=spec.in_channels, out_channels=spec.channels, kernel=3)


class NasBench201Supernet(Supernet):
    """Every operation of every edge of every cell with its own weights; an architecture runs one path of them.

    Args:
        space: its space.
        partial: K; only the first 1/K of a node's channels pass through operations, the others bypass them.
    """

    def __init__(self, space: NasBench201Space, *, partial: int = 1) -> None:
        super().__init__()
        self.space, self.partial = space, partial
        spec = space.spec
        everything = [(*edge, choice) for edge in EDGES for choice in CHOICES]
        widths = [check_partial(space.name, spec.width(stage), partial) for stage in range(spec.stages)]
        network = share_norms(NasBench201(spec, [_edges(everything, width) for width in widths]))
        self.stem, self.stages = network.stem, network.stages
        self.reductions, self.tail = network.reductions, network.tail

    def forward(self, x: TorchTensor, architecture: Architecture | Mixture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        if isinstance(architecture, Architecture) and self.partial == 1:
            return _run(self, x, self.space.plan(architecture))
        places = self.space.choice_places.places
        if isinstance(architecture, Architecture):
            architecture = one_hot(places, self.space.choices_of(self.space.encode(architecture)))
        return _run(self, x, [mixed_edges(architecture, places, self.partial)["edges"]] * self.space.spec.stages)

    def blank_network(self, architecture: Architecture) -> NasBench201:
        """The standalone network of `architecture`, allocated but not filled; partial channels have none."""
        if self.partial > 1:
            raise no_network(self.space.name, self.partial)
        return allocate(lambda: NasBench201(self.space.spec, self.space.plan(architecture)))


class NasBench201Space(SearchSpace):
    """All 15,625 cells in one macro structure; genes and choices in the order of the benchmark's tables.

    Args:
        spec: the macro structure.
        preset: the name `spec` goes by, "" if none.

    >>> NasBench201Space(PRESETS["tiny"], preset="tiny").size
    15625
    """

    partial_channels = True

    def __init__(self, spec: NasBench201Spec, *, preset: str = "") -> None:
        self.spec = spec
        default = CHOICES.index("nor_conv_3x3")
        genes = [Gene(f"edges.{source}-{target}", CHOICES, default=default) for source, target in EDGES]
        super().__init__(genes, name="nas_bench_201", preset=preset, options=dataclasses.asdict(spec))

    def __reduce__(self) -> tuple[Callable[..., NasBench201Space], tuple[NasBench201Spec, str]]:
        """Travel to other processes as the spec alone: compiled tables are rebuilt there."""
        return _restore, (self.spec, self.preset)

    # --- keys -----------------------------------------------------------------------------------------------------

    def key_form(self, genomes: Population) -> Population:
        """[B, 6] the genome that stands for all cells computing the same: dead edges gone, paths of skips merged."""
        return representatives()[cell_number(genomes)]

    def exported_form(self, genomes: Population) -> Population:
        """[B, 6] without the edges into nodes that no path leads on from; edges that read only zeros stay."""
        return unread_removed()[cell_number(genomes)]

    def topology_keys(self, genomes: Population) -> NDArray[np.uint64]:
        """[B, 2] digests by the benchmark's own rule, under which its cells are 6,466 topologies.

        Coarser than `keys` where cells differ only in which edge holds an operation, finer where sums nest.
        """
        return digest_rows(topologies()[cell_number(self.check(genomes))], "nas_bench_201.topology")

    # --- from an architecture to layers ---------------------------------------------------------------------------

    def plan(self, architecture: Architecture) -> tuple[Path, ...]:
        """For every stage, the edges that its cells run."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        cell = self.key_form(np.array([architecture.genome], dtype=np.int16))[0]
        choices = [(*edge, CHOICES[choice]) for edge, choice in zip(EDGES, cell, strict=True)]
        return tuple(_edges(choices, self.spec.width(stage)) for stage in range(self.spec.stages))

    # --- mixtures -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def choice_places(self) -> GenePlaces:
        """Every edge of the cell, with the choices of its gene."""
        rows = np.arange(len(CHOICES), dtype=np.int16)[:, None]
        return GenePlaces(
            self.name,
            self.table,
            [
                GenePlace(MixedPlace(name=gene.name, choices=CHOICES, node=f"edges.{target}"), (position,), rows)
                for position, (gene, (_, target)) in enumerate(zip(self.genes, EDGES, strict=True))
            ],
        )

    # --- costs ----------------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        ops = conv_norm_ops("stem", self._image(), _stem(self.spec))
        x = ops[-1].output
        for stage, path in enumerate(self.plan(architecture)):
            if stage:
                ops += _reduction_ops(f"reductions.{stage - 1}", x, self.spec.width(stage))
                x = ops[-1].output
            for cell in range(self.spec.cells):
                nodes = {0: x}
                for target in range(1, OUTPUT + 1):
                    made, nodes[target] = _cell_node_ops(f"stages.{stage}.{cell}", nodes, path, target)
                    ops += made
                x = nodes[OUTPUT]
        return ops + _tail_ops(x, self.spec.classes)

    def sites(self) -> tuple[Site, ...]:
        """Stem, every node of every cell, reductions and tail; to be looked up with the cell's representative."""
        sites = [Site("stem", (), lambda _: conv_norm_ops("stem", self._image(), _stem(self.spec)))]
        for stage in range(self.spec.stages):
            if stage:
                sites.append(self._reduction_site(stage))
            for cell in range(self.spec.cells):
                sites += [self._node_site(stage, cell, target) for target in range(1, OUTPUT + 1)]
        last = self.spec.stages - 1
        shape = (self.spec.width(last), self.spec.side(last), self.spec.side(last))
        return (*sites, Site("tail", (), lambda _: _tail_ops(Tensor("tail.input", shape), self.spec.classes)))

    @functools.cached_property
    def site_index(self) -> SiteIndex:
        """The sites, numbered; costs add up once the cell is pruned."""
        return SiteIndex(self.table, self.sites(), reduce=self.key_form)

    def _image(self) -> Tensor:
        return Tensor("image", (self.spec.in_channels, self.spec.resolution, self.spec.resolution))

    def _reduction_site(self, stage: int) -> Site:
        name, side = f"reductions.{stage - 1}", self.spec.side(stage - 1)
        x = Tensor(f"{name}.input", (self.spec.width(stage - 1), side, side))
        return Site(name, (), lambda _: _reduction_ops(name, x, self.spec.width(stage)))

    def _node_site(self, stage: int, cell: int, target: int) -> Site:
        name, channels, side = f"stages.{stage}.{cell}", self.spec.width(stage), self.spec.side(stage)
        genes = tuple(gene for gene, edge in enumerate(EDGES) if edge[1] == target)
        nodes = {node: Tensor(f"{name}.node{node}", (channels, side, side)) for node in range(target)}

        def build(choices: tuple[int, ...]) -> tuple[Op, ...]:
            named = [(*EDGES[gene], CHOICES[choice]) for gene, choice in zip(genes, choices, strict=True)]
            return _cell_node_ops(name, nodes, _edges(named, channels), target)[0]

        return Site(f"{name}.node{target}", genes, build)

    # --- networks -------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> NasBench201:
        """A freshly initialised network."""
        network = allocate(lambda: NasBench201(self.spec, self.plan(architecture)))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None, *, partial: int = 1) -> NasBench201Supernet:
        """Shared weights of every architecture, freshly initialised.

        Args:
            seed: makes the initialisation repeatable.
            partial: K of PC-DARTS: operations have 1/K of the channels, the others bypass them. With K > 1 the supernet
                runs mixtures and architectures, but its weights are those of no standalone network.

        Raises:
            SpaceError: `partial` does not divide the channels.
        """
        supernet = allocate(lambda: NasBench201Supernet(self, partial=partial))
        initialise(supernet, seed)
        return supernet

    def candidates(self) -> tuple[Candidate, ...]:
        """The choices of an edge in every stage; all six edges have the same."""
        return tuple(self._candidate_at(stage, choice) for stage in range(self.spec.stages) for choice in CHOICES)

    def _candidate_at(self, stage: int, choice: str) -> Candidate:
        spec = _candidate(choice, self.spec.width(stage))
        means: Meaning = "nothing" if choice == "none" else "work" if spec else "identity"
        return Candidate(
            place="edges",
            label=choice,
            choice=True,
            shape=(self.spec.width(stage), self.spec.side(stage), self.spec.side(stage)),
            build=builder(Zero if choice == "none" else functools.partial(make_candidate, spec)),
            means=means,
            key=(choice, spec),
        )

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        shape = (batch, *self._image().shape)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


def _cell_node_ops(name: str, nodes: Mapping[int, Tensor], path: Path, target: int) -> tuple[tuple[Op, ...], Tensor]:
    """The Ops of one node, and its tensor: its input's where it is unreached, zeros where that is the last node."""
    incoming = [edge for edge in path if edge.target == target]
    if incoming:
        return node_ops(name, nodes, incoming)
    if target < OUTPUT:
        return (), nodes[0]
    zero = make_op(f"{name}.zero", "scale", nodes[0], factor=0.0)
    return (zero,), zero.output


def _restore(spec: NasBench201Spec, preset: str) -> NasBench201Space:
    return NasBench201Space(spec, preset=preset)
