"""Hybrid networks: stages whose blocks are convolutions or attention, so that search decides where attention starts.

Every stage halves the image (by a strided convolution or by pooling) and runs blocks of one width. A block is an
inverted bottleneck, or a Transformer layer over the positions of the image; stages at high resolution, where attention
would cost most, may be limited to convolutions. Convolutions tell positions apart, so there is no position code.

Source: Kag et al., AsCAN, NeurIPS 2024, https://arxiv.org/abs/2411.04967 (asymmetric mixes of convolutional and
Transformer blocks, more of the latter in later stages); Wong et al., TurboViT, 2023, https://arxiv.org/abs/2308.11421
(a generated hierarchy with pooled stages).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ..architecture import Architecture, Value
from ..candidate import Candidate, variations
from ..elastic.attention import ElasticTransformerLayer
from ..elastic.blocks import ElasticConvNorm, ElasticHead, ElasticInvertedBottleneck
from ..elastic.supernet import Supernet
from ..gene import Gene, When
from ..layers.attention import AttentionSpec
from ..layers.channels import make_divisible
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..layers.downsample import DOWNSAMPLES, Downsample, DownsampleSpec, downsample_ops, make_pool
from ..layers.feed_forward import FeedForwardSpec
from ..layers.head import Head, HeadSpec, head_ops
from ..layers.inverted_bottleneck import InvertedBottleneck, InvertedBottleneckSpec, inverted_bottleneck_ops
from ..layers.materialise import allocate, builder
from ..layers.tokens import sequence_ops
from ..layers.transformer import TransformerLayer, TransformerLayerSpec, transformer_layer_ops
from ..op import Op, Tensor, make_op
from .hybrid_spec import PRESETS, HybridSpec, HybridStageSpec
from .steps import Choices, Read, Step, StepSpace, integer

__all__ = ["PRESETS", "Hybrid", "HybridPlan", "HybridSpace", "HybridSpec", "HybridStageSpec", "HybridSupernet"]

BlockSpec = InvertedBottleneckSpec | TransformerLayerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridStagePlan:
    """One stage as the specs of its layers."""

    downsample: DownsampleSpec
    blocks: tuple[BlockSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridPlan:
    """One architecture as the specs of its layers."""

    stem: ConvNormSpec
    stages: tuple[HybridStagePlan, ...]
    head: HeadSpec


def _over_positions(x: TorchTensor, layer: nn.Module, *rest: TransformerLayerSpec) -> TorchTensor:
    """Run a layer of sequences over the positions of an image [N, C, H, W]."""
    return layer(x.flatten(2).transpose(1, 2), *rest).transpose(1, 2).unflatten(2, x.shape[2:])


class HybridBlock(nn.Module):
    """Either `conv` or `attention`."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.conv = InvertedBottleneck(spec) if isinstance(spec, InvertedBottleneckSpec) else None
        self.attention = TransformerLayer(spec) if isinstance(spec, TransformerLayerSpec) else None

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        return self.conv(x) if self.conv is not None else _over_positions(x, cast(nn.Module, self.attention))


class _Stage(nn.Module):
    """`downsample` and `blocks.<i>`."""

    def __init__(self, downsample: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)


class Hybrid(nn.Module):
    """The standalone network of a plan: `stem`, `stages.<i>`, `head`."""

    def __init__(self, plan: HybridPlan) -> None:
        super().__init__()
        self.stem = ConvNorm(plan.stem)
        self.stages = nn.ModuleList(
            _Stage(Downsample(stage.downsample), [HybridBlock(block) for block in stage.blocks])
            for stage in plan.stages
        )
        self.head = Head(plan.head)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        x = self.stem(x)
        for stage in cast("list[_Stage]", self.stages):
            x = stage.downsample(x)
            for block in stage.blocks:
                x = block(x)
        return self.head(x)


class _ElasticDownsample(nn.Module):
    """`Downsample` with shared weights, of both kinds."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv, pool = (
            DownsampleSpec(in_channels=in_channels, out_channels=out_channels, kind=kind) for kind in DOWNSAMPLES
        )
        self.conv = ElasticConvNorm(conv.layer)
        self.pool = make_pool()
        self.project = ElasticConvNorm(pool.layer)

    def forward(self, x: TorchTensor, spec: DownsampleSpec) -> TorchTensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, ceil(H / 2), ceil(W / 2)]."""
        return self.conv(x, spec.layer) if spec.kind == "conv" else self.project(self.pool(x), spec.layer)


