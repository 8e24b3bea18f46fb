"""Hierarchical search: primitives on the edges of small motifs, those on the edges of one cell.

The genes of a motif are shared by all edges that hold it; weights are not: each place has its own. So genomes that name
their motifs differently, or hold unused ones, are the same computation, and the key is the expanded cell.

Source: Liu et al., Hierarchical Representations for Efficient Architecture Search, ICLR 2018,
https://arxiv.org/abs/1711.00436.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
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
from ..elastic.choice import share_norms
from ..elastic.supernet import Supernet
from ..gene import Gene, Population
from ..layers.cell_ops import SeparableSpec, Zero, candidate_ops, make_candidate
from ..layers.classifier import Classifier, ClassifierSpec, classifier_ops
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..layers.materialise import allocate, builder, initialise
from ..op import Op, Tensor
from ..space import SearchSpace
from .hierarchical_motifs import (
    CELL_PAIRS,
    MOTIF_PAIRS,
    PRIMITIVES,
    Cell,
    Content,
    SharedCell,
    cell_ops,
    content_number,
    make_primitive,
    representatives,
)

__all__ = ["PRESETS", "Hierarchical", "HierarchicalSpace", "HierarchicalSpec", "HierarchicalSupernet"]

Contents = tuple[Content | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HierarchicalSpec:
    """The network around the cell, and how many motifs it may use.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image; every stage halves it.
        classes: logits.
        channels: of the first stage; each further one doubles them.
        stages: how many.
        cells: in each stage.
        motifs: level-2 motifs.
    """

    in_channels: int = 3
    resolution: int = 32
    classes: int = 10
    channels: int = 64
    stages: int = 3
    cells: int = 2
    motifs: int = 6

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"hierarchical: {field.name} is {value!r}; it must be an integer of at least 1.")
        if self.resolution < 1 << self.stages:
            raise SpaceError(
                f"hierarchical: resolution {self.resolution} is too small for a total stride of {1 << self.stages}."
            )

    @property
    def stem(self) -> ConvNormSpec:
        """The first convolution."""
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.channels, kernel=3, activation="relu")

    def places(self) -> Iterator[tuple[int, int, SeparableSpec]]:
        """(channels, side) of every cell, and the separable convolution after it; the last of a stage strides."""
        side = self.resolution
        for stage in range(self.stages):
            for cell in range(self.cells):
                channels, last = self.channels << stage, cell == self.cells - 1
                widths = (channels, 2 * channels if last else channels)
                yield channels, side, SeparableSpec(widths=widths, stride=2 if last else 1, activation="after")
            side = -(-side // 2)

    @property
    def head(self) -> ClassifierSpec:
        """Global average and classifier."""
        return ClassifierSpec(in_channels=self.channels << self.stages, classes=self.classes)


PRESETS: Final[Mapping[str, HierarchicalSpec]] = MappingProxyType({
    "cifar10": HierarchicalSpec(),
    "digits": HierarchicalSpec(in_channels=1, resolution=11, channels=8, stages=2, cells=1, motifs=3),
    "tiny": HierarchicalSpec(in_channels=1, resolution=6, channels=2, stages=2, cells=1, motifs=2),
})  # fmt: skip
"""The family's presets, by name: the published one, and two for small grey images."""


class Hierarchical(nn.Module):
    """`stem`, then ``cells.<index>`` each followed by ``links.<index>``, then `head`."""

    def __init__(self, spec: HierarchicalSpec, contents: Contents) -> None:
        super().__init__()
        places = list(spec.places())
        self.stem = ConvNorm(spec.stem)
        self.cells = nn.ModuleList(Cell(contents, channels) for channels, _, _ in places)
        self.links = nn.ModuleList(make_candidate(link) for _, _, link in places)
        self.head = Classifier(spec.head)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        x = self.stem(x)
        for cell, link in zip(self.cells, self.links, strict=True):
            x = link(cell(x))
        return self.head(x)


