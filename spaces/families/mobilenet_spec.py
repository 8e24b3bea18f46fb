"""What the inverted-bottleneck family may vary and what it fixes, and its presets; numbers only, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError
from ..layers.channels import make_divisible

__all__ = ["PRESETS", "MobileNetSpec", "StageSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """What may vary in a stage, and what its preset fixes.

    Attributes:
        depths: numbers of blocks, ascending.
        widths: output channels, ascending.
        kernels: sides of the depthwise window, ascending and odd.
        expansions: hidden channels as multiples of a block's input channels, ascending.
        stride: of the stage's first block.
        activation: of its blocks.
        squeeze: whether its blocks have squeeze-excite (a quarter of the hidden channels).
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[int | float, ...] = (2, 3, 4)
    stride: int = 1
    activation: str = "relu"
    squeeze: bool = False

    def __post_init__(self) -> None:
        if self.depths[:1] < (1,) or self.widths[:1] < (1,) or any(kernel % 2 == 0 for kernel in self.kernels):
            raise SpaceError(
                f"stage with depths {self.depths}, widths {self.widths} and kernels {self.kernels}: depths and widths "
                "must be at least 1, kernels odd."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileNetSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        stem_channels: output channels of the 3x3 stem.
        stem_stride: its stride.
        stages: in order.
        head_channels: features that are averaged and classified.
        divisor: hidden and squeezed channels are multiples of it.
    """

    in_channels: int
    resolution: int
    classes: int
    stem_channels: int
    stages: tuple[StageSpec, ...]
    head_channels: int
    stem_stride: int = 1
    divisor: int = 8

    def __post_init__(self) -> None:
        for name in (
            "in_channels",
            "resolution",
            "classes",
            "stem_channels",
            "head_channels",
            "stem_stride",
            "divisor",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"mobilenet: {name} is {value!r}; it must be an integer of at least 1.")
        if not self.stages:
            raise SpaceError("mobilenet: there are no stages; at least one is needed.")
        for index, stage in enumerate(self.stages):
            for channels in (*self.entry_channels(index), *stage.widths):
                hidden = [make_divisible(channels * factor, self.divisor) for factor in stage.expansions]
                if len(set(hidden)) < len(hidden):
                    # Two genomes would then be one computation, and the genome would no longer be its key.
                    raise SpaceError(
                        f"mobilenet stage {index}: expansions {stage.expansions} of {channels} channels round to "
                        f"{hidden}; make them differ: spread the expansions or lower the divisor ({self.divisor})."
                    )

    def entry_channels(self, stage: int) -> tuple[int, ...]:
        """Channel counts that may enter a stage."""
        return self.stages[stage - 1].widths if stage else (self.stem_channels,)

    def resolutions(self, stage: int) -> tuple[int, int]:
        """Side of the image that enters a stage, and of the one that leaves it."""
        side = -(-self.resolution // self.stem_stride)
        for earlier in self.stages[:stage]:
            side = -(-side // earlier.stride)
        return side, -(-side // self.stages[stage].stride)


PRESETS: Final[Mapping[str, MobileNetSpec]] = MappingProxyType({
    # For tests: a few thousand networks of a few thousand weights, with every feature of the family.
    "tiny": MobileNetSpec(
        in_channels=1, resolution=11, classes=10, stem_channels=8, head_channels=16,
        stages=(
            StageSpec(depths=(1, 2), widths=(8, 16), expansions=(1, 2), stride=2),
            StageSpec(
                depths=(1, 2), widths=(8, 16, 24), expansions=(1, 2), stride=2, activation="hard_swish", squeeze=True,
            ),
        ),
    ),
    # Small grey images, as of handwritten digits.
    "digits": MobileNetSpec(
        in_channels=1, resolution=11, classes=10, stem_channels=8, head_channels=128,
        stages=(
            StageSpec(depths=(1, 2), widths=(12, 16, 24), stride=2),
            StageSpec(depths=(1, 2, 3), widths=(24, 40, 56), stride=2),
            StageSpec(depths=(1, 2, 3), widths=(48, 72, 96), kernels=(3,)),  # at 3x3 a wider window meets little more
        ),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": MobileNetSpec(
        in_channels=3, resolution=64, classes=10, stem_channels=24, head_channels=256,
        stages=(
            StageSpec(depths=(1, 2), widths=(24, 32)),
            StageSpec(depths=(2, 3, 4), widths=(24, 32, 40), kernels=(3, 5, 7), expansions=(3, 4, 6), stride=2),
            StageSpec(
                depths=(2, 3, 4), widths=(48, 64, 80), kernels=(3, 5, 7), expansions=(3, 4, 6), stride=2,
                activation="hard_swish", squeeze=True,
            ),
            StageSpec(
                depths=(2, 3, 4), widths=(96, 112, 128), kernels=(3, 5, 7), expansions=(3, 4, 6), stride=2,
                activation="hard_swish",
            ),
        ),
    ),
})  # fmt: skip
"""The family's presets, by name."""