class _ElasticBlock(nn.Module):
    """`HybridBlock` with shared weights, of both kinds where both may be chosen."""

    def __init__(self, conv: InvertedBottleneckSpec, attention: TransformerLayerSpec | None) -> None:
        super().__init__()
        self.conv = ElasticInvertedBottleneck(conv)
        self.attention = ElasticTransformerLayer(attention) if attention else None

    def forward(self, x: TorchTensor, spec: BlockSpec) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        if isinstance(spec, InvertedBottleneckSpec):
            return self.conv(x, spec)
        assert self.attention is not None
        return _over_positions(x, self.attention, spec)


class HybridSupernet(Supernet):
    """The family's supernet: same module paths as `Hybrid`, every layer as large as any choice needs."""

    def __init__(self, space: HybridSpace) -> None:
        super().__init__()
        self.space = space
        largest = space.plan(space.largest_choices())
        self.stem = ElasticConvNorm(largest.stem)
        self.stages = nn.ModuleList(
            _Stage(
                _ElasticDownsample(stage.downsample.in_channels, stage.downsample.out_channels),
                [_ElasticBlock(*space.largest_block(index)) for _ in stage.blocks],
            )
            for index, stage in enumerate(largest.stages)
        )
        self.head = ElasticHead(largest.head)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        plan = self.space.plan(self.space.choices(architecture))
        x = self.stem(x, plan.stem)
        for stage, chosen in zip(cast("list[_Stage]", self.stages), plan.stages, strict=True):
            x = stage.downsample(x, chosen.downsample)
            for block, spec in zip(stage.blocks, chosen.blocks, strict=False):  # depth: the first blocks run
                x = block(x, spec)
        return self.head(x, plan.head)

    def blank_network(self, architecture: Architecture) -> Hybrid:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: self.space.blank(self.space.choices(architecture)))


