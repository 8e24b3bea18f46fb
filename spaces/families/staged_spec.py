"""What a staged family of inverted residuals may vary and what it fixes; numbers only, without torch.

A stem, stages of blocks and a head. Whatever has more than one value becomes a gene: the resolution, multipliers of all
widths and depths, a stage's depth and width, and a block's form, kernel, expansion, squeeze-excite and shortcut, chosen
per block, per stage, or for a stage's first block and the rest apart. The published families are presets of this.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from ...errors import SpaceError
from ..architecture import Value
from ..layers.channels import make_divisible

__all__ = [
    "CONV",
    "DS",
    "ER",
    "IR",
    "SKIP",
    "AttentionRule",
    "Form",
    "SqueezeRule",
    "StageSpec",
    "StagedSpec",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A kind of block, with what it pins of a stage's choices.

    Attributes:
        name: the value of the form gene.
        layer: which layer it is; a `skip` is the identity, or where the shape changes a 1x1 convolution.
        widens: whether an inverted bottleneck has its expanding convolution.
        fused: whether that convolution takes the window itself.
        starts: whether a depthwise convolution stands in front, with the stage's `starts` as its kernels.
        kernel: of the depthwise convolution, 0 for none; None = one of the stage's `kernels`.
        expansion: of the hidden channels; None = one of the stage's `expansions`.
        groups: of the 1x1 convolutions.
    """

    name: str
    layer: Literal["inverted", "conv", "attention", "skip"] = "inverted"
    widens: bool = True
    fused: bool = False
    starts: bool = False
    kernel: int | None = None
    expansion: float | None = None
    groups: int = 1

    @property
    def takes(self) -> frozenset[str]:
        """Which of the stage's choices it leaves open."""
        if self.layer in ("skip", "attention"):
            return frozenset()
        if self.layer == "conv":
            return frozenset({"kernel"})
        taken = {"squeeze", "shortcut"}
        taken |= {"start"} if self.starts else set()
        taken |= {"kernel"} if self.kernel is None else set()
        taken |= {"expansion"} if self.widens and self.expansion is None else set()
        return frozenset(taken)


