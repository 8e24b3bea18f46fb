"""NAS-Bench-Macro: eight positions in a row, each the identity or one of two inverted bottlenecks.

Where a stage begins the identity is a strided 1x1 convolution with its norm.

Source: Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021,
https://arxiv.org/abs/2103.11922; https://github.com/xiusu/NAS-Bench-Macro.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError
from ..elastic.blocks import ElasticInvertedBottleneck
from ..elastic.residual import CLASSIFIER, CONV_NORM
from ..gene import Gene
from ..layers.chain import Brick, Layer
from ..layers.classifier import ClassifierSpec
from ..layers.conv_norm import ConvNormSpec
from ..layers.inverted_bottleneck import InvertedBottleneck, InvertedBottleneckSpec, inverted_bottleneck_ops
from .chain import Choices, Slot, check_image

__all__ = ["CHOICES", "PRESETS", "NasBenchMacroSpec"]

CHOICES: Final = ("id", "ir_3x3_t3", "ir_5x5_t6")
"""What may stand at a position, in the order of the published table."""

_WINDOWS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType({"ir_3x3_t3": (3, 3), "ir_5x5_t6": (5, 6)})
"""Kernel and expansion of the inverted bottlenecks."""

_INVERTED: Final = Brick(InvertedBottleneck, inverted_bottleneck_ops, ElasticInvertedBottleneck)


@dataclass(frozen=True, slots=True, kw_only=True)
class NasBenchMacroSpec:
    """The row around the choices.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image; every stage halves it.
        classes: logits.
        channels: of the stem; every stage doubles them.
        stages: positions in each stage.
        features: channels of the 1x1 convolution before the classifier.
    """

    in_channels: int = 3
    resolution: int = 32
    classes: int = 10
    channels: int = 32
    stages: tuple[int, ...] = (2, 3, 3)
    features: int = 1280

    def __post_init__(self) -> None:
        if not self.stages or min(self.stages) < 1 or self.channels < 1 or self.features < 1:
            raise SpaceError(
                f"nas_bench_macro: stages {self.stages}, channels {self.channels} and features {self.features} must be "
                "at least 1."
            )
        check_image(self, "nas_bench_macro", 1 << len(self.stages))

    @property
    def elastic(self) -> bool:
        """Every choice of every position has its own weights."""
        return True

    def genes(self) -> tuple[Gene, ...]:
        """One per position; the default is the smaller bottleneck."""
        return tuple(Gene(f"positions.{index}", CHOICES, default=1) for index in range(sum(self.stages)))

    def slots(self) -> tuple[Slot, ...]:
        """Stem, positions, features and classifier."""
        slots = [Slot(name="stem", genes=(), side=self.resolution, build=self._stem)]
        for stage, count in enumerate(self.stages):
            for block in range(count):
                slots.append(self._slot(len(slots) - 1, stage, first=not block))
        side = -(-self.resolution // (1 << len(self.stages)))
        return (
            *slots,
            Slot(name="features", genes=(), side=side, build=self._features),
            Slot(name="head", genes=(), side=side, build=self._head),
        )

    def _slot(self, index: int, stage: int, *, first: bool) -> Slot:
        gene, out = f"positions.{index}", self.channels << (stage + 1)
        channels, stride = (out // 2, 2) if first else (out, 1)

        def build(choices: Choices) -> Layer | None:
            choice = str(choices[gene])
            if choice in _WINDOWS:
                kernel, expansion = _WINDOWS[choice]
                spec = InvertedBottleneckSpec(
                    in_channels=channels,
                    hidden=channels * expansion,
                    out_channels=out,
                    kernel=kernel,
                    stride=stride,
                    activation="relu",
                )
                return Layer(f"{gene}.{choice}", _INVERTED, spec)
            if first:
                down = ConvNormSpec(in_channels=channels, out_channels=out, stride=stride)
                return Layer(f"{gene}.{choice}", CONV_NORM, down)
            return None

        side = -(-self.resolution // (1 << (stage if first else stage + 1)))
        return Slot(name=gene, genes=(gene,), side=side, build=build)

    def _stem(self, _choices: Choices) -> Layer:
        spec = ConvNormSpec(in_channels=self.in_channels, out_channels=self.channels, kernel=3, activation="relu")
        return Layer("stem", CONV_NORM, spec)

    def _features(self, _choices: Choices) -> Layer:
        channels = self.channels << len(self.stages)
        return Layer(
            "features", CONV_NORM, ConvNormSpec(in_channels=channels, out_channels=self.features, activation="relu")
        )

    def _head(self, _choices: Choices) -> Layer:
        return Layer("head", CLASSIFIER, ClassifierSpec(in_channels=self.features, classes=self.classes))


PRESETS: Final[Mapping[str, NasBenchMacroSpec]] = MappingProxyType({
    "cifar10": NasBenchMacroSpec(),
    "digits": NasBenchMacroSpec(in_channels=1, resolution=11, channels=8, features=64),
    "tiny": NasBenchMacroSpec(in_channels=1, resolution=8, channels=4, stages=(2, 2), features=16),
})  # fmt: skip
"""The family's presets, by name: the benchmark's own, and two for small grey images."""