class HybridSpace(StepSpace):
    """All networks of one `HybridSpec`.

    Args:
        spec: what may vary and what is fixed.
        preset: the name `spec` goes by, "" if none.

    >>> HybridSpace(PRESETS["tiny"], preset="tiny").size
    4608
    """

    def __init__(self, spec: HybridSpec, *, preset: str = "") -> None:
        self.spec = spec
        genes = [gene for index, stage in enumerate(spec.stages) for gene in _stage_genes(index, stage)]
        super().__init__(spec, genes, name="hybrid", preset=preset, options=("in_channels", "resolution", "classes"))

    # --- from choices to layers -----------------------------------------------------------------------------------

    def plan(self, choices: Choices) -> HybridPlan:
        """The specs of the layers of these choices."""
        stages = tuple(
            HybridStagePlan(
                downsample=self._downsample(choices, stage),
                blocks=tuple(self._block(choices, stage, block) for block in range(self._depth(choices, stage))),
            )
            for stage in range(len(self.spec.stages))
        )
        return HybridPlan(stem=self._stem(), stages=stages, head=self._head(choices))

    def largest_block(self, stage: int) -> tuple[InvertedBottleneckSpec, TransformerLayerSpec | None]:
        """The largest block of each kind in a stage; None where there is no attention."""
        spec, path = self.spec.stages[stage], f"stages.{stage}"
        choices = {
            f"{path}.width": spec.widths[-1],
            f"{path}.0.kernel": spec.kernels[-1],
            f"{path}.0.expansion": spec.expansions[-1],
            f"{path}.0.heads": spec.heads[-1],
            f"{path}.0.ratio": spec.ratios[-1],
        }
        return self._conv(choices, stage, 0), self._attention(choices, stage, 0) if spec.attention else None

    def _depth(self, choices: Choices, stage: int) -> int:
        return integer(choices, f"stages.{stage}.depth")

    def _width(self, choices: Choices, stage: int) -> int:
        return integer(choices, f"stages.{stage}.width") if stage >= 0 else self.spec.stem_channels

    def _kind(self, choices: Choices, stage: int, block: int) -> Value:
        return choices[f"stages.{stage}.{block}.kind"] if self.spec.stages[stage].attention else "conv"

    def _stem(self) -> ConvNormSpec:
        return ConvNormSpec(
            in_channels=self.spec.in_channels,
            out_channels=self.spec.stem_channels,
            kernel=3,
            stride=2,
            activation="silu",
        )

    def _downsample(self, choices: Choices, stage: int) -> DownsampleSpec:
        return DownsampleSpec(
            in_channels=self._width(choices, stage - 1),
            out_channels=self._width(choices, stage),
            kind=str(choices[f"stages.{stage}.downsample"]),
        )

    def _block(self, choices: Choices, stage: int, block: int) -> BlockSpec:
        conv = self._kind(choices, stage, block) == "conv"
        return self._conv(choices, stage, block) if conv else self._attention(choices, stage, block)

    def _conv(self, choices: Choices, stage: int, block: int) -> InvertedBottleneckSpec:
        width = self._width(choices, stage)
        hidden = width * integer(choices, f"stages.{stage}.{block}.expansion")
        return InvertedBottleneckSpec(
            in_channels=width,
            hidden=hidden,
            out_channels=width,
            kernel=integer(choices, f"stages.{stage}.{block}.kernel"),
            stride=1,
            activation="silu",
            squeezed=make_divisible(hidden / 16, 4),
        )

    def _attention(self, choices: Choices, stage: int, block: int) -> TransformerLayerSpec:
        width = self._width(choices, stage)
        heads = integer(choices, f"stages.{stage}.{block}.heads")
        hidden = width * integer(choices, f"stages.{stage}.{block}.ratio")
        return TransformerLayerSpec(
            attention=AttentionSpec(width=width, heads=heads, head_dim=self.spec.head_dim),
            feed_forward=FeedForwardSpec(width=width, hidden=hidden, activation="gelu"),
        )

    def _head(self, choices: Choices) -> HeadSpec:
        return HeadSpec(
            in_channels=self._width(choices, len(self.spec.stages) - 1),
            channels=self.spec.head_channels,
            classes=self.spec.classes,
            activation="silu",
        )

    # --- costs ----------------------------------------------------------------------------------------------------

    def steps(self) -> tuple[Step, ...]:
        """Stem, every downsampling, every block that may exist in both of its forms, and head."""
        spec, last = self.spec, len(self.spec.stages) - 1
        image = Tensor("image", (spec.in_channels, spec.resolution, spec.resolution))

        def head(choices: Choices, read: Read) -> tuple[Op, ...]:
            part = self._head(choices)
            return head_ops("head", read((part.in_channels, spec.side(last), spec.side(last))), part)

        return (
            Step(name="stem", build=lambda _choices, _read: conv_norm_ops("stem", image, self._stem())),
            *(step for stage in range(last + 1) for step in self._stage_steps(stage)),
            Step(name="head", genes=(f"stages.{last}.width",), build=head),
        )

    def _stage_steps(self, stage: int) -> list[Step]:
        spec, path = self.spec.stages[stage], f"stages.{stage}"
        side = self.spec.side(stage - 1)

        def downsample(choices: Choices, read: Read) -> tuple[Op, ...]:
            part = self._downsample(choices, stage)
            return downsample_ops(f"{path}.downsample", read((part.in_channels, side, side)), part)

        before = (f"stages.{stage - 1}.width",) if stage else ()
        genes = (*before, f"{path}.width", f"{path}.downsample")
        steps = [Step(name=f"{path}.downsample", genes=genes, build=downsample)]
        for block in range(max(spec.depths)):
            steps.append(self._block_step(stage, block, "conv"))
            if spec.attention:
                steps.append(self._block_step(stage, block, "attention"))
        return steps

    def _block_step(self, stage: int, block: int, kind: str) -> Step:
        """One form of a block; no Ops where the choices take the other form, or fewer blocks."""
        path, side = f"stages.{stage}", self.spec.side(stage)

        def build(choices: Choices, read: Read) -> tuple[Op, ...]:
            if self._depth(choices, stage) <= block or self._kind(choices, stage, block) != kind:
                return ()
            spec, name = self._block(choices, stage, block), f"{path}.blocks.{block}.{kind}"
            x = read((self._width(choices, stage), side, side))
            if isinstance(spec, InvertedBottleneckSpec):
                return inverted_bottleneck_ops(name, x, spec)
            return _image_layer_ops(name, x, spec)

        parts = ("kernel", "expansion") if kind == "conv" else ("heads", "ratio")
        kinds = (f"{path}.{block}.kind",) if self.spec.stages[stage].attention else ()
        genes = (f"{path}.depth", f"{path}.width", *kinds, *(f"{path}.{block}.{part}" for part in parts))
        return Step(name=f"{path}.blocks.{block}.{kind}", genes=genes, build=build)

    # --- networks -------------------------------------------------------------------------------------------------

    def blank(self, choices: Choices) -> Hybrid:
        """The network of these choices, not yet filled."""
        return Hybrid(self.plan(choices))

    def blank_supernet(self) -> HybridSupernet:
        """The supernet, not yet filled."""
        return HybridSupernet(self)

    def candidates(self) -> tuple[Candidate, ...]:
        """Every downsampling and block that a single gene's value makes, the other genes at their defaults."""
        return tuple(found for stage in range(len(self.spec.stages)) for found in self._candidates(stage))

    def _candidates(self, stage: int) -> Iterator[Candidate]:
        path, before, side = f"stages.{stage}", self.spec.side(stage - 1), self.spec.side(stage)
        blocks = [gene.name for gene in self.genes if gene.name.startswith(path) and gene.name.count(".") == 3]
        for gene, value, choices in variations(self.table, [f"{path}.downsample", *blocks]):
            choice, part = gene.kind == "categorical", gene.name.split(".")
            spec = self._block(choices, stage, int(part[2])) if len(part) == 4 else self._downsample(choices, stage)
            down = isinstance(spec, DownsampleSpec)
            shape = (spec.in_channels, before, before) if down else (self._width(choices, stage), side, side)
            yield Candidate(
                place=gene.name,
                label=str(value) if choice else f"{part[-1]}={value}",
                choice=choice,
                shape=shape,
                build=builder(functools.partial(Downsample if down else HybridBlock, spec)),
                means="work",
                key=(spec, shape),
            )

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        shape = (batch, self.spec.in_channels, self.spec.resolution, self.spec.resolution)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


