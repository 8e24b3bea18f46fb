"""The ReXNet family: channels grow linearly from block to block, whatever the depth.

Source: Han et al., Rethinking Channel Dimensions for Efficient Model Design, CVPR 2021,
https://arxiv.org/abs/2007.00992.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..elastic.residual import CLASSIFIER, CONV_NORM
from ..gene import Gene
from ..layers.chain import Layer
from ..layers.classifier import ClassifierSpec
from ..layers.conv_norm import ConvNormSpec
from ..layers.partial_bottleneck import PARTIAL_BOTTLENECK, PartialBottleneckSpec
from ..space import SearchSpace
from .chain import Choices, Slot, check_image, number, resized, whole

__all__ = ["PRESETS", "REFERENCES", "ReXNetSpec", "rexnet_channels"]

SQUEEZE = 1 / 12
"""Channels inside squeeze-excite per hidden channel."""


@functools.cache
def rexnet_channels(blocks: int, *, initial: int, growth: int, width: float) -> tuple[int, ...]:
    """Output channels of every block: the first has `initial`, the last but one step short of `initial + growth`.

    Args:
        blocks: of the whole network.
        initial: channels of the first block; below a width of 1 it is not scaled.
        growth: channels gained over the network.
        width: multiplier.

    >>> rexnet_channels(16, initial=16, growth=180, width=1.0)
    (16, 27, 38, 50, 61, 72, 84, 95, 106, 117, 128, 140, 151, 162, 174, 185)
    """
    base = initial / width if width < 1.0 else initial
    return tuple(max(round((base + block * growth / blocks) * width), 1) for block in range(blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReXNetSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        widths: channel multipliers, ascending.
        depths: multipliers of the stages' depths, ascending.
        growths: channels gained over the network, ascending.
        expansions: hidden channels per input channel of a stage's blocks, ascending; the first stage does not widen.
        squeezes: whether a stage's blocks may have squeeze-excite, and whether they may lack it.
        base_depths: blocks per stage at a depth of 1.
        strides: of the stages' first blocks.
        initial: channels of the first block.
        stem_channels: of the stem at a width of 1.
        features: channels of the 1x1 convolution before the classifier at a width of 1.
        stem_stride: of the stem.
    """

    in_channels: int
    resolution: int
    classes: int
    widths: tuple[float, ...]
    depths: tuple[float, ...] = (1.0,)
    growths: tuple[int, ...] = (180,)
    expansions: tuple[int, ...] = (6,)
    squeezes: tuple[bool, ...] = (False, True)
    base_depths: tuple[int, ...] = (1, 2, 2, 3, 3, 5)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2)
    initial: int = 16
    stem_channels: int = 32
    features: int = 1280
    stem_stride: int = 2

    def __post_init__(self) -> None:
        check_image(self, "rexnet", self.stem_stride * math.prod(self.strides))
        if len(self.base_depths) != len(self.strides) or min(self.base_depths, default=0) < 1:
            raise SpaceError(
                f"rexnet: base depths {self.base_depths} and strides {self.strides} must be equally many, depths at "
                "least 1."
            )
        for name in ("widths", "depths", "growths", "expansions"):
            if min(getattr(self, name), default=0) <= 0:
                raise SpaceError(f"rexnet: {name} {getattr(self, name)} must be above 0, at least one of them.")

    @property
    def elastic(self) -> bool:
        """Weights are not shared: one gene changes every width."""
        return False

    def genes(self) -> tuple[Gene, ...]:
        """Three numbers that shape the whole network, then per stage expansion and squeeze-excite."""
        genes = [
            Gene("width", self.widths, kind="ordered"),
            Gene("depth", self.depths, kind="ordered"),
            Gene("growth", self.growths, kind="ordered"),
        ]
        for stage in range(len(self.strides)):
            if stage:
                genes.append(Gene(f"stages.{stage}.expansion", self.expansions, kind="ordered"))
            genes.append(Gene(f"stages.{stage}.squeeze", self.squeezes))
        return tuple(genes)

    def slots(self) -> tuple[Slot, ...]:
        """Stem, every block that may exist, features and classifier."""
        side = -(-self.resolution // self.stem_stride)
        slots = [Slot(name="stem", genes=("width",), side=self.resolution, build=self._stem)]
        for stage, stride in enumerate(self.strides):
            for block in range(self._stage_depths(self.depths[-1])[stage]):
                slots.append(self._block_slot(stage, block, side))
                side = side if block else -(-side // stride)
        return (
            *slots,
            Slot(name="features", genes=("width", "depth", "growth"), side=side, build=self._features),
            Slot(name="head", genes=("width",), side=side, build=self._head),
        )

    def _stage_depths(self, depth: float) -> tuple[int, ...]:
        return tuple(math.ceil(blocks * depth) for blocks in self.base_depths)

    def _channels(self, choices: Choices) -> tuple[int, ...]:
        """Channels that leave the stem, then every block."""
        width = number(choices, "width")
        blocks = sum(self._stage_depths(number(choices, "depth")))
        channels = rexnet_channels(blocks, initial=self.initial, growth=whole(choices, "growth"), width=width)
        return self._stem_width(choices), *channels

    def _stem_width(self, choices: Choices) -> int:
        return round(self.stem_channels * max(number(choices, "width"), 1.0))

    def _stem(self, choices: Choices) -> Layer:
        spec = ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=self._stem_width(choices),
            kernel=3,
            stride=self.stem_stride,
            activation="silu",
        )
        return Layer("stem", CONV_NORM, spec)

    def _features(self, choices: Choices) -> Layer:
        spec = ConvNormSpec(
            in_channels=self._channels(choices)[-1], out_channels=self._feature_width(choices), activation="silu"
        )
        return Layer("features", CONV_NORM, spec)

    def _feature_width(self, choices: Choices) -> int:
        return int(self.features * number(choices, "width") + 0.5)

    def _head(self, choices: Choices) -> Layer:
        spec = ClassifierSpec(in_channels=self._feature_width(choices), classes=self.classes)
        return Layer("head", CLASSIFIER, spec)

    def _block_slot(self, stage: int, block: int, side: int) -> Slot:
        name = f"stages.{stage}.{block}"
        expansion, squeeze = f"stages.{stage}.expansion", f"stages.{stage}.squeeze"

        def build(choices: Choices) -> Layer | None:
            depths = self._stage_depths(number(choices, "depth"))
            if depths[stage] <= block:
                return None
            entry, width = self._channels(choices)[sum(depths[:stage]) + block :][:2]
            hidden = entry * whole(choices, expansion) if stage else entry
            spec = PartialBottleneckSpec(
                in_channels=entry,
                hidden=hidden,
                out_channels=width,
                stride=1 if block else self.strides[stage],
                squeezed=max(int(hidden * SQUEEZE), 1) if choices[squeeze] else 0,
                widens=stage > 0,
            )
            return Layer(name, PARTIAL_BOTTLENECK, spec)

        genes = ("width", "depth", "growth", *((expansion,) if stage else ()), squeeze)
        return Slot(name=name, genes=genes, side=side, build=build)


PRESETS: Final[Mapping[str, ReXNetSpec]] = MappingProxyType({
    # The published widths, and other depths, slopes and expansions.
    "published": ReXNetSpec(
        in_channels=3, resolution=224, classes=1000, widths=(0.8, 1.0, 1.3, 1.5, 2.0, 3.0), depths=(1.0, 1.5, 2.0),
        growths=(120, 180, 240), expansions=(3, 4, 6),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": ReXNetSpec(
        in_channels=3, resolution=64, classes=10, widths=(0.8, 1.0, 1.25, 1.5), depths=(1.0, 1.5, 2.0),
        growths=(80, 100, 120, 140, 160), expansions=(3, 4, 6), base_depths=(1, 2, 2, 3), strides=(1, 2, 2, 2),
        features=320, stem_stride=1,
    ),
    # For tests: a few hundred networks of a few thousand weights.
    "tiny": ReXNetSpec(
        in_channels=1, resolution=11, classes=10, widths=(0.8, 1.0, 1.5), depths=(1.0, 1.5), growths=(12, 20),
        expansions=(2, 3), base_depths=(1, 1, 2), strides=(1, 2, 2), initial=6, stem_channels=8, features=24,
        stem_stride=1,
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _published(width: float) -> Callable[[int | None], tuple[SearchSpace, Architecture]]:
    def build(resolution: int | None) -> tuple[SearchSpace, Architecture]:
        space = resized(PRESETS["published"], resolution, name="rexnet", preset="published")
        choices: dict[str, Value] = {"width": width, "depth": 1.0, "growth": 180}
        choices |= {f"stages.{stage}.expansion": 6 for stage in range(1, 6)}
        choices |= {f"stages.{stage}.squeeze": stage >= 2 for stage in range(6)}
        return space, space.architecture(choices)

    return build


REFERENCES: Final[Mapping[str, Callable[[int | None], tuple[SearchSpace, Architecture]]]] = MappingProxyType({
    "rexnet_100": _published(1.0),
    "rexnet_130": _published(1.3),
    "rexnet_150": _published(1.5),
    "rexnet_200": _published(2.0),
    "rexnet_300": _published(3.0),
})  # fmt: skip
"""Published networks: (resolution, None = 224) -> (space, architecture)."""
