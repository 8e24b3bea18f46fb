"""One architecture of a staged family as the specs of its layers; pure functions of choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from ..architecture import Value
from ..layers.channels import make_divisible
from ..layers.conv_norm import ConvNormSpec, conv_norm_ops
from ..layers.head import HeadSpec
from ..layers.inverted_bottleneck import InvertedBottleneckSpec, inverted_bottleneck_ops
from ..layers.mobile_attention import MobileAttentionSpec, mobile_attention_ops
from ..op import Op, Tensor
from .staged_genes import Layout, Slot
from .staged_spec import Form, StagedSpec, StageSpec

__all__ = ["BlockSpec", "Planner", "StagedPlan", "block_ops", "kind_of", "largest_of"]

BlockSpec = ConvNormSpec | InvertedBottleneckSpec | MobileAttentionSpec
"""What a block computes; None stands for the identity."""

S = TypeVar("S", ConvNormSpec, InvertedBottleneckSpec, MobileAttentionSpec, HeadSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedPlan:
    """One architecture as the specs of its layers.

    Attributes:
        resolution: side of the image.
        stem: the 3x3 convolution.
        stages: blocks by stage; None where nothing stands in the block's place.
        head: the classifier.
    """

    resolution: int
    stem: ConvNormSpec
    stages: tuple[tuple[BlockSpec | None, ...], ...]
    head: HeadSpec


def kind_of(spec: BlockSpec) -> str:
    """Name of the layer: blocks of one kind share weights."""
    if isinstance(spec, ConvNormSpec):
        return "conv"
    if isinstance(spec, MobileAttentionSpec):
        return "attention"
    return "fused" if spec.fused else "inverted"


def block_ops(name: str, x: Tensor, spec: BlockSpec) -> tuple[Op, ...]:
    """The Ops of a block at module path `name` that reads `x` (C, H, W)."""
    if isinstance(spec, ConvNormSpec):
        return conv_norm_ops(name, x, spec)
    if isinstance(spec, MobileAttentionSpec):
        return mobile_attention_ops(name, x, spec)
    return inverted_bottleneck_ops(name, x, spec)


def largest_of(specs: list[S]) -> S:
    """The spec that every one of `specs`, all of one kind, fits into: the largest of every size, the fewest groups."""
    changes = {}
    for field in fields(specs[0]):
        values = [getattr(spec, field.name) for spec in specs]
        smallest = field.name in ("groups", "pointwise_groups")
        changes[field.name] = values[0] if isinstance(values[0], str) else (min if smallest else max)(values)
    return type(specs[0])(**changes)


class Planner:
    """Turns choices into layer specs, for one staged spec and its layout."""

    def __init__(self, spec: StagedSpec, layout: Layout) -> None:
        self.spec = spec
        self.layout = layout
        self._forms = [{form.name: form for form in stage.forms} for stage in spec.stages]

    def plan(self, choices: Mapping[str, Value]) -> StagedPlan:
        """All layers under these choices."""
        return StagedPlan(
            resolution=self.layout.resolution.integer(choices),
            stem=self.stem(choices),
            stages=tuple(
                tuple(self.block(choices, slot) for slot in slots[: self.depth(choices, stage)])
                for stage, slots in enumerate(self.layout.slots)
            ),
            head=self.head(choices),
        )

    def stem(self, choices: Mapping[str, Value]) -> ConvNormSpec:
        """The stem."""
        return ConvNormSpec(
            in_channels=self.spec.in_channels,
            out_channels=self._scaled(choices, self.spec.stem_channels),
            kernel=3,
            stride=self.spec.stem_stride,
            activation=self.spec.stem_activation,
        )

    def head(self, choices: Mapping[str, Value]) -> HeadSpec:
        """The head; channels scale like those of the stages."""
        return HeadSpec(
            in_channels=self.width(choices, len(self.spec.stages) - 1),
            channels=self._scaled(choices, self.spec.head_channels),
            classes=self.spec.classes,
            activation=self.spec.head_activation,
            mixed=self._scaled(choices, self.spec.mixed) if self.spec.mixed else 0,
            mix=self.spec.mix,
        )

    def depth(self, choices: Mapping[str, Value], stage: int) -> int:
        """Number of blocks in a stage."""
        depth = self.layout.depths[stage].integer(choices)
        # Rounding first: 1.2 * 5 must be 6, not the next integer above 6.000000000000001.
        return math.ceil(round(depth * self.layout.depth_multiplier.number(choices), 6))

    def width(self, choices: Mapping[str, Value], stage: int) -> int:
        """Output channels of a stage."""
        return self._scaled(choices, self.layout.widths[stage].integer(choices))

    def block(self, choices: Mapping[str, Value], slot: Slot) -> BlockSpec | None:
        """The block in a slot that exists, None for the identity."""
        stage = self.spec.stages[slot.stage]
        width = self.width(choices, slot.stage)
        entry = width if slot.index else self._entry(choices, slot.stage)
        form, stride = self._forms[slot.stage][str(slot.form.read(choices))], 1 if slot.index else stage.stride
        if form.layer == "attention":
            return _attention(stage, width, self.spec.layer_scale)
        if form.layer == "skip":
            if stride == 1 and entry == width:
                return None
            return ConvNormSpec(in_channels=entry, out_channels=width, stride=stride, activation=stage.activation)
        if form.layer == "conv":
            kernel = form.kernel if form.kernel is not None else slot.kernel.integer(choices)
            return ConvNormSpec(
                in_channels=entry, out_channels=width, kernel=kernel, stride=stride, activation=stage.activation
            )
        return self._inverted(choices, slot, form, (entry, width, stride))

    def _inverted(
        self, choices: Mapping[str, Value], slot: Slot, form: Form, shape: tuple[int, int, int]
    ) -> InvertedBottleneckSpec | None:
        entry, width, stride = shape
        rule, stage = self.spec.squeeze, self.spec.stages[slot.stage]
        hidden = entry
        if form.widens:
            expansion = form.expansion if form.expansion is not None else slot.expansion.number(choices)
            if not expansion:
                return None
            hidden = make_divisible(entry * expansion, self.spec.divisor)
        return InvertedBottleneckSpec(
            in_channels=entry,
            hidden=hidden,
            out_channels=width,
            kernel=form.kernel if form.kernel is not None else slot.kernel.integer(choices),
            stride=stride,
            activation=stage.activation,
            squeezed=rule.squeezed(hidden, entry, slot.squeeze.number(choices)),
            squeeze_activation=rule.activation,
            gate=rule.gate,
            widens=form.widens,
            fused=form.fused,
            start_kernel=slot.start.integer(choices) if form.starts else 0,
            groups=form.groups,
            layer_scale=self.spec.layer_scale and not form.fused,
            shortcut=bool(slot.shortcut.read(choices)),
        )

    def _entry(self, choices: Mapping[str, Value], stage: int) -> int:
        return self.width(choices, stage - 1) if stage else self._scaled(choices, self.spec.stem_channels)

    def _scaled(self, choices: Mapping[str, Value], channels: int) -> int:
        multiplier = self.layout.width_multiplier.number(choices)
        return channels if multiplier == 1 else make_divisible(channels * multiplier, self.spec.divisor)


def _attention(stage: StageSpec, width: int, layer_scale: bool) -> MobileAttentionSpec:
    rule = stage.attention
    return MobileAttentionSpec(
        channels=width,
        heads=rule.heads,
        head_channels=rule.head_channels,
        stride=rule.stride,
        layer_scale=layer_scale,
    )
