"""The StarNet family: blocks that multiply two widenings of their input; width, depths and widening are elastic.

Source: Ma et al., Rewrite the Stars, CVPR 2024, https://arxiv.org/abs/2403.19967 (its networks S1 to S4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..elastic.residual import CLASSIFIER, CONV_NORM
from ..elastic.star import STAR_BLOCK
from ..gene import Gene, When
from ..layers.chain import Layer
from ..layers.classifier import ClassifierSpec
from ..layers.conv_norm import ConvNormSpec
from ..layers.star import ACTIVATION, StarBlockSpec
from ..space import SearchSpace
from .chain import Choices, Slot, block_genes, check_image, resized, whole

__all__ = ["PRESETS", "REFERENCES", "StarNetSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StarNetSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        widths: channels of the first stage, ascending; every later stage doubles them.
        depths: per stage the numbers of star blocks, ascending.
        expansions: channels of a block's product per channel, ascending.
        kernels: sides of the depthwise windows, ascending and odd.
        stem_channels: of the stem.
        stem_stride: of the stem.
    """

    in_channels: int
    resolution: int
    classes: int
    widths: tuple[int, ...]
    depths: tuple[tuple[int, ...], ...]
    expansions: tuple[int, ...] = (4,)
    kernels: tuple[int, ...] = (7,)
    stem_channels: int = 32
    stem_stride: int = 2

    def __post_init__(self) -> None:
        check_image(self, "starnet", self.stem_stride * 2 ** len(self.depths))
        if min(self.widths, default=0) < 1 or min(self.expansions, default=0) < 1:
            raise SpaceError(f"starnet: widths {self.widths} and expansions {self.expansions} must be at least 1.")
        if not self.kernels or any(kernel % 2 == 0 for kernel in self.kernels):
            raise SpaceError(f"starnet: kernels {self.kernels} must be odd, at least one of them.")
        for stage, depths in enumerate(self.depths):
            if min(depths, default=0) < 1:
                raise SpaceError(f"starnet stage {stage}: depths {depths} must be at least 1.")

    @property
    def elastic(self) -> bool:
        """Weights can be shared: smaller sizes are prefixes and centres of larger ones."""
        return True

    def genes(self) -> tuple[Gene, ...]:
        """Width, then per stage its depth and per block kernel and expansion."""

        def block(path: str, when: tuple[When, ...]) -> tuple[Gene, ...]:
            return (
                Gene(f"{path}.kernel", self.kernels, kind="ordered", when=when),
                Gene(f"{path}.expansion", self.expansions, kind="ordered", when=when),
            )

        genes = [Gene("width", self.widths, kind="ordered", default=len(self.widths) - 1)]
        for stage, depths in enumerate(self.depths):
            genes += block_genes(f"stages.{stage}", depths, block)
        return tuple(genes)

    def slots(self) -> tuple[Slot, ...]:
        """Stem, per stage a strided convolution and its blocks, and the classifier."""
        side = -(-self.resolution // self.stem_stride)
        slots = [Slot(name="stem", genes=(), side=self.resolution, build=self._stem)]
        for stage, depths in enumerate(self.depths):
            slots.append(self._down_slot(stage, side))
            side = -(-side // 2)
            slots += [self._block_slot(stage, block, side) for block in range(max(depths))]
        return (*slots, Slot(name="head", genes=("width",), side=side, build=self._head))

    def _stem(self, _: Choices) -> Layer:
        return Layer(
            "stem", CONV_NORM, self._strided(self.in_channels, self.stem_channels, self.stem_stride, ACTIVATION)
        )

    def _head(self, choices: Choices) -> Layer:
        channels = whole(choices, "width") * 2 ** (len(self.depths) - 1)
        return Layer("head", CLASSIFIER, ClassifierSpec(in_channels=channels, classes=self.classes, normed=True))

    def _strided(self, channels: int, out: int, stride: int, activation: str = "") -> ConvNormSpec:
        return ConvNormSpec(
            in_channels=channels, out_channels=out, kernel=3, stride=stride, activation=activation, bias=True
        )

    def _down_slot(self, stage: int, side: int) -> Slot:
        name = f"stages.{stage}.down"

        def build(choices: Choices) -> Layer:
            width = whole(choices, "width") * 2**stage
            return Layer(name, CONV_NORM, self._strided(width // 2 if stage else self.stem_channels, width, 2))

        return Slot(name=name, genes=("width",), side=side, build=build)

    def _block_slot(self, stage: int, block: int, side: int) -> Slot:
        name, depth = f"stages.{stage}.{block}", f"stages.{stage}.depth"

        def build(choices: Choices) -> Layer | None:
            if whole(choices, depth) <= block:
                return None
            width = whole(choices, "width") * 2**stage
            spec = StarBlockSpec(
                in_channels=width,
                hidden=width * whole(choices, f"{name}.expansion"),
                kernel=whole(choices, f"{name}.kernel"),
            )
            return Layer(name, STAR_BLOCK, spec)

        genes = ("width", depth, f"{name}.kernel", f"{name}.expansion")
        return Slot(name=name, genes=genes, side=side, build=build)


PRESETS: Final[Mapping[str, StarNetSpec]] = MappingProxyType({
    # Around the four published networks.
    "published": StarNetSpec(
        in_channels=3, resolution=224, classes=1000, widths=(16, 20, 24, 32),
        depths=((1, 2, 3), (1, 2, 3), (3, 4, 6, 8, 10, 12), (1, 2, 3, 4, 5)), expansions=(3, 4),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": StarNetSpec(
        in_channels=3, resolution=64, classes=10, widths=(16, 24, 32), depths=((1, 2), (2, 3, 4), (1, 2, 3)),
        expansions=(2, 3, 4), kernels=(3, 5, 7), stem_channels=16, stem_stride=1,
    ),
    # For tests: about a thousand networks of a few thousand weights.
    "tiny": StarNetSpec(
        in_channels=1, resolution=11, classes=10, widths=(6, 8), depths=((1, 2), (1, 2)), expansions=(2, 3),
        kernels=(3, 5), stem_channels=8, stem_stride=1,
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _published(width: int, depths: tuple[int, ...]) -> Callable[[int | None], tuple[SearchSpace, Architecture]]:
    def build(resolution: int | None) -> tuple[SearchSpace, Architecture]:
        space = resized(PRESETS["published"], resolution, name="starnet", preset="published")
        choices: dict[str, Value] = {"width": width}
        for stage, depth in enumerate(depths):
            choices[f"stages.{stage}.depth"] = depth
            choices |= {f"stages.{stage}.{block}.expansion": 4 for block in range(depth)}
        return space, space.architecture(choices)

    return build


REFERENCES: Final[Mapping[str, Callable[[int | None], tuple[SearchSpace, Architecture]]]] = MappingProxyType({
    "starnet_s1": _published(24, (2, 2, 8, 3)),
    "starnet_s2": _published(32, (1, 2, 6, 2)),
    "starnet_s3": _published(32, (2, 2, 8, 4)),
    "starnet_s4": _published(32, (3, 3, 12, 5)),
})  # fmt: skip
"""Published networks: (resolution, None = 224) -> (space, architecture)."""
