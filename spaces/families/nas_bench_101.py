"""NAS-Bench-101: one module, any graph of at most seven vertices and nine edges, repeated in three stacks.

Genes are the 21 possible edges and the operation of each inner vertex. A network is made from the first of all graphs
isomorphic to the pruned genome, which is also the one that the benchmark trained: isomorphic genomes are one network
with one key, with one split of channels and with the same shared weights. Not every genome is a module of the
benchmark (`valid`); every genome is a network all the same, so that nothing fails in the middle of a search: one
without a path from input to output is read as the direct connection, one with more than nine edges is built as it is.

Source: Ying et al., NAS-Bench-101, ICML 2019, https://arxiv.org/abs/1902.09635;
https://github.com/google-research/nasbench.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture
from ..candidate import Candidate
from ..digest import digest_rows
from ..elastic.blocks import ElasticConvNorm
from ..elastic.supernet import Supernet
from ..gene import Gene, Population
from ..graph import all_codes, canonical_dags, count_edges, has_edge, prune, used_vertices
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..layers.materialise import allocate, builder, initialise
from ..layers.pool import GlobalAvgPool
from ..op import Op, Tensor, make_op
from ..space import SearchSpace
from .nas_bench_101_module import (
    CHOICES,
    INNER,
    OUTPUT,
    PAIRS,
    VERTICES,
    Module,
    ModuleSpec,
    SharedModule,
    choice_layer,
    module_ops,
    vertex_channels,
)

__all__ = ["PRESETS", "NasBench101", "NasBench101Space", "NasBench101Spec", "NasBench101Supernet"]

MAX_EDGES: Final = 9
DIRECT: Final = 1 << PAIRS.index((0, OUTPUT))
"""The graph that connects input and output directly."""

EXAMPLE: Final = ((0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6))
EXAMPLE_LABELS: Final = ("conv1x1-bn-relu", "conv3x3-bn-relu", "conv3x3-bn-relu", "conv3x3-bn-relu", "maxpool3x3")
"""The module that the benchmark's documentation shows, Inception-like; the genes' defaults."""

RETRIES: Final = 8
"""How often a child that is no module of the benchmark is made again before its parent's graph is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NasBench101Spec:
    """The macro structure around the module.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image; each stack after the first halves it.
        classes: logits.
        channels: of the stem and the first stack; each further one doubles them.
        stacks: how many.
        modules: in each stack.
    """

    in_channels: int = 3
    resolution: int = 32
    classes: int = 10
    channels: int = 128
    stacks: int = 3
    modules: int = 3

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = INNER if field.name == "channels" else 1
            if not isinstance(value, int) or value < least:
                raise SpaceError(
                    f"nas_bench_101: {field.name} is {value!r}; it must be an integer of at least {least}."
                )
        if self.resolution < 1 << (self.stacks - 1):
            raise SpaceError(
                f"nas_bench_101: resolution {self.resolution} cannot be halved {self.stacks - 1} times; it must be at "
                f"least {1 << (self.stacks - 1)}."
            )

    def modules_of(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(stack, module, channels read, channels written, side of the image) of every module."""
        read = self.channels
        for stack in range(self.stacks):
            for module in range(self.modules):
                yield stack, module, read, self.channels << stack, self.resolution >> stack
                read = self.channels << stack

    @property
    def stem(self) -> ConvNormSpec:
        """The first convolution."""
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.channels, kernel=3, activation="relu")


PRESETS: Final[Mapping[str, NasBench101Spec]] = MappingProxyType({
    "cifar10": NasBench101Spec(),
    "digits": NasBench101Spec(in_channels=1, resolution=11, channels=16, modules=1),
    "tiny": NasBench101Spec(in_channels=1, resolution=8, channels=8, stacks=2, modules=1),
})  # fmt: skip
"""The family's presets, by name: the benchmark's own, and two for small grey images."""


class _Tail(nn.Module):
    """`pool`, `classifier`."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.pool = GlobalAvgPool()
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, H, W] -> [N, classes] logits."""
        return self.classifier(self.pool(x))


class NasBench101(nn.Module):
    """`stem`, then ``stacks.<stack>.<module>`` with ``pools.<stack>`` between stacks, then `tail`."""

    def __init__(self, spec: NasBench101Spec, plan: Sequence[Sequence[ModuleSpec]]) -> None:
        super().__init__()
        self.stem = ConvNorm(spec.stem)
        self.stacks = nn.ModuleList(nn.Sequential(*(Module(module) for module in stack)) for stack in plan)
        self.pools = nn.ModuleList(nn.MaxPool2d(2, stride=2) for _ in plan[1:])
        self.tail = _Tail(spec.channels << (spec.stacks - 1), spec.classes)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        x = self.stem(x)
        for index, stack in enumerate(self.stacks):
            x = stack(self.pools[index - 1](x) if index else x)
        return self.tail(x)


class NasBench101Supernet(Supernet):
    """Every choice of every vertex of every module, as wide as the module; a network takes the first channels."""

    def __init__(self, space: NasBench101Space) -> None:
        super().__init__()
        self.space = space
        spec = space.spec
        self.stem = ElasticConvNorm(spec.stem)
        self.stacks = nn.ModuleList(nn.ModuleList() for _ in range(spec.stacks))
        for stack, _, read, written, _ in spec.modules_of():
            self.stacks[stack].append(SharedModule(read, written))  # type: ignore[operator]  # a ModuleList
        self.pools = nn.ModuleList(nn.MaxPool2d(2, stride=2) for _ in range(spec.stacks - 1))
        self.tail = _Tail(spec.channels << (spec.stacks - 1), spec.classes)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        plan = self.space.plan(architecture)
        x = self.stem(x, self.space.spec.stem)
        for index, (stack, specs) in enumerate(zip(self.stacks, plan, strict=True)):
            x = self.pools[index - 1](x) if index else x
            for module, spec in zip(stack, specs, strict=True):  # type: ignore[arg-type]  # a ModuleList
                x = module(x, spec)
        return self.tail(x)

    def blank_network(self, architecture: Architecture) -> NasBench101:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: NasBench101(self.space.spec, self.space.plan(architecture)))


class NasBench101Space(SearchSpace):
    """All graphs of seven vertices as one module in one macro structure.

    Args:
        spec: the macro structure.
        preset: the name `spec` goes by, "" if none.

    >>> NasBench101Space(PRESETS["tiny"], preset="tiny").size == 2**21 * 3**5
    True
    """

    def __init__(self, spec: NasBench101Spec, *, preset: str = "") -> None:
        self.spec = spec
        edges = [Gene(f"edges.{x}-{y}", (0, 1), default=int((x, y) in EXAMPLE)) for x, y in PAIRS]
        labels = [
            Gene(f"vertices.{v}", CHOICES, default=CHOICES.index(EXAMPLE_LABELS[v - 1])) for v in range(1, OUTPUT)
        ]
        super().__init__([*edges, *labels], name="nas_bench_101", preset=preset, options=dataclasses.asdict(spec))

    def __reduce__(self) -> tuple[Callable[..., NasBench101Space], tuple[NasBench101Spec, str]]:
        """Travel to other processes as the spec alone: compiled tables are rebuilt there."""
        return _restore, (self.spec, self.preset)

    # --- populations ----------------------------------------------------------------------------------------------

    def valid(self, genomes: Population) -> NDArray[np.bool_]:
        """[B] whether the genome is a module of the benchmark: a path from input to output, at most nine edges.

        Edges that no path uses are not counted.
        """
        codes = prune(_codes(genomes), VERTICES)
        return (codes != 0) & (count_edges(codes) <= MAX_EDGES)

    def all_modules(self) -> Population:
        """[423624, 26] every module of the benchmark once, as the graph that stands for its isomorphism class."""
        codes, labels = _all_modules()
        return _genomes(codes, labels)

    def sample(self, n: int, rng: np.random.Generator) -> Population:
        """[n, 26] uniform over the benchmark's 423,624 modules, each written in one way, with replacement."""
        codes, labels = _all_modules()
        rows = rng.integers(0, len(codes), n)
        return _genomes(codes[rows], labels[rows])

    def mutate(self, genomes: Population, rng: np.random.Generator, rate: float | None = None) -> Population:
        """As in any space, but children of modules of the benchmark are modules of the benchmark.

        A child that is none is made again, up to `RETRIES` times; then its parent changes one operation.
        """
        children = super().mutate(genomes, rng, rate)
        for _ in range(RETRIES):
            wrong = np.flatnonzero(~self.valid(children))
            if not len(wrong):
                return children
            children[wrong] = super().mutate(genomes[wrong], rng, rate)
        wrong = np.flatnonzero(~self.valid(children))
        children[wrong] = genomes[wrong]
        vertex = len(PAIRS) + rng.integers(0, INNER, len(wrong))
        step = rng.integers(1, len(CHOICES), len(wrong))
        children[wrong, vertex] = (children[wrong, vertex] + step) % len(CHOICES)
        return children

    def crossover(self, a: Population, b: Population, rng: np.random.Generator) -> Population:
        """Uniform crossover; a child that is no module of the benchmark is made again, at last it is its parent `a`."""
        children = super().crossover(a, b, rng)
        for _ in range(RETRIES):
            wrong = np.flatnonzero(~self.valid(children))
            if not len(wrong):
                return children
            children[wrong] = super().crossover(a[wrong], b[wrong], rng)
        wrong = ~self.valid(children)
        children[wrong] = a[wrong]
        return children

    # --- keys -----------------------------------------------------------------------------------------------------

    def modules(self, genomes: Population) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        """[B] graphs and [B, 5] labels of the modules that are built: pruned, first of their isomorphism class."""
        codes = prune(_codes(genomes), VERTICES)
        codes[codes == 0] = DIRECT
        return canonical_dags(codes, genomes[:, len(PAIRS) :], VERTICES, len(CHOICES))

    def key_form(self, genomes: Population) -> Population:
        """[B, 7] the graph, as two digits to the base 2**14, and the labels of the module that is built."""
        codes, labels = self.modules(genomes)
        return np.column_stack([codes >> 14, codes & 0x3FFF, labels]).astype(np.int16)

    def topology_keys(self, genomes: Population) -> NDArray[np.uint64]:
        """[B, 2] digests by the benchmark's rule, isomorphism of pruned modules: its modules fall into 423,624."""
        return digest_rows(self.key_form(self.check(genomes)), "nas_bench_101.topology")

    # --- from an architecture to layers ---------------------------------------------------------------------------

    def from_matrix(self, matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> Architecture:
        """The architecture of a module as the benchmark writes it.

        Args:
            matrix: upper triangular adjacency of at most seven vertices, the first the input, the last the output.
            operations: one of `CHOICES` for each inner vertex.
        """
        vertices = len(matrix)
        if not 2 <= vertices <= VERTICES or len(operations) != vertices - 2:
            raise SpaceError(
                f"nas_bench_101: got {vertices} vertices and {len(operations)} operations; allowed: 2 to {VERTICES} "
                "vertices, and one operation for each but the first and the last."
            )
        place = [*range(vertices - 1), OUTPUT]
        present = {(place[x], place[y]) for x in range(vertices) for y in range(vertices) if matrix[x][y]}
        if stray := sorted(present - set(PAIRS)):
            raise SpaceError(f"nas_bench_101: edges {stray} lead backwards; only those to later vertices are allowed.")
        choices = {f"edges.{x}-{y}": int((x, y) in present) for x, y in PAIRS}
        labels = {f"vertices.{v}": operations[v - 1] if v <= len(operations) else CHOICES[0] for v in range(1, OUTPUT)}
        return self.architecture(choices | labels)

    def plan(self, architecture: Architecture) -> tuple[tuple[ModuleSpec, ...], ...]:
        """The modules of every stack."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        codes, labels = self.modules(np.array([architecture.genome], dtype=np.int16))
        chosen = tuple(int(label) for label in labels[0])
        stacks: list[list[ModuleSpec]] = [[] for _ in range(self.spec.stacks)]
        for stack, _, read, written, _ in self.spec.modules_of():
            stacks[stack].append(ModuleSpec(in_channels=read, out_channels=written, code=int(codes[0]), labels=chosen))
        return tuple(tuple(stack) for stack in stacks)

    # --- costs ----------------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        ops = conv_norm_ops("stem", self._image(), self.spec.stem)
        x = ops[-1].output
        for index, stack in enumerate(self.plan(architecture)):
            if index:
                ops += (make_op(f"pools.{index - 1}", "max_pool2d", x, kernel=2, stride=2),)
                x = ops[-1].output
            for number, module in enumerate(stack):
                made, x = module_ops(f"stacks.{index}.{number}", x, module)
                ops += made
        return ops + _tail_ops(x, self.spec.classes)

    def macs(self, genomes: Population) -> NDArray[np.int64]:
        """[B] multiply-accumulates per sample."""
        return self._costs(genomes)[0]

    def params(self, genomes: Population) -> NDArray[np.int64]:
        """[B] learned parameters."""
        return self._costs(genomes)[1]

    def _costs(self, genomes: Population) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[B] MACs and parameters; channels couple all vertices, so that no table over few genes holds them."""
        codes, labels = self.modules(genomes)
        window = np.array([9, 1, 0])[labels] * used_vertices(codes, VERTICES)[:, 1:-1]
        projected = np.stack([has_edge(codes, 0, vertex) for vertex in range(1, VERTICES)], axis=1)
        stem = conv_norm_ops("stem", self._image(), self.spec.stem)
        tail = _tail_ops(Tensor("x", (self.spec.channels << (self.spec.stacks - 1), 1, 1)), self.spec.classes)
        macs = np.full(len(genomes), sum(op.macs for op in (*stem, *tail)))
        params = np.full(len(genomes), sum(op.params for op in (*stem, *tail)))
        widths = {written: vertex_channels(codes, written) for _, _, _, written, _ in self.spec.modules_of()}
        for _, _, read, written, side in self.spec.modules_of():
            inner = widths[written]
            channels = np.column_stack([inner, np.full(len(codes), written)])
            weights = (window * inner**2).sum(axis=1) + read * (projected * channels).sum(axis=1)
            norms = 2 * (((window > 0) * inner).sum(axis=1) + (projected * channels).sum(axis=1))
            macs += side * side * weights
            params += weights + norms
        return macs, params

    def _image(self) -> Tensor:
        return Tensor("image", (self.spec.in_channels, self.spec.resolution, self.spec.resolution))

    # --- networks -------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> NasBench101:
        """A freshly initialised network."""
        network = allocate(lambda: NasBench101(self.spec, self.plan(architecture)))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None) -> NasBench101Supernet:
        """Shared weights of every architecture, freshly initialised."""
        supernet = allocate(lambda: NasBench101Supernet(self))
        initialise(supernet, seed)
        return supernet

    def candidates(self) -> tuple[Candidate, ...]:
        """The operations of a vertex, in every stack as wide as its modules; all vertices have the same."""
        spec = self.spec
        return tuple(
            Candidate(
                place="vertices",
                label=choice,
                choice=True,
                shape=(spec.channels << stack, spec.resolution >> stack, spec.resolution >> stack),
                build=builder(functools.partial(choice_layer, choice, spec.channels << stack)),
                means="work",
                key=(choice, stack),
            )
            for stack in range(spec.stacks)
            for choice in CHOICES
        )

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        return (torch.randn((batch, *self._image().shape), generator=torch.Generator().manual_seed(0)),)


