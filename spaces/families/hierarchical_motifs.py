"""Hierarchical motifs: small graphs whose edges hold operations, or smaller graphs; modules and cost twins.

A node with several inputs concatenates them and brings them back to the motif's channels by a 1x1 convolution; a motif
of operations ends with one more. Consecutive nodes are always connected, so nothing is ever dead.

Notation: C channels, a motif's content is one number for each of its six edges: 0 for none, 1 … 6 for a primitive.

Source: Liu et al., Hierarchical Representations for Efficient Architecture Search, ICLR 2018,
https://arxiv.org/abs/1711.00436.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ..digest import mix64
from ..elastic.blocks import ElasticConvNorm
from ..elastic.choice import share_norms
from ..graph import edge_pairs
from ..layers.cell_ops import PoolSpec, SeparableSpec, candidate_ops, make_candidate
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..op import Op, Tensor, make_op

__all__ = [
    "CELL_PAIRS",
    "MOTIF_PAIRS",
    "PRIMITIVES",
    "Cell",
    "Content",
    "SharedCell",
    "cell_ops",
    "content_number",
    "make_primitive",
    "representatives",
]

PRIMITIVES: Final = ("conv_1x1", "depthwise_3x3", "separable_3x3", "max_pool_3x3", "avg_pool_3x3", "identity")
"""The operations of level 1."""

MOTIF_NODES: Final = 4
CELL_NODES: Final = 5
MOTIF_PAIRS: Final = edge_pairs(MOTIF_NODES)
"""(source, target) of the edges of a level-2 motif."""

CELL_PAIRS: Final = edge_pairs(CELL_NODES)
"""(source, target) of the edges of the level-3 motif."""

Content = tuple[int, ...]
_RADIX: Final = (len(PRIMITIVES) + 1) ** np.arange(len(MOTIF_PAIRS) - 1, -1, -1)
_IDENTITY: Final = PRIMITIVES.index("identity") + 1
_FREE: Final = frozenset(PRIMITIVES.index(name) + 1 for name in ("max_pool_3x3", "avg_pool_3x3", "identity"))


def content_number(contents: NDArray[np.integer]) -> NDArray[np.int64]:
    """[..., 6] contents -> [...] row in `representatives`."""
    return contents.astype(np.int64) @ _RADIX


@functools.cache
def representatives() -> NDArray[np.int16]:
    """[117649, 6] for every content, the one that stands for all that compute the same with the same weights.

    They are the same where identities make two nodes equal and a pooling or an identity reads either. The one with the
    fewest edges stands for its class, and among those the first. Rows that leave consecutive nodes apart are no motifs.
    """
    table = np.stack([g.ravel() for g in np.indices((len(PRIMITIVES) + 1,) * len(MOTIF_PAIRS), dtype=np.int16)], 1)
    always = [target == source + 1 for source, target in MOTIF_PAIRS]
    rows = np.flatnonzero((table[:, always] > 0).all(axis=1))
    rows = rows[np.argsort((table[rows] != 0).sum(axis=1), kind="stable")]
    _, first, number = np.unique(_outputs(table[rows]), return_index=True, return_inverse=True)
    table[rows] = table[rows[first]][number]
    return table


def _outputs(contents: NDArray[np.int16]) -> NDArray[np.uint64]:
    """[N] a number for what each content computes."""
    nodes = [np.ones(len(contents), dtype=np.uint64)]
    for target in range(1, MOTIF_NODES):
        value, count = np.zeros(len(contents), dtype=np.uint64), np.zeros(len(contents), dtype=np.int64)
        for edge, (source, end) in enumerate(MOTIF_PAIRS):
            if end != target:
                continue
            term = np.zeros_like(value)
            for primitive in range(1, len(PRIMITIVES) + 1):
                tag = primitive if primitive in _FREE else primitive + len(PRIMITIVES) * (edge + 1)
                made = nodes[source] if primitive == _IDENTITY else mix64(nodes[source], tag)
                term = np.where(contents[:, edge] == primitive, made, term)
            present = contents[:, edge] != 0
            # Concatenation keeps the order of its inputs, and its convolution belongs to the node.
            joined = np.where(count == 0, term, mix64(mix64(value, 1000 + target) ^ term, 2000 + target))
            value = np.where(present, joined, value)
            count += present
        nodes.append(value)
    return nodes[-1]


def _spec(primitive: str, channels: int) -> ConvNormSpec | SeparableSpec | PoolSpec | None:
    match primitive:
        case "conv_1x1":
            return ConvNormSpec(in_channels=channels, out_channels=channels, activation="relu")
        case "depthwise_3x3":
            return ConvNormSpec(
                in_channels=channels, out_channels=channels, kernel=3, depthwise=True, activation="relu"
            )
        case "separable_3x3":
            return SeparableSpec(widths=(channels, channels), activation="after")
        case "max_pool_3x3":
            return PoolSpec(kind="max", channels=channels)
        case "avg_pool_3x3":
            return PoolSpec(kind="avg", channels=channels)
        case _:
            return None


def make_primitive(primitive: str, channels: int) -> nn.Module:
    """The module of an operation of level 1."""
    spec = _spec(primitive, channels)
    return ConvNorm(spec) if isinstance(spec, ConvNormSpec) else make_candidate(spec)


def _merge(inputs: int, channels: int) -> ConvNormSpec:
    """The 1x1 convolution after a concatenation."""
    return ConvNormSpec(in_channels=inputs * channels, out_channels=channels, activation="relu")


def _inputs(pairs: Sequence[tuple[int, int]], present: Sequence[bool], target: int) -> int:
    return sum(there for (_, end), there in zip(pairs, present, strict=True) if end == target)


def _walk(
    x: TorchTensor,
    pairs: Sequence[tuple[int, int]],
    present: Sequence[bool],
    operate: Callable[[int, TorchTensor], TorchTensor],
    merge: Callable[[int, TorchTensor], TorchTensor],
) -> TorchTensor:
    """The last node of a graph: `operate` makes an edge's output, `merge` a node of its concatenated inputs."""
    nodes = [x]
    for target in range(1, pairs[-1][1] + 1):
        terms = [operate(e, nodes[pairs[e][0]]) for e in range(len(pairs)) if present[e] and pairs[e][1] == target]
        nodes.append(terms[0] if len(terms) == 1 else merge(target, torch.cat(terms, dim=1)))
    return nodes[-1]