IR: Final = Form(name="ir")
"""Inverted residual: expand, depthwise, project."""
DS: Final = Form(name="ds", widens=False)
"""Depthwise separable."""
ER: Final = Form(name="er", fused=True)
"""Fused inverted residual: one full convolution expands, then project."""
CONV: Final = Form(name="conv", layer="conv")
"""Plain convolution, normalisation and activation."""
SKIP: Final = Form(name="skip", layer="skip")
"""No block, where the shape stays; else a strided 1x1 convolution, normalisation and activation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqueezeRule:
    """How squeeze-excite is sized and shaped.

    Attributes:
        of: what its ratio multiplies, the hidden channels or the block's input channels.
        divisor: squeezed channels are multiples of it; 1 = rounded to the nearest integer.
        limit: share of the wanted channels that rounding to a multiple must keep.
        activation: between its two convolutions.
        gate: of its output.
    """

    of: Literal["hidden", "input"] = "hidden"
    divisor: int = 8
    limit: float = 0.9
    activation: str = "relu"
    gate: str = "hard_sigmoid"

    def squeezed(self, hidden: int, in_channels: int, ratio: float) -> int:
        """Channels inside squeeze-excite, 0 for a ratio of 0."""
        if not ratio:
            return 0
        wanted = ratio * (hidden if self.of == "hidden" else in_channels)
        return max(1, round(wanted)) if self.divisor == 1 else make_divisible(wanted, self.divisor, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRule:
    """Sizes of a stage's attention blocks.

    Attributes:
        heads: query heads.
        head_channels: channels of a query, of the key and of the value.
        stride: by which key and value are made smaller.
    """

    heads: int = 4
    head_channels: int = 64
    stride: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """What may vary in a stage, and what is fixed; one value means fixed.

    Attributes:
        widths: output channels, ascending.
        depths: numbers of blocks, ascending.
        stride: of the first block.
        forms: kinds of block.
        kernels: sides of the window, ascending and odd.
        starts: sides of the window in front, for forms that have one.
        expansions: hidden channels as multiples of a block's input channels, ascending; 0 = no block (never the first).
        first_expansions: those of the first block; () = the same.
        squeezes: ratios of squeeze-excite, ascending, 0 for none.
        shortcuts: whether a block adds its input where it can.
        activation: of its blocks.
        per: whether choices are made per block, per stage, or for the first block and the rest apart ("ends").
        attention: sizes of attention blocks.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...] = (1,)
    stride: int = 1
    forms: tuple[Form, ...] = (IR,)
    kernels: tuple[int, ...] = (3,)
    starts: tuple[int, ...] = (3,)
    expansions: tuple[int | float, ...] = (6,)
    first_expansions: tuple[int | float, ...] = ()
    squeezes: tuple[int | float, ...] = (0,)
    shortcuts: tuple[bool, ...] = (True,)
    activation: str = "relu"
    per: Literal["block", "stage", "ends"] = "block"
    attention: AttentionRule = AttentionRule()

    def __post_init__(self) -> None:
        for name in ("widths", "depths", "forms", "kernels", "starts", "expansions", "squeezes", "shortcuts"):
            if not getattr(self, name):
                raise SpaceError(f"stage: {name} is empty; give at least one value.")
        if min(self.depths) < 1 or min(self.widths) < 1 or self.stride < 1:
            raise SpaceError(
                f"stage with depths {self.depths}, widths {self.widths} and stride {self.stride}: each must be at "
                "least 1."
            )
        if even := [kernel for kernel in (*self.kernels, *self.starts) if kernel % 2 == 0]:
            raise SpaceError(f"stage: kernels {even} are even; windows have odd sides.")
        if not any(expansion > 0 for expansion in self.block_expansions(0)) or not self.block_forms(0):
            raise SpaceError(
                f"stage with stride {self.stride}, expansions {self.expansions} and forms "
                f"{[form.name for form in self.forms]}: none makes a first block; one must change the shape."
            )

    @property
    def varies(self) -> bool:
        """Whether its blocks have anything to choose."""
        choices = (self.forms, self.kernels, self.starts, self.expansions, self.squeezes, self.shortcuts)
        return any(len(values) > 1 for values in choices)

    def block_forms(self, index: int) -> tuple[Form, ...]:
        """The forms that block `index` may take: the first must be able to change the shape."""
        if index:
            return self.forms
        return tuple(
            form
            for form in self.forms
            if form.layer != "attention" and not (self.stride > 1 and form.kernel == 0 and not form.starts)
        )

    def block_expansions(self, index: int) -> tuple[int | float, ...]:
        """The expansions that block `index` may take."""
        if index:
            return self.expansions
        return tuple(expansion for expansion in self.first_expansions or self.expansions if expansion > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSpec:
    """A member of a staged family; what has several values is a gene.

    Attributes:
        in_channels: channels of the image.
        resolutions: sides of the square image, ascending.
        classes: logits.
        stem_channels: output channels of the 3x3 stem.
        stages: in order.
        head_channels: features that are averaged.
        stem_stride: step of the stem.
        stem_activation: after the stem.
        head_activation: in the head.
        mixed: features of a second 1x1 convolution in the head, 0 for none.
        mix: what follows it: a batch norm, its own bias, or nothing.
        divisor: scaled and hidden channels are multiples of it.
        width_multipliers: of all channels, ascending.
        depth_multipliers: of all depths, ascending; products are rounded up.
        squeeze: how squeeze-excite is sized.
        layer_scale: whether blocks end in a learned factor per channel.
        recipe: further genes that say how to train; they do not change the network.
        gene_order: last parts of gene names; genes are grouped in that order, () = stage by stage.
    """

    in_channels: int = 3
    resolutions: tuple[int, ...] = (224,)
    classes: int = 1000
    stem_channels: int
    stages: tuple[StageSpec, ...]
    head_channels: int
    stem_stride: int = 2
    stem_activation: str = "relu"
    head_activation: str = "relu"
    mixed: int = 0
    mix: Literal["norm", "bias", "plain"] = "bias"
    divisor: int = 8
    width_multipliers: tuple[int | float, ...] = (1,)
    depth_multipliers: tuple[int | float, ...] = (1,)
    squeeze: SqueezeRule = SqueezeRule()
    layer_scale: bool = False
    recipe: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    gene_order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("in_channels", "classes", "stem_channels", "head_channels", "stem_stride", "divisor"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"staged space: {name} is {value!r}; it must be an integer of at least 1.")
        if not self.stages:
            raise SpaceError("staged space: there are no stages; at least one is needed.")
        if len(self.depth_multipliers) > 1 and any(stage.per == "block" and stage.varies for stage in self.stages):
            raise SpaceError(
                "staged space: depth multipliers as a gene do not go with choices per block; make those per stage."
            )
        for resolution in self.resolutions:
            if not isinstance(resolution, int) or resolution < self.total_stride:
                raise SpaceError(
                    f"staged space: resolution is {resolution!r}; the strides multiply to {self.total_stride}, so it "
                    f"must be an integer of at least {self.total_stride}."
                )

    @property
    def total_stride(self) -> int:
        """Product of all strides."""
        return self.stem_stride * math.prod(stage.stride for stage in self.stages)

    def blocks(self, stage: int) -> int:
        """The largest number of blocks that a stage may have."""
        return math.ceil(max(self.stages[stage].depths) * max(self.depth_multipliers))

    def side(self, resolution: int, stage: int, index: int = 0) -> int:
        """Side of the map that enters a block, for an image of side `resolution`."""
        strides: Iterable[int] = (earlier.stride for earlier in self.stages[: stage + (1 if index else 0)])
        side = resolution
        for stride in itertools.chain((self.stem_stride,), strides):
            side = -(-side // stride)
        return side