def _codes(genomes: Population) -> NDArray[np.int64]:
    """[B] graphs of genomes [B, 26], not pruned."""
    return (genomes[:, : len(PAIRS)].astype(np.float64) @ (2.0 ** np.arange(len(PAIRS)))).astype(np.int64)


def _genomes(codes: NDArray[np.int64], labels: NDArray[np.int16]) -> Population:
    """[B, 26] genomes of graphs and labels."""
    return np.hstack([codes[:, None] >> np.arange(len(PAIRS)) & 1, labels]).astype(np.int16)


@functools.cache
def _all_modules() -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Graphs and labels of all modules of the benchmark, each once: made in about a second."""
    pruned = np.unique(np.concatenate([prune(codes, VERTICES) for codes in all_codes(VERTICES)]))
    pruned = pruned[(pruned != 0) & (count_edges(pruned) <= MAX_EDGES)]
    # A class is represented by its first graph whatever the labels, so the others need not be labelled.
    graphs = np.unique(canonical_dags(pruned, np.zeros((len(pruned), INNER), np.int16), VERTICES, len(CHOICES))[0])
    kinds = np.stack([grid.ravel() for grid in np.indices((len(CHOICES),) * INNER, dtype=np.int16)], axis=1)
    spare = ~used_vertices(graphs, VERTICES)[:, 1:-1]
    graph, kind = np.nonzero(~((kinds[None] != 0) & spare[:, None]).any(axis=2))
    codes, labels = canonical_dags(graphs[graph], kinds[kind], VERTICES, len(CHOICES))
    rows = np.unique(np.column_stack([codes, labels]), axis=0)
    return rows[:, 0].astype(np.int64), rows[:, 1:].astype(np.int16)


def _tail_ops(x: Tensor, classes: int) -> tuple[Op, ...]:
    pool = make_op("tail.pool", "global_avg_pool", x)
    return pool, make_op("tail.classifier", "linear", pool.output, out_features=classes)


def _restore(spec: NasBench101Spec, preset: str) -> NasBench101Space:
    return NasBench101Space(spec, preset=preset)
