"""The networks of the DARTS family: what each choice means at each place, cells, stems, and their cost twins.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055 and https://github.com/quark0/darts; Hundt
et al., sharpDARTS, https://arxiv.org/abs/1903.09900 and https://github.com/ahundt/sharpDARTS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, cast

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..elastic.mixed_cell import MixedEdges, mix_cell
from ..layers.cell import Edge, SumCell
from ..layers.cell_ops import (
    CandidateSpec,
    FactorizedReduceSpec,
    PoolSpec,
    ReluConvNormSpec,
    SeparableSpec,
    candidate_ops,
    make_candidate,
)
from ..layers.classifier import Classifier, ClassifierSpec
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..op import Op, Tensor

__all__ = [
    "CANDIDATES",
    "CHOICES",
    "INPUTS",
    "KINDS",
    "NODES",
    "SHARP_CHOICES",
    "Darts",
    "DartsSpec",
    "Kind",
    "Place",
    "candidate",
    "run",
    "stem_ops",
]

Kind = Literal["normal", "reduction"]
KINDS: Final[tuple[Kind, Kind]] = ("normal", "reduction")

INPUTS: Final = 2
"""Nodes that are outputs of the two cells before."""

NODES: Final = 4
"""Nodes of a cell's own; its output is their concatenation."""

CHOICES: Final = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
"""The operations of DARTS; `none` is an edge that is not there."""

SHARP_CHOICES: Final = (
    "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3", "flood_conv_3x3", "dil_flood_conv_3x3",
    "choke_conv_3x3", "dil_choke_conv_3x3",
)  # fmt: skip
"""The operations of sharpDARTS."""

CANDIDATES: Final = MappingProxyType({
    "sep_conv_3x3": (3, 1), "sep_conv_5x5": (5, 1), "dil_conv_3x3": (3, 2), "dil_conv_5x5": (5, 2),
    "flood_conv_3x3": (3, 1), "dil_flood_conv_3x3": (3, 2), "choke_conv_3x3": (3, 1), "dil_choke_conv_3x3": (3, 2),
})  # fmt: skip
"""Kernel and dilation of the separable convolutions."""

