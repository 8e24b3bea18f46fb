"""The module of NAS-Bench-101: a labelled graph of at most seven vertices between an input and an output.

Channels follow from the graph: those of the output are split among the vertices that feed it, the remainder going to
the first, and every other vertex has as many as the largest vertex it feeds. Tensors from the input are projected,
sums cut the one channel that an uneven split leaves over.

Notation: B modules, V = 7 vertices (0 input, 6 output), I = 5 inner ones.

Source: Ying et al., NAS-Bench-101, ICML 2019, https://arxiv.org/abs/1902.09635;
https://github.com/google-research/nasbench (`lib/model_builder.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ..elastic.blocks import ElasticConvNorm
from ..graph import edge_pairs, has_edge, predecessors
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..op import Op, Tensor, make_op

__all__ = [
    "CHOICES",
    "PAIRS",
    "VERTICES",
    "Module",
    "ModuleSpec",
    "SharedModule",
    "choice_layer",
    "module_ops",
    "vertex_channels",
]

VERTICES: Final = 7
OUTPUT: Final = VERTICES - 1
INNER: Final = VERTICES - 2

PAIRS: Final = edge_pairs(VERTICES)
"""(source, target) of every edge, in the order of the genes."""

CHOICES: Final = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""Operations of an inner vertex, in the order in which the benchmark lists them."""

_KERNELS: Final = (3, 1, 0)


