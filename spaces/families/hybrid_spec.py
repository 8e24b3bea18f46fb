"""What hybrid networks may vary and what they fix, and the family's presets; numbers only, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError

__all__ = ["PRESETS", "HybridSpec", "HybridStageSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridStageSpec:
    """What may vary in a stage.

    Attributes:
        depths: numbers of blocks, ascending.
        widths: channels, ascending.
        attention: whether its blocks may be attention.
        kernels: sides of the depthwise windows, ascending and odd.
        expansions: hidden channels of convolutional blocks as multiples of the width, ascending.
        heads: attention heads, ascending.
        ratios: hidden features after attention as multiples of the width, ascending.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    attention: bool
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[int, ...] = (2, 4)
    heads: tuple[int, ...] = (2, 4)
    ratios: tuple[int, ...] = (2, 4)

    def __post_init__(self) -> None:
        if min(self.depths) < 1 or min(self.widths) < 1 or any(kernel % 2 == 0 for kernel in self.kernels):
            raise SpaceError(
                f"hybrid stage with depths {self.depths}, widths {self.widths} and kernels {self.kernels}: depths and "
                "widths must be at least 1, kernels odd."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        stem_channels: output channels of the 3x3 stem, which halves the image.
        stages: in order; each halves the image once more.
        head_channels: features that are averaged and classified.
        head_dim: features of an attention head.
    """

    in_channels: int = 3
    resolution: int = 224
    classes: int = 1000
    stem_channels: int
    stages: tuple[HybridStageSpec, ...]
    head_channels: int
    head_dim: int = 32

    def __post_init__(self) -> None:
        for name in ("in_channels", "resolution", "classes", "stem_channels", "head_channels", "head_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"hybrid: {name} is {value!r}; it must be an integer of at least 1.")
        if self.resolution < 2 ** len(self.stages):
            raise SpaceError(
                f"hybrid: resolution {self.resolution} is too small for {len(self.stages)} stages that each halve the "
                f"image; use at least {2 ** len(self.stages)}."
            )

    def side(self, stage: int) -> int:
        """Side of the image that leaves a stage; -1 = the stem."""
        return -(-self.resolution // 2 ** (stage + 2))


PRESETS: Final[Mapping[str, HybridSpec]] = MappingProxyType({
    # A handful of small layers for tests.
    "tiny": HybridSpec(
        in_channels=1, resolution=11, classes=10, stem_channels=4, head_channels=16, head_dim=4,
        stages=(
            HybridStageSpec(depths=(1,), widths=(4, 8), attention=False, heads=(1, 2)),
            HybridStageSpec(depths=(1, 2), widths=(8, 12), attention=True, heads=(1, 2)),
        ),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": HybridSpec(
        resolution=64, classes=10, stem_channels=24, head_channels=256, head_dim=16,
        stages=(
            HybridStageSpec(depths=(1, 2), widths=(24, 32, 40), attention=False),
            HybridStageSpec(depths=(2, 3), widths=(48, 64, 80), attention=True),
            HybridStageSpec(depths=(2, 3, 4), widths=(96, 128), attention=True, heads=(2, 4, 8)),
        ),
    ),
    # ImageNet at the sizes of AsCAN's smaller networks.
    "ascan": HybridSpec(
        stem_channels=64, head_channels=1536,
        stages=(
            HybridStageSpec(depths=(2, 3), widths=(64, 96), attention=False),
            HybridStageSpec(depths=(2, 3, 4, 5), widths=(128, 160, 192), attention=True, heads=(4, 6)),
            HybridStageSpec(depths=(6, 8, 10, 12), widths=(256, 320, 384), attention=True, heads=(8, 12)),
            HybridStageSpec(depths=(2, 3, 4), widths=(512, 640, 768), attention=True, heads=(16, 24)),
        ),
    ),
})  # fmt: skip
"""The family's presets, by name."""
