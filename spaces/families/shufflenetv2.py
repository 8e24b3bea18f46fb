"""The ShuffleNetV2 family of single-path search: every block is one of four, each with weights of its own.

Source: Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020,
https://arxiv.org/abs/1904.00420 (20 blocks, 4 choices each); Ma et al., ShuffleNet V2, ECCV 2018,
https://arxiv.org/abs/1807.11164.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError
from ..elastic.residual import CLASSIFIER, CONV_NORM
from ..elastic.shuffle import SHUFFLE_BLOCK
from ..gene import Gene
from ..layers.chain import Layer
from ..layers.classifier import ClassifierSpec
from ..layers.conv_norm import ConvNormSpec
from ..layers.shuffle import ShuffleBlockSpec
from .chain import Choices, Slot, check_image

__all__ = ["CHOICES", "PRESETS", "ShuffleNetV2Spec"]

CHOICES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType({
    "k3": (3, 1), "k5": (5, 1), "k7": (7, 1), "xception": (3, 3),
})  # fmt: skip
"""What a block may be: (side of its depthwise windows, number of them)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleNetV2Spec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        stem_channels: of the 3x3 stem.
        depths: blocks per stage; the first of each halves the image.
        widths: channels per stage, even.
        features: channels of the 1x1 convolution before the classifier.
        stem_stride: of the stem.
        choices: what a block may be, names of `CHOICES`.
    """

    in_channels: int
    resolution: int
    classes: int
    stem_channels: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    features: int
    stem_stride: int = 2
    choices: tuple[str, ...] = tuple(CHOICES)

    def __post_init__(self) -> None:
        check_image(self, "shufflenetv2", self.stem_stride * 2 ** len(self.depths))
        if len(self.depths) != len(self.widths) or min(self.depths, default=0) < 1:
            raise SpaceError(
                f"shufflenetv2: depths {self.depths} and widths {self.widths} must be equally many, "
                "and depths at least 1."
            )
        entries = (self.stem_channels, *self.widths)
        for width, entry in zip(self.widths, entries, strict=False):
            if width % 2 or width <= entry:
                raise SpaceError(
                    f"shufflenetv2: width {width} after {entry} channels; a width must be even and larger than the one "
                    "before it, since a block that halves the image keeps the channels that pass by."
                )
        if unknown := [choice for choice in self.choices if choice not in CHOICES]:
            raise SpaceError(f"shufflenetv2: choices {unknown} are unknown; allowed: {list(CHOICES)}.")

    @property
    def elastic(self) -> bool:
        """Weights can be shared: every choice of every block has its own."""
        return True

    def genes(self) -> tuple[Gene, ...]:
        """One choice per block."""
        return tuple(
            Gene(f"stages.{stage}.{block}", self.choices)
            for stage, depth in enumerate(self.depths)
            for block in range(depth)
        )

    def slots(self) -> tuple[Slot, ...]:
        """Stem, blocks, features and classifier."""
        stem = ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=self.stem_channels,
            kernel=3,
            stride=self.stem_stride,
            activation="relu",
        )
        features = ConvNormSpec(in_channels=self.widths[-1], out_channels=self.features, activation="relu")
        classifier = ClassifierSpec(in_channels=self.features, classes=self.classes, bias=False)
        slots = [_fixed(Layer("stem", CONV_NORM, stem), self.resolution)]
        side = -(-self.resolution // self.stem_stride)
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                slots.append(self._block_slot(stage, block, side))
                side = side if block else -(-side // 2)
        features_slot = _fixed(Layer("features", CONV_NORM, features), side)
        return (*slots, features_slot, _fixed(Layer("head", CLASSIFIER, classifier), side))

    def _block_slot(self, stage: int, block: int, side: int) -> Slot:
        name, width = f"stages.{stage}.{block}", self.widths[stage]
        entry = width if block else (self.widths[stage - 1] if stage else self.stem_channels)

        def build(choices: Choices) -> Layer:
            choice = choices[name]
            assert isinstance(choice, str)
            kernel, depthwise = CHOICES[choice]
            spec = ShuffleBlockSpec(
                in_channels=entry,
                out_channels=width,
                kernel=kernel,
                stride=1 if block else 2,
                depthwise=depthwise,
            )
            # The choice is part of the path: each choice has weights of its own.
            return Layer(f"{name}.{choice}", SHUFFLE_BLOCK, spec)

        return Slot(name=name, genes=(name,), side=side, build=build)


def _fixed(layer: Layer, side: int) -> Slot:
    """A slot without a choice."""
    return Slot(name=layer.path, genes=(), side=side, build=lambda _: layer)


PRESETS: Final[Mapping[str, ShuffleNetV2Spec]] = MappingProxyType({
    # The published space: 4^20 networks.
    "spos": ShuffleNetV2Spec(
        in_channels=3, resolution=224, classes=1000, stem_channels=16, depths=(4, 4, 8, 4),
        widths=(64, 160, 320, 640), features=1024,
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": ShuffleNetV2Spec(
        in_channels=3, resolution=64, classes=10, stem_channels=16, stem_stride=1, depths=(3, 4, 3),
        widths=(48, 96, 192), features=256,
    ),
    # For tests: 256 networks of a few thousand weights.
    "tiny": ShuffleNetV2Spec(
        in_channels=1, resolution=11, classes=10, stem_channels=8, stem_stride=1, depths=(2, 2), widths=(16, 24),
        features=16,
    ),
})  # fmt: skip
"""The family's presets, by name."""