class _Motif(nn.Module):
    """A level-2 motif of one content: ``edges.<source>-<target>.<primitive>``, ``merges.<node>``, `out`."""

    def __init__(self, content: Content, channels: int) -> None:
        super().__init__()
        self.content = content
        present = [choice > 0 for choice in content]
        self.edges = nn.ModuleDict()
        for (source, target), choice in zip(MOTIF_PAIRS, content, strict=True):
            if choice and choice != _IDENTITY:
                name = PRIMITIVES[choice - 1]
                self.edges[f"{source}-{target}"] = nn.ModuleDict({name: make_primitive(name, channels)})
        self.merges = _merges(MOTIF_PAIRS, present, channels)
        self.out = ConvNorm(_merge(1, channels))

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        return self.out(
            _walk(
                x, MOTIF_PAIRS, [choice > 0 for choice in self.content],
                lambda edge, y: _operate(self.edges, edge, self.content, y),
                lambda node, y: self.merges[str(node)](y),
            )
        )  # fmt: skip


def _operate(edges: nn.ModuleDict, edge: int, content: Content, x: TorchTensor) -> TorchTensor:
    """What the primitive on an edge makes of its input."""
    if content[edge] == _IDENTITY:
        return x
    place = cast(nn.ModuleDict, edges["{}-{}".format(*MOTIF_PAIRS[edge])])
    return place[PRIMITIVES[content[edge] - 1]](x)


def _merges(pairs: Sequence[tuple[int, int]], present: Sequence[bool], channels: int) -> nn.ModuleDict:
    counts = {target: _inputs(pairs, present, target) for target in range(1, pairs[-1][1] + 1)}
    return nn.ModuleDict({str(t): ConvNorm(_merge(count, channels)) for t, count in counts.items() if count > 1})