def vertex_channels(codes: NDArray[np.int64], out_channels: int) -> NDArray[np.int64]:
    """[B, I] channels of the inner vertices of pruned graphs, 0 for unused ones."""
    channels = np.zeros((len(codes), INNER), dtype=np.int64)
    fed = predecessors(codes, OUTPUT) >> 1
    feeds = (fed[:, None] >> np.arange(INNER) & 1).astype(np.bool_)
    share, extra = np.divmod(out_channels, np.maximum(feeds.sum(axis=1), 1))
    first = feeds.cumsum(axis=1) <= extra[:, None]
    for vertex in range(INNER, 0, -1):
        onward = np.zeros(len(codes), dtype=np.int64)
        for target in range(vertex + 1, OUTPUT):
            onward = np.maximum(onward, np.where(has_edge(codes, vertex, target), channels[:, target - 1], 0))
        channels[:, vertex - 1] = np.where(feeds[:, vertex - 1], share + first[:, vertex - 1], onward)
    return channels


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSpec:
    """One module.

    Attributes:
        in_channels: channels read.
        out_channels: channels written.
        code: its pruned graph, as in `graph`.
        labels: choice index of every inner vertex; those of unused ones do not matter.
    """

    in_channels: int
    out_channels: int
    code: int
    labels: tuple[int, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels by vertex, input and output included, 0 for unused ones."""
        inner = vertex_channels(np.array([self.code], dtype=np.int64), self.out_channels)[0]
        return (self.in_channels, *(int(count) for count in inner), self.out_channels)

    def sources(self, vertex: int) -> tuple[int, ...]:
        """Vertices with an edge to `vertex`, ascending."""
        bits = int(predecessors(np.array([self.code], dtype=np.int64), vertex)[0])
        return tuple(source for source in range(vertex) if bits >> source & 1)

    @property
    def used(self) -> tuple[int, ...]:
        """Inner vertices that have edges, ascending."""
        return tuple(vertex for vertex in range(1, OUTPUT) if self.channels[vertex])

    def projection(self, vertex: int) -> ConvNormSpec:
        """The 1x1 convolution on an edge from the input."""
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.channels[vertex], activation="relu")

    def convolution(self, vertex: int) -> ConvNormSpec | None:
        """The convolution of an inner vertex, None for the pooling."""
        count, kernel = self.channels[vertex], _KERNELS[self.labels[vertex - 1]]
        if not kernel:
            return None
        return ConvNormSpec(in_channels=count, out_channels=count, kernel=kernel, activation="relu")


def choice_layer(choice: str, channels: int) -> nn.Module:
    """An operation on all channels of a vertex."""
    kernel = _KERNELS[CHOICES.index(choice)]
    if not kernel:
        return nn.MaxPool2d(3, stride=1, padding=1)
    return ConvNorm(ConvNormSpec(in_channels=channels, out_channels=channels, kernel=kernel, activation="relu"))


class Module(nn.Module):
    """``vertices.<vertex>.<choice>`` and, on edges from the input, ``projections.<vertex>``."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__()
        self.spec = spec
        self.projections = nn.ModuleDict(
            {str(v): ConvNorm(spec.projection(v)) for v in (*spec.used, OUTPUT) if 0 in spec.sources(v)}
        )
        self.vertices = nn.ModuleDict()
        for vertex in spec.used:
            choice = CHOICES[spec.labels[vertex - 1]]
            self.vertices[str(vertex)] = nn.ModuleDict({choice: choice_layer(choice, spec.channels[vertex])})

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, H, W]."""
        return _run(self, x, self.spec)

    def project(self, x: TorchTensor, vertex: int, _spec: ModuleSpec) -> TorchTensor:
        """The input as `vertex` reads it."""
        return self.projections[str(vertex)](x)

    def operate(self, x: TorchTensor, vertex: int, spec: ModuleSpec) -> TorchTensor:
        """What `vertex` makes of its sum."""
        return self.vertices[str(vertex)][CHOICES[spec.labels[vertex - 1]]](x)  # type: ignore[index]  # a ModuleDict


class SharedModule(nn.Module):
    """`Module` with shared weights: every choice of every vertex, as wide as the output."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()

        def shared(source: int, kernel: int) -> ElasticConvNorm:
            spec = ConvNormSpec(in_channels=source, out_channels=out_channels, kernel=kernel, activation="relu")
            return ElasticConvNorm(spec)

        self.projections = nn.ModuleDict({str(v): shared(in_channels, 1) for v in range(1, VERTICES)})
        self.vertices = nn.ModuleDict()
        for vertex in range(1, OUTPUT):
            layers = {
                choice: shared(out_channels, kernel) if kernel else nn.MaxPool2d(3, stride=1, padding=1)
                for choice, kernel in zip(CHOICES, _KERNELS, strict=True)
            }
            self.vertices[str(vertex)] = nn.ModuleDict(layers)

    def forward(self, x: TorchTensor, spec: ModuleSpec) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, H, W]."""
        return _run(self, x, spec)

    def project(self, x: TorchTensor, vertex: int, spec: ModuleSpec) -> TorchTensor:
        """The input as `vertex` reads it."""
        return self.projections[str(vertex)](x, spec.projection(vertex))

    def operate(self, x: TorchTensor, vertex: int, spec: ModuleSpec) -> TorchTensor:
        """What `vertex` makes of its sum."""
        layer = self.vertices[str(vertex)][CHOICES[spec.labels[vertex - 1]]]  # type: ignore[index]  # a ModuleDict
        conv = spec.convolution(vertex)
        return layer(x) if conv is None else layer(x, conv)


def _run(module: Module | SharedModule, x: TorchTensor, spec: ModuleSpec) -> TorchTensor:
    """[N, in_channels, H, W] -> [N, out_channels, H, W]."""
    channels, done = spec.channels, {0: x}
    for vertex in spec.used:
        terms = [done[source][:, : channels[vertex]] for source in spec.sources(vertex) if source]
        if 0 in spec.sources(vertex):
            terms.append(module.project(x, vertex, spec))
        done[vertex] = module.operate(_sum(terms), vertex, spec)
    joined = [done[source] for source in spec.sources(OUTPUT) if source]
    terms = [torch.cat(joined, dim=1)] if joined else []
    if 0 in spec.sources(OUTPUT):
        terms.append(module.project(x, OUTPUT, spec))
    return _sum(terms)


def _sum(terms: list[TorchTensor]) -> TorchTensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def module_ops(name: str, x: Tensor, spec: ModuleSpec) -> tuple[tuple[Op, ...], Tensor]:
    """The Ops of a module at module path `name` that reads `x` (C, H, W), and the tensor it writes."""
    ops: list[Op] = []
    done = {0: x}

    def emit(made: tuple[Op, ...]) -> Tensor:
        ops.extend(made)
        return made[-1].output

    def total(terms: list[Tensor], vertex: int) -> Tensor:
        if 0 in spec.sources(vertex):
            terms.append(emit(conv_norm_ops(f"{name}.projections.{vertex}", x, spec.projection(vertex))))
        value = terms[0]
        for number, term in enumerate(terms[1:]):
            value = emit((make_op(f"{name}.sums.{vertex}.{number}", "add", (value, term)),))
        return value

    def cut(source: int, vertex: int) -> Tensor:
        tensor, count = done[source], spec.channels[vertex]
        if tensor.shape[0] == count:
            return tensor
        return emit((make_op(f"{name}.cuts.{source}-{vertex}", "slice", tensor, start=0, stop=count),))

    for vertex in spec.used:
        value = total([cut(source, vertex) for source in spec.sources(vertex) if source], vertex)
        path, conv = f"{name}.vertices.{vertex}.{CHOICES[spec.labels[vertex - 1]]}", spec.convolution(vertex)
        if conv is None:
            done[vertex] = emit((make_op(path, "max_pool2d", value, kernel=3, stride=1, padding=1),))
        else:
            done[vertex] = emit(conv_norm_ops(path, value, conv))
    joined = tuple(done[source] for source in spec.sources(OUTPUT) if source)
    terms = [emit((make_op(f"{name}.joined", "concat", joined),))] if len(joined) > 1 else list(joined)
    out = total(terms, OUTPUT)
    return tuple(ops), out
