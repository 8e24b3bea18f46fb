"""The torch modules of staged families: the standalone network and the supernet, with the same module paths."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor, nn

from ..architecture import Architecture
from ..elastic.blocks import ElasticConvNorm, ElasticHead, ElasticInvertedBottleneck, ElasticMobileAttention
from ..elastic.layers import TransformedConv2d
from ..elastic.mixture import Mixture
from ..elastic.superkernel import Superkernel
from ..elastic.supernet import Supernet
from ..layers.conv_norm import ConvNorm, ConvNormSpec
from ..layers.head import Head, HeadSpec
from ..layers.inverted_bottleneck import InvertedBottleneck
from ..layers.materialise import allocate
from ..layers.mobile_attention import MobileAttention, MobileAttentionSpec
from .mixed_blocks import MixedBlocks, run_block
from .staged_plan import BlockSpec, StagedPlan, kind_of

if TYPE_CHECKING:
    from .staged import StagedSpace
    from .staged_genes import Slot

__all__ = ["LargestPlan", "StagedNetwork", "StagedSupernet", "make_block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestPlan:
    """What a supernet holds: per slot and kind of block, the spec that all choices of that kind fit into."""

    stem: ConvNormSpec
    stages: tuple[tuple[Mapping[str, BlockSpec], ...], ...]
    head: HeadSpec


def make_block(spec: BlockSpec | None) -> nn.Module:
    """The layer of a block; None is the identity."""
    if spec is None:
        return nn.Identity()
    if isinstance(spec, ConvNormSpec):
        return ConvNorm(spec)
    return MobileAttention(spec) if isinstance(spec, MobileAttentionSpec) else InvertedBottleneck(spec)


def _elastic_block(largest: BlockSpec, kernels: tuple[int, ...]) -> nn.Module:
    if isinstance(largest, ConvNormSpec):
        return ElasticConvNorm(largest)
    if isinstance(largest, MobileAttentionSpec):
        return ElasticMobileAttention(largest)
    return ElasticInvertedBottleneck(largest, transformed=kernels)


def _resized(x: Tensor, resolution: int) -> Tensor:
    """[N, C, H, W] -> [N, C, resolution, resolution], bilinear with antialiasing; untouched where it already fits."""
    if x.shape[-2:] == (resolution, resolution):
        return x
    return F.interpolate(x, size=(resolution, resolution), mode="bilinear", antialias=True)


class StagedNetwork(nn.Module):
    """The standalone network of a plan: `stem`, `stages.<stage>.<block>`, `head`.

    Args:
        plan: the specs of its layers.
        branched: by stage and block, whether the space has several kinds of block there; such a block's path ends in
            its kind.
        resizes: whether images of another side than the plan's are resized to it; else any side is taken as it is.
    """

    def __init__(self, plan: StagedPlan, branched: tuple[tuple[bool, ...], ...], *, resizes: bool = False) -> None:
        super().__init__()
        self.resolution = plan.resolution if resizes else None
        self.stem = ConvNorm(plan.stem)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_placed(block, several) for block, several in zip(blocks, places, strict=False)))
            for blocks, places in zip(plan.stages, branched, strict=True)
        )
        self.head = Head(plan.head)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        x = self.stem(x if self.resolution is None else _resized(x, self.resolution))
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def _placed(spec: BlockSpec | None, several: bool) -> nn.Module:
    if spec is None or not several:
        return make_block(spec)
    return nn.Sequential(OrderedDict([(kind_of(spec), make_block(spec))]))


class StagedSupernet(Supernet):
    """The shared weights of a staged space: same module paths as `StagedNetwork`, as large as any choice needs.

    Images are resized to the architecture's resolution where that is a choice.

    Args:
        space: its space.
        transform_kernels: whether smaller depthwise kernels are learned maps of larger ones.
    """

    def __init__(self, space: StagedSpace, *, transform_kernels: bool = False) -> None:
        super().__init__()
        self.space = space
        largest = space.largest_plan()

        def slot(kinds: Mapping[str, BlockSpec], place: Slot) -> nn.Module:
            kernels = space.kernels(place) if transform_kernels else ()
            blocks = {kind: _elastic_block(spec, kernels) for kind, spec in kinds.items()}
            return nn.ModuleDict(blocks) if len(blocks) > 1 else next(iter(blocks.values()))

        self.stem = ElasticConvNorm(largest.stem)
        self.stages = nn.ModuleList(
            nn.ModuleList(slot(kinds, place) for kinds, place in zip(stage, places, strict=True))
            for stage, places in zip(largest.stages, space.layout.slots, strict=True)
        )
        self.head = ElasticHead(largest.head)

    def forward(self, x: Tensor, architecture: Architecture | Mixture) -> Tensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        if isinstance(architecture, Mixture):
            return self._mix(x, architecture)
        plan = self.space.plan(architecture)
        x = self.stem(_resized(x, plan.resolution) if self.space.resizes else x, plan.stem)
        for blocks, specs in zip(self.stages, plan.stages, strict=True):
            for block, spec in zip(cast(nn.ModuleList, blocks), specs, strict=False):  # depth: the first blocks run
                x = run_block(block, x, spec)
        return self.head(x, plan.head)

    def _mix(self, x: Tensor, mixture: Mixture) -> Tensor:
        planner = self.space.planner  # all but the blocks is fixed where there are mixtures
        return self.head(self._blocks().run(self.stages, self.stem(x, planner.stem({})), mixture), planner.head({}))

    def superkernels(self) -> dict[str, tuple[Superkernel, ElasticInvertedBottleneck]]:
        """By mixed place, its superkernel and the block with its weights; places without one are left out."""
        return self._blocks().superkernels(self.stages)

    def _blocks(self) -> MixedBlocks:
        if self.space.choice_places is None:
            raise self.space.no_mixtures()
        return self.space.choice_places

    def slice_of(
        self, name: str, shared: Mapping[str, Tensor], shape: Sequence[int], architecture: Architecture
    ) -> Tensor:
        """The weight `name` of the standalone network: mapped where kernels are transformed, else a shared slice."""
        path, _, leaf = name.rpartition(".")
        module = self.get_submodule(path)
        if leaf == "weight" and isinstance(module, TransformedConv2d):
            return module.chosen_weight(shape).detach()
        return super().slice_of(name, shared, shape, architecture)

    def blank_network(self, architecture: Architecture) -> StagedNetwork:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: self.space.blank(architecture))
