"""The elastic residual family: depth and width per stage, bottleneck width per block, and an optional stem block.

Source: Cai et al., Once-for-All, ICLR 2020, https://arxiv.org/abs/1908.09791 (its ResNet-50 space); He et al., Deep
Residual Learning, CVPR 2016, https://arxiv.org/abs/1512.03385 (the space `plain`, whose networks are ResNet-18 to 152).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..elastic.residual import CLASSIFIER, CONV_NORM, RESIDUAL, RESIDUAL_CONV_NORM
from ..gene import Gene, When
from ..layers.chain import Layer
from ..layers.channels import make_divisible
from ..layers.classifier import ClassifierSpec
from ..layers.conv_norm import ConvNormSpec
from ..layers.max_pool import MAX_POOL, MaxPoolSpec
from ..layers.residual import ResidualSpec
from ..space import SearchSpace
from .chain import Choices, Slot, block_genes, check_image, number, resized, whole

__all__ = ["PRESETS", "REFERENCES", "ResNetSpec", "ResNetStage"]

Form = Literal["basic", "bottleneck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetStage:
    """What may vary in a stage.

    Attributes:
        depths: numbers of blocks, ascending.
        widths: output channels of bottleneck blocks, ascending; basic blocks have a quarter.
        expansions: hidden channels of bottleneck blocks as multiples of their output channels, ascending.
        stride: of the first block.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    expansions: tuple[float, ...] = (0.25,)
    stride: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        stages: in order.
        stem_widths: channels that leave the stem.
        stem_inner: channels inside a deep stem (3x3 stride 2, optional residual 3x3, 3x3); () = one 7x7 of stride 2.
        pooled: whether a 3x3 max pool of stride 2 follows the stem.
        forms: block forms; more than one leaves no common supernet.
        shortcut: how shortcuts change shape.
        divisor: hidden channels are multiples of it.
    """

    in_channels: int
    resolution: int
    classes: int
    stages: tuple[ResNetStage, ...]
    stem_widths: tuple[int, ...] = (64,)
    stem_inner: tuple[int, ...] = ()
    pooled: bool = True
    forms: tuple[Form, ...] = ("bottleneck",)
    shortcut: Literal["conv", "avg_pool"] = "conv"
    divisor: int = 8

    def __post_init__(self) -> None:
        stride = 4 if self.pooled else 2
        for stage in self.stages:
            stride *= stage.stride
        check_image(self, "resnet", stride)
        entries = self.stem_widths
        for index, stage in enumerate(self.stages):
            if min(stage.depths, default=0) < 1 or min(stage.widths, default=0) < 1:
                raise SpaceError(
                    f"resnet stage {index}: depths {stage.depths} and widths {stage.widths} must be at least 1."
                )
            for width in stage.widths:
                hidden = [self._hidden(width, expansion) for expansion in stage.expansions]
                if len(set(hidden)) < len(hidden):
                    raise SpaceError(
                        f"resnet stage {index}: expansions {stage.expansions} of {width} channels round to {hidden}; "
                        f"make them differ: spread the expansions or lower the divisor ({self.divisor})."
                    )
            if self.elastic and stage.stride == 1 and set(entries) & set(stage.widths) and len(stage.widths) > 1:
                raise SpaceError(
                    f"resnet stage {index}: its widths {stage.widths} meet those that enter it, {entries}, so that its "
                    "first shortcut would have shared weights for some choices only; make them differ."
                )
            entries = stage.widths

    @property
    def elastic(self) -> bool:
        """Whether weights can be shared."""
        return len(self.forms) == 1

    def _hidden(self, width: int, expansion: float) -> int:
        return make_divisible(round(width * expansion), self.divisor)

    def genes(self) -> tuple[Gene, ...]:
        """Stem, form, then per stage depth, width and the blocks' expansions."""
        genes: list[Gene] = []
        if self.stem_inner:
            genes.append(Gene("stem.block", (False, True), kind="ordered", default=1))
            genes.append(_widest("stem.inner", self.stem_inner))
        genes.append(_widest("stem.width", self.stem_widths))
        genes.append(Gene("form", self.forms, default=len(self.forms) - 1))
        # Basic blocks have no bottleneck whose width could be chosen.
        form = (When("form", ("bottleneck",)),) if "basic" in self.forms else ()
        for index, stage in enumerate(self.stages):
            path = f"stages.{index}"
            genes.append(_widest(f"{path}.width", stage.widths))
            genes += block_genes(path, stage.depths, _expansions(stage, form))
        return tuple(genes)

    def slots(self) -> tuple[Slot, ...]:
        """Stem, every block that may exist, and the classifier."""
        slots = list(self._stem_slots())
        side = -(-self.resolution // 2)
        if self.pooled:
            slots.append(Slot(name="pool", genes=("stem.width",), side=side, build=_pool))
            side = -(-side // 2)
        for index, stage in enumerate(self.stages):
            for block in range(max(stage.depths)):
                slots.append(self._block_slot(index, block, side))
                side = -(-side // stage.stride) if not block else side
        last = f"stages.{len(self.stages) - 1}.width"

        def head(choices: Choices) -> Layer:
            spec = ClassifierSpec(in_channels=_width(choices, last), classes=self.classes)
            return Layer("head", CLASSIFIER, spec)

        return (*slots, Slot(name="head", genes=("form", last), side=side, build=head))

    def _stem_slots(self) -> tuple[Slot, ...]:
        def conv(path: str, brick: str, source: str, out: str, *, kernel: int = 3, stride: int = 1) -> Slot:
            def build(choices: Choices) -> Layer | None:
                if path == "stem.block" and not choices["stem.block"]:
                    return None
                spec = ConvNormSpec(
                    in_channels=whole(choices, source) if source else self.in_channels,
                    out_channels=whole(choices, out),
                    kernel=kernel,
                    stride=stride,
                    activation="relu",
                )
                return Layer(path, RESIDUAL_CONV_NORM if brick == "residual" else CONV_NORM, spec)

            own = ("stem.block",) if path == "stem.block" else ()
            genes = (*own, *((source,) if source else ()), out)
            side = -(-self.resolution // 2) if source else self.resolution
            return Slot(name=path, genes=genes, side=side, build=build)

        if not self.stem_inner:
            return (conv("stem", "plain", "", "stem.width", kernel=7, stride=2),)
        return (
            conv("stem.first", "plain", "", "stem.inner", stride=2),
            conv("stem.block", "residual", "stem.inner", "stem.inner"),
            conv("stem.last", "plain", "stem.inner", "stem.width"),
        )

    def _block_slot(self, stage: int, block: int, side: int) -> Slot:
        path, fixed = f"stages.{stage}", self.stages[stage]
        name = f"{path}.{block}"
        entry = f"{path}.width" if block else (f"stages.{stage - 1}.width" if stage else "stem.width")

        def build(choices: Choices) -> Layer | None:
            if whole(choices, f"{path}.depth") <= block:
                return None
            basic, width = choices["form"] == "basic", _width(choices, f"{path}.width")
            spec = ResidualSpec(
                in_channels=whole(choices, entry) if entry == "stem.width" else _width(choices, entry),
                hidden=width if basic else self._hidden(width, number(choices, f"{name}.expansion")),
                out_channels=width,
                stride=1 if block else fixed.stride,
                form="basic" if basic else "bottleneck",
                shortcut=self.shortcut,
            )
            return Layer(name, RESIDUAL, spec)

        genes = ("form", f"{path}.depth", entry, f"{path}.width", f"{name}.expansion")
        return Slot(name=name, genes=genes, side=side, build=build)


def _widest(name: str, widths: tuple[int, ...]) -> Gene:
    return Gene(name, widths, kind="ordered", default=len(widths) - 1)


def _expansions(stage: ResNetStage, form: tuple[When, ...]) -> Callable[[str, tuple[When, ...]], tuple[Gene, ...]]:
    def genes(path: str, when: tuple[When, ...]) -> tuple[Gene, ...]:
        return (Gene(f"{path}.expansion", stage.expansions, kind="ordered", when=(*when, *form)),)

    return genes


def _width(choices: Choices, name: str) -> int:
    """Output channels of a stage's blocks."""
    width = whole(choices, name)
    return width // 4 if choices["form"] == "basic" else width


def _pool(choices: Choices) -> Layer:
    return Layer("pool", MAX_POOL, MaxPoolSpec(in_channels=whole(choices, "stem.width")))


def _ofa_stage(depth: int, widths: tuple[int, ...], stride: int = 2) -> ResNetStage:
    depths = (depth, depth + 1, depth + 2)
    return ResNetStage(depths=depths, widths=widths, expansions=(0.2, 0.25, 0.35), stride=stride)


PRESETS: Final[Mapping[str, ResNetSpec]] = MappingProxyType({
    # The published space: three width multipliers, up to two blocks more than the base depth.
    "ofa_resnet50": ResNetSpec(
        in_channels=3, resolution=224, classes=1000, stem_inner=(24, 32), stem_widths=(40, 48, 64), shortcut="avg_pool",
        stages=(
            _ofa_stage(2, (168, 208, 256), stride=1),
            _ofa_stage(2, (336, 408, 512)),
            _ofa_stage(4, (664, 816, 1024)),
            _ofa_stage(2, (1328, 1640, 2048)),
        ),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": ResNetSpec(
        in_channels=3, resolution=64, classes=10, stem_inner=(16, 24), stem_widths=(24, 32, 48), pooled=False,
        shortcut="avg_pool",
        stages=(
            ResNetStage(depths=(1, 2), widths=(64, 96, 128), expansions=(0.25, 0.5)),
            ResNetStage(depths=(1, 2, 3), widths=(160, 192, 256), expansions=(0.2, 0.25, 0.35)),
            ResNetStage(depths=(2, 3, 4), widths=(288, 384, 512), expansions=(0.2, 0.25, 0.35)),
        ),
    ),
    # ResNet-18 to ResNet-152, and what lies between them.
    "plain": ResNetSpec(
        in_channels=3, resolution=224, classes=1000, forms=("basic", "bottleneck"),
        stages=(
            ResNetStage(depths=(2, 3), widths=(256,), stride=1),
            ResNetStage(depths=(2, 3, 4, 8), widths=(512,)),
            ResNetStage(depths=(2, 3, 4, 6, 9, 16, 23, 36), widths=(1024,)),
            ResNetStage(depths=(2, 3), widths=(2048,)),
        ),
    ),
    # For tests: a few thousand networks of a few thousand weights, with every feature of the elastic form.
    "tiny": ResNetSpec(
        in_channels=1, resolution=11, classes=10, stem_inner=(8, 16), stem_widths=(8, 16), shortcut="avg_pool",
        stages=(
            ResNetStage(depths=(1, 2), widths=(24, 32), expansions=(0.25, 0.5), stride=1),
            ResNetStage(depths=(1, 2), widths=(32, 40), expansions=(0.25, 0.5)),
        ),
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _published(form: Form, depths: tuple[int, ...]) -> Callable[[int | None], tuple[SearchSpace, Architecture]]:
    def build(resolution: int | None) -> tuple[SearchSpace, Architecture]:
        space = resized(PRESETS["plain"], resolution, name="resnet", preset="plain")
        choices: dict[str, Value] = {f"stages.{stage}.depth": depth for stage, depth in enumerate(depths)}
        return space, space.architecture({"form": form, **choices})

    return build


REFERENCES: Final[Mapping[str, Callable[[int | None], tuple[SearchSpace, Architecture]]]] = MappingProxyType({
    "resnet18": _published("basic", (2, 2, 2, 2)),
    "resnet26": _published("bottleneck", (2, 2, 2, 2)),
    "resnet50": _published("bottleneck", (3, 4, 6, 3)),
    "resnet101": _published("bottleneck", (3, 4, 23, 3)),
})  # fmt: skip
"""Published networks as points of the space `plain`: (resolution, None = 224) -> (space, architecture)."""