class _SharedMotif(nn.Module):
    """`_Motif` with shared weights: every primitive of every edge, merges wide enough for all inputs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.edges = nn.ModuleDict(
            {
                f"{source}-{target}": nn.ModuleDict({name: make_primitive(name, channels) for name in PRIMITIVES})
                for source, target in MOTIF_PAIRS
            }
        )
        share_norms(self.edges)
        self.merges = nn.ModuleDict({str(t): ElasticConvNorm(_merge(t, channels)) for t in range(2, MOTIF_NODES)})
        self.out = ElasticConvNorm(_merge(1, channels))

    def forward(self, x: TorchTensor, content: Content) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        y = _walk(
            x, MOTIF_PAIRS, [choice > 0 for choice in content],
            lambda edge, y: _operate(self.edges, edge, content, y),
            lambda node, y: self.merges[str(node)](y, _merge(y.shape[1] // self.channels, self.channels)),
        )  # fmt: skip
        return self.out(y, _merge(1, self.channels))


class Cell(nn.Module):
    """The level-3 motif: ``edges.<source>-<target>`` hold level-2 motifs, ``merges.<node>`` join their outputs.

    Args:
        contents: of every edge, None where there is none.
        channels: C.
    """

    def __init__(self, contents: Sequence[Content | None], channels: int) -> None:
        super().__init__()
        self.present = [content is not None for content in contents]
        pairs = zip(CELL_PAIRS, contents, strict=True)
        self.edges = nn.ModuleDict({"{}-{}".format(*pair): _Motif(c, channels) for pair, c in pairs if c is not None})
        self.merges = _merges(CELL_PAIRS, self.present, channels)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        return _walk(
            x, CELL_PAIRS, self.present,
            lambda edge, y: self.edges["{}-{}".format(*CELL_PAIRS[edge])](y),
            lambda node, y: self.merges[str(node)](y),
        )  # fmt: skip


class SharedCell(nn.Module):
    """`Cell` with shared weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.edges = nn.ModuleDict({"{}-{}".format(*pair): _SharedMotif(channels) for pair in CELL_PAIRS})
        self.merges = nn.ModuleDict({str(t): ElasticConvNorm(_merge(t, channels)) for t in range(2, CELL_NODES)})

    def forward(self, x: TorchTensor, contents: Sequence[Content | None]) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        return _walk(
            x, CELL_PAIRS, [content is not None for content in contents],
            lambda edge, y: self.edges["{}-{}".format(*CELL_PAIRS[edge])](y, contents[edge]),
            lambda node, y: self.merges[str(node)](y, _merge(y.shape[1] // self.channels, self.channels)),
        )  # fmt: skip


def _graph_ops(
    name: str,
    x: Tensor,
    pairs: Sequence[tuple[int, int]],
    operations: Mapping[int, Callable[[Tensor], tuple[Op, ...]]],
) -> tuple[tuple[Op, ...], Tensor]:
    """The Ops of a graph at module path `name`, and its last node; `operations` by edge, for those that exist."""
    ops: tuple[Op, ...] = ()
    nodes = [x]
    for target in range(1, pairs[-1][1] + 1):
        terms = []
        for edge, operate in operations.items():
            if pairs[edge][1] == target:
                made = operate(nodes[pairs[edge][0]])
                terms.append(made[-1].output if made else nodes[pairs[edge][0]])
                ops += made
        if len(terms) > 1:
            joined = make_op(f"{name}.joined.{target}", "concat", tuple(terms))
            merged = conv_norm_ops(f"{name}.merges.{target}", joined.output, _merge(len(terms), x.shape[0]))
            ops += (joined, *merged)
            terms = [ops[-1].output]
        nodes.append(terms[0])
    return ops, nodes[-1]


def _motif_ops(name: str, x: Tensor, content: Content) -> tuple[Op, ...]:
    def primitive(edge: int) -> Callable[[Tensor], tuple[Op, ...]]:
        choice = PRIMITIVES[content[edge] - 1]
        path, spec = "{}.edges.{}-{}.{}".format(name, *MOTIF_PAIRS[edge], choice), _spec(choice, x.shape[0])
        if isinstance(spec, ConvNormSpec):
            return lambda y: conv_norm_ops(path, y, spec)
        return lambda y: candidate_ops(path, y, spec)

    operations = {edge: primitive(edge) for edge, choice in enumerate(content) if choice}
    ops, last = _graph_ops(name, x, MOTIF_PAIRS, operations)
    return ops + conv_norm_ops(f"{name}.out", last, _merge(1, x.shape[0]))


def cell_ops(name: str, x: Tensor, contents: Sequence[Content | None]) -> tuple[Op, ...]:
    """The Ops of a `Cell` at module path `name` that reads `x` (C, H, W)."""

    def motif(edge: int, content: Content) -> Callable[[Tensor], tuple[Op, ...]]:
        return lambda y: _motif_ops("{}.edges.{}-{}".format(name, *CELL_PAIRS[edge]), y, content)

    operations = {edge: motif(edge, content) for edge, content in enumerate(contents) if content is not None}
    return _graph_ops(name, x, CELL_PAIRS, operations)[0]