def _image_layer_ops(name: str, x: Tensor, spec: TransformerLayerSpec) -> tuple[Op, ...]:
    """A Transformer layer over the positions of an image (C, H, W)."""
    ops = sequence_ops(name, x)
    ops += transformer_layer_ops(name, ops[-1].output, spec)
    channels = make_op(f"{name}_channels", "transpose", ops[-1].output, order=(1, 0))
    return (*ops, channels, make_op(f"{name}_image", "reshape", channels.output, shape=x.shape))


def _stage_genes(index: int, stage: HybridStageSpec) -> list[Gene]:
    path = f"stages.{index}"
    genes = [
        Gene(f"{path}.depth", stage.depths, kind="ordered", default=len(stage.depths) - 1),
        Gene(f"{path}.width", stage.widths, kind="ordered", default=len(stage.widths) - 1),
        Gene(f"{path}.downsample", DOWNSAMPLES),
    ]
    for block in range(max(stage.depths)):
        deep = tuple(depth for depth in stage.depths if depth > block)
        exists = (When(f"{path}.depth", deep),) if len(deep) < len(stage.depths) else ()
        conv = attention = exists
        if stage.attention:
            genes.append(Gene(f"{path}.{block}.kind", ("conv", "attention"), when=exists))
            conv, attention = ((When(f"{path}.{block}.kind", (kind,)),) for kind in ("conv", "attention"))
        genes.append(Gene(f"{path}.{block}.kernel", stage.kernels, kind="ordered", when=conv))
        genes.append(Gene(f"{path}.{block}.expansion", stage.expansions, kind="ordered", when=conv))
        if stage.attention:
            genes.append(Gene(f"{path}.{block}.heads", stage.heads, kind="ordered", when=attention))
            genes.append(Gene(f"{path}.{block}.ratio", stage.ratios, kind="ordered", when=attention))
    return genes