class HierarchicalSupernet(Supernet):
    """Every primitive of every edge of every motif's place, each with its own weights."""

    def __init__(self, space: HierarchicalSpace) -> None:
        super().__init__()
        self.space = space
        places = list(space.spec.places())
        self.stem = share_norms(ConvNorm(space.spec.stem))
        self.cells = nn.ModuleList(SharedCell(channels) for channels, _, _ in places)
        self.links = share_norms(nn.ModuleList(make_candidate(link) for _, _, link in places))
        self.head = Classifier(space.spec.head)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        contents = self.space.plan(architecture)
        x = self.stem(x)
        for cell, link in zip(self.cells, self.links, strict=True):
            x = link(cell(x, contents))
        return self.head(x)

    def blank_network(self, architecture: Architecture) -> Hierarchical:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: Hierarchical(self.space.spec, self.space.plan(architecture)))


class HierarchicalSpace(SearchSpace):
    """All cells of motifs in one network.

    Args:
        spec: the network around the cell.
        preset: the name `spec` goes by, "" if none.

    >>> HierarchicalSpace(PRESETS["cifar10"]).size == (6**3 * 7**3) ** 6 * 6**4 * 7**6
    True
    """

    def __init__(self, spec: HierarchicalSpec, *, preset: str = "") -> None:
        self.spec = spec
        super().__init__(tuple(_genes(spec)), name="hierarchical", preset=preset, options=dataclasses.asdict(spec))
        self._first = [gene.values[0] != "none" for gene in self.genes]

    def __reduce__(self) -> tuple[Callable[..., HierarchicalSpace], tuple[HierarchicalSpec, str]]:
        """Travel to other processes as the spec alone: compiled tables are rebuilt there."""
        return _restore, (self.spec, self.preset)

    # --- expansion ------------------------------------------------------------------------------------------------

    def expand(self, genomes: Population) -> NDArray[np.int16]:
        """[B, 10, 6] content of the motif on every edge of the cell, as written; all 0 where there is no edge."""
        numbered = genomes + np.array(self._first, dtype=np.int16)  # 0 is "none" for every gene
        motifs = numbered[:, : self.spec.motifs * len(MOTIF_PAIRS)]
        contents = motifs.reshape(len(genomes), self.spec.motifs, len(MOTIF_PAIRS))
        held = numbered[:, self.spec.motifs * len(MOTIF_PAIRS) :].astype(np.intp)
        found = contents[np.arange(len(genomes))[:, None], np.maximum(held - 1, 0)]
        return np.where(held[:, :, None] > 0, found, 0).astype(np.int16)

    def key_form(self, genomes: Population) -> Population:
        """[B, 60] the expanded cell, each motif as the one that stands for all that compute the same."""
        return representatives()[content_number(self.expand(genomes))].reshape(len(genomes), -1)

    def plan(self, architecture: Architecture) -> Contents:
        """The content of every edge of the cell, None where there is none."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        form = self.key_form(np.array([architecture.genome], dtype=np.int16)).reshape(len(CELL_PAIRS), -1)
        return tuple(tuple(content) if any(content) else None for content in form.tolist())

    # --- costs ----------------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        contents = self.plan(architecture)
        ops = conv_norm_ops("stem", self._image(), self.spec.stem)
        for index, (_, _, link) in enumerate(self.spec.places()):
            ops += cell_ops(f"cells.{index}", ops[-1].output, contents)
            ops += candidate_ops(f"links.{index}", ops[-1].output, link)
        return ops + classifier_ops("head", ops[-1].output, self.spec.head)

    def macs(self, genomes: Population) -> NDArray[np.int64]:
        """[B] multiply-accumulates per sample."""
        return self._costs(genomes)[0]

    def params(self, genomes: Population) -> NDArray[np.int64]:
        """[B] learned parameters."""
        return self._costs(genomes)[1]

    def _costs(self, genomes: Population) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[B] MACs and parameters; any edge may hold any motif, so that no table over few genes holds them."""
        form = self.key_form(genomes).reshape(len(genomes), len(CELL_PAIRS), len(MOTIF_PAIRS))
        held = np.asarray(form.any(axis=2))
        merged = [
            _merged(held, CELL_PAIRS),
            *(_merged(form[:, edge] > 0, MOTIF_PAIRS) for edge in range(len(CELL_PAIRS))),
        ]
        inputs, nodes = np.sum(merged, axis=0)  # over all nodes that merge: their inputs, and how many they are
        pointwise, depthwise, separable = ((form == number).sum(axis=(1, 2)) for number in (1, 2, 3))
        squares = pointwise + separable + held.sum(axis=1) + inputs  # C x C matrices
        windows = depthwise + separable  # 3 x 3 filters of C channels
        norms = pointwise + depthwise + separable + held.sum(axis=1) + nodes
        macs, params = (np.full(len(genomes), total) for total in self._fixed_costs())
        for channels, side, _ in self.spec.places():
            weights = squares * channels**2 + windows * 9 * channels
            macs += weights * side * side
            params += weights + norms * 2 * channels
        return macs, params

    def _fixed_costs(self) -> tuple[int, int]:
        """MACs and parameters of all that is not in a cell."""
        ops = conv_norm_ops("stem", self._image(), self.spec.stem)
        for index, (channels, side, link) in enumerate(self.spec.places()):
            ops += candidate_ops(f"links.{index}", Tensor("x", (channels, side, side)), link)
        ops += classifier_ops("head", ops[-1].output, self.spec.head)
        return sum(op.macs for op in ops), sum(op.params for op in ops)

    def _image(self) -> Tensor:
        return Tensor("image", (self.spec.in_channels, self.spec.resolution, self.spec.resolution))

    # --- networks -------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> Hierarchical:
        """A freshly initialised network."""
        network = allocate(lambda: Hierarchical(self.spec, self.plan(architecture)))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None) -> HierarchicalSupernet:
        """Shared weights of every architecture, freshly initialised."""
        supernet = allocate(lambda: HierarchicalSupernet(self))
        initialise(supernet, seed)
        return supernet

    def candidates(self) -> tuple[Candidate, ...]:
        """What may stand on a motif's edge, in every cell; all edges of all motifs have the same."""
        return tuple(
            Candidate(
                place="motifs",
                label=choice,
                choice=True,
                shape=(channels, side, side),
                build=builder(Zero if choice == "none" else functools.partial(make_primitive, choice, channels)),
                means="nothing" if choice == "none" else "identity" if choice == "identity" else "work",
                key=(choice, *((channels, side) if choice != "none" else ())),
            )
            for channels, side, _ in self.spec.places()
            for choice in ("none", *PRIMITIVES)
        )

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        return (torch.randn((batch, *self._image().shape), generator=torch.Generator().manual_seed(0)),)


def _merged(present: NDArray[np.bool_], pairs: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """[B, edges] which edges exist -> [2, B] inputs of the nodes that merge several, and how many such nodes."""
    counts = np.stack(
        [present[:, [end == node for _, end in pairs]].sum(axis=1) for node in range(1, pairs[-1][1] + 1)], axis=1
    )
    several = counts > 1
    return np.stack([(counts * several).sum(axis=1), several.sum(axis=1)])


def _genes(spec: HierarchicalSpec) -> Iterator[Gene]:
    """The edges of every motif, then those of the cell; consecutive nodes are always connected."""
    for motif in range(spec.motifs):
        for source, target in MOTIF_PAIRS:
            none = () if target == source + 1 else ("none",)
            choices = (*none, *PRIMITIVES)
            yield Gene(f"motifs.{motif}.{source}-{target}", choices, default=choices.index("separable_3x3"))
    for source, target in CELL_PAIRS:
        none = () if target == source + 1 else ("none",)
        yield Gene(f"cell.{source}-{target}", (*none, *(f"motif{motif}" for motif in range(spec.motifs))))


def _restore(spec: HierarchicalSpec, preset: str) -> HierarchicalSpace:
    return HierarchicalSpace(spec, preset=preset)