_FLOOD: Final = 4
_CHOKE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DartsSpec:
    """The network around the cells, and what may stand on their edges.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        channels: of the first cells; the two reductions double them.
        layers: cells; those at one and two thirds are reductions.
        choices: operations that edges choose from.
        stem: one 3x3 convolution, or three of stride 2.
        sharp: dilated convolutions have sharpDARTS' second half.
        affine: whether norms inside cells have weights; the search networks' have none.
        pool_norm: whether a norm follows each pooling, as in the search networks.
    """

    in_channels: int = 3
    resolution: int = 32
    classes: int = 10
    channels: int = 16
    layers: int = 8
    choices: tuple[str, ...] = CHOICES
    stem: Literal["small", "large"] = "small"
    sharp: bool = False
    affine: bool = True
    pool_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("in_channels", "resolution", "classes", "channels", "layers"):
            value, least = getattr(self, name), 3 if name == "layers" else 1
            if not isinstance(value, int) or value < least:
                raise SpaceError(f"darts: {name} is {value!r}; it must be an integer of at least {least}.")
        if unknown := sorted(set(self.choices) - {*CHOICES, *SHARP_CHOICES}):
            raise SpaceError(f"darts: choices {unknown} are unknown; allowed: {sorted({*CHOICES, *SHARP_CHOICES})}.")
        stride = 32 if self.stem == "large" else 4
        if self.resolution % stride or self.channels % 2:
            raise SpaceError(
                f"darts: resolution {self.resolution} and channels {self.channels}; the resolution must be a multiple "
                f"of the total stride {stride}, the channels even."
            )

    @property
    def stem_convs(self) -> tuple[ConvNormSpec, ...]:
        """The convolutions in front of the first cell; of the large stem, all but the last."""
        if self.stem == "small":
            return (ConvNormSpec(in_channels=self.in_channels, out_channels=3 * self.channels, kernel=3),)
        half = self.channels // 2
        return (
            ConvNormSpec(in_channels=self.in_channels, out_channels=half, kernel=3, stride=2, activation="relu"),
            ConvNormSpec(in_channels=half, out_channels=self.channels, kernel=3, stride=2),
        )

    @property
    def stem_last(self) -> ReluConvNormSpec | None:
        """The large stem's third convolution, whose input the first cell also reads."""
        if self.stem == "small":
            return None
        return ReluConvNormSpec(in_channels=self.channels, out_channels=self.channels, kernel=3, stride=2)

    def places(self) -> tuple[Place, ...]:
        """Every cell, in execution order."""
        large = self.stem == "large"
        before, last = (stem := self.stem_convs[-1].out_channels), stem
        channels, side, shrunk = self.channels, self.resolution // (8 if large else 1), large
        found = []
        for index in range(self.layers):
            reduces = index in (self.layers // 3, 2 * self.layers // 3)
            channels *= 2 if reduces else 1
            found.append(
                Place(
                    index=index, kind=KINDS[reduces], channels=channels, sources=(before, last), shrunk=shrunk,
                    side=side, spec=self,
                )
            )  # fmt: skip
            before, last = last, NODES * channels
            side //= 2 if reduces else 1
            shrunk = reduces
        return tuple(found)

    @property
    def head(self) -> ClassifierSpec:
        """Global average and classifier."""
        return ClassifierSpec(in_channels=NODES * self.places()[-1].channels, classes=self.classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One cell of the network, apart from what is chosen for it.

    Attributes:
        index: its number.
        kind: which of the two cells stands here.
        channels: of each of its nodes.
        sources: channels of the two outputs it reads.
        shrunk: the cell before was a reduction, so that the older output is twice as large.
        side: of the image its nodes read from, before any reduction of its own.
        spec: the network.
    """

    index: int
    kind: Kind
    channels: int
    sources: tuple[int, int]
    shrunk: bool
    side: int
    spec: DartsSpec

    @property
    def name(self) -> str:
        """Module path."""
        return f"cells.{self.index}"

    @property
    def stride(self) -> int:
        """Of the edges that read the cell's inputs."""
        return 2 if self.kind == "reduction" else 1

    @property
    def preparations(self) -> tuple[CandidateSpec, CandidateSpec]:
        """What brings the two inputs to the cell's channels and size."""
        older, newer = self.sources
        newest = ReluConvNormSpec(in_channels=newer, out_channels=self.channels, affine=self.spec.affine)
        if self.shrunk:
            return FactorizedReduceSpec(in_channels=older, out_channels=self.channels, affine=self.spec.affine), newest
        return ReluConvNormSpec(in_channels=older, out_channels=self.channels, affine=self.spec.affine), newest

    def edge(self, source: int, target: int, choice: str, partial: int = 1) -> Edge:
        """An operation of this cell, on one of `partial` parts of its channels."""
        stride = self.stride if source < INPUTS else 1
        return Edge(source, target, choice, candidate(choice, self.channels // partial, stride, self.spec))

    def every_edge(self, partial: int = 1) -> tuple[Edge, ...]:
        """All candidates of all edges, on one of `partial` parts of their channels."""
        return tuple(
            self.edge(source, target, choice, partial)
            for target in range(INPUTS, INPUTS + NODES)
            for source in range(target)
            for choice in self.spec.choices
        )


def candidate(choice: str, channels: int, stride: int, spec: DartsSpec) -> CandidateSpec:
    """What a choice means for this many channels at this stride."""
    if choice == "skip_connect":
        return (
            None
            if stride == 1
            else FactorizedReduceSpec(in_channels=channels, out_channels=channels, affine=spec.affine)
        )
    if choice not in CANDIDATES:
        return PoolSpec(
            kind="max" if choice == "max_pool_3x3" else "avg", channels=channels, stride=stride, norm=spec.pool_norm
        )
    kernel, dilation = CANDIDATES[choice]
    middle = _FLOOD * channels if "flood" in choice else _CHOKE if "choke" in choice else channels
    single = choice.startswith("dil_conv") and not spec.sharp
    return SeparableSpec(
        widths=(channels, channels) if single else (channels, middle, channels),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        affine=spec.affine,
    )


class _Cell(SumCell):
    """`prepare` and the edges; the output is the concatenation of the nodes."""

    def __init__(self, place: Place, edges: Sequence[Edge]) -> None:
        super().__init__(edges)
        self.prepare = nn.ModuleList(make_candidate(spec) for spec in place.preparations)
        self.stride = place.stride

    def forward(self, older: TorchTensor, newer: TorchTensor, edges: Sequence[Edge] | MixedEdges) -> TorchTensor:
        """[N, C0, H, W] and [N, C1, H', W'] -> [N, 4 C, H'', W'']; a node that no edge reaches is zero."""
        inputs = [prepare(x) for prepare, x in zip(self.prepare, (older, newer), strict=True)]
        nodes = mix_cell(self, inputs, edges) if isinstance(edges, MixedEdges) else self.walk(inputs, edges)
        return torch.cat([self._node(nodes, INPUTS + node) for node in range(NODES)], dim=1)

    def _node(self, nodes: Mapping[int, TorchTensor], node: int) -> TorchTensor:
        return nodes[node] if node in nodes else nodes[0][:, :, :: self.stride, :: self.stride] * 0.0


class Darts(nn.Module):
    """`stem`, with the large stem `stem_last`, ``cells.<index>`` and `head`.

    Args:
        spec: the network around the cells.
        edges: for every cell, the candidates it holds.
    """

    def __init__(self, spec: DartsSpec, edges: Sequence[Sequence[Edge]]) -> None:
        super().__init__()
        self.edges = tuple(edges)
        self.stem = nn.Sequential(*(ConvNorm(conv) for conv in spec.stem_convs))
        self.stem_last = make_candidate(spec.stem_last) if spec.stem_last else None
        self.cells = nn.ModuleList(_Cell(place, held) for place, held in zip(spec.places(), edges, strict=True))
        self.head = Classifier(spec.head)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        return run(self, x, self.edges)


def run(network: nn.Module, x: TorchTensor, edges: Sequence[Sequence[Edge] | MixedEdges]) -> TorchTensor:
    """The logits of a network with the modules of `Darts` when only `edges` run, by cell."""
    network = cast(Darts, network)
    older = newer = network.stem(x)
    if network.stem_last is not None:
        newer = network.stem_last(older)
    for cell, chosen in zip(network.cells, edges, strict=True):
        older, newer = newer, cell(older, newer, chosen)
    return network.head(newer)


def stem_ops(spec: DartsSpec, image: Tensor) -> tuple[tuple[Op, ...], Tensor, Tensor]:
    """The Ops of the stem, and the two tensors that the first cell reads."""
    ops: tuple[Op, ...] = ()
    older = image
    for index, conv in enumerate(spec.stem_convs):
        ops += conv_norm_ops(f"stem.{index}", older, conv)
        older = ops[-1].output
    if spec.stem_last is None:
        return ops, older, older
    last = candidate_ops("stem_last", older, spec.stem_last)
    return ops + last, older, last[-1].output
