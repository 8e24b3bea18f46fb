"""The GPU-efficient family: full convolutions, bottlenecks or depthwise blocks, chosen per stage.

Source: Lin et al., Neural Architecture Design for GPU-Efficient Networks, https://arxiv.org/abs/2006.14090 (its blocks
XX, BL and DW, and their ratios; its networks have full convolutions early and depthwise ones late).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..elastic.residual import CLASSIFIER, CONV_NORM, RESIDUAL
from ..gene import Gene
from ..layers.chain import Layer
from ..layers.channels import make_divisible
from ..layers.classifier import ClassifierSpec
from ..layers.conv_norm import ConvNormSpec
from ..layers.residual import ResidualSpec
from ..space import SearchSpace
from .chain import Choices, Slot, check_image, resized, whole

__all__ = ["KINDS", "PRESETS", "REFERENCES", "GENetSpec", "GENetStage"]

KINDS: Final[Mapping[str, float]] = MappingProxyType({"XX": 1.0, "BL": 0.25, "DW": 3.0})
"""Block kinds (full convolutions, bottleneck, depthwise) and their hidden channels per output channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GENetStage:
    """What may vary in a stage.

    Attributes:
        depths: numbers of blocks, ascending.
        widths: output channels, ascending.
        kinds: names of `KINDS`.
        stride: of the first block.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    kinds: tuple[str, ...] = tuple(KINDS)
    stride: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GENetSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        stem_widths: channels of the 3x3 stem.
        stages: in order.
        features: channels of the 1x1 convolution before the classifier.
        stem_stride: of the stem.
    """

    in_channels: int
    resolution: int
    classes: int
    stem_widths: tuple[int, ...]
    stages: tuple[GENetStage, ...]
    features: tuple[int, ...]
    stem_stride: int = 2

    def __post_init__(self) -> None:
        stride = self.stem_stride
        for index, stage in enumerate(self.stages):
            stride *= stage.stride
            if min(stage.depths, default=0) < 1 or min(stage.widths, default=0) < 1:
                raise SpaceError(
                    f"genet stage {index}: depths {stage.depths} and widths {stage.widths} must be at least 1."
                )
            if unknown := [kind for kind in stage.kinds if kind not in KINDS]:
                raise SpaceError(f"genet stage {index}: kinds {unknown} are unknown; allowed: {list(KINDS)}.")
        check_image(self, "genet", stride)

    @property
    def elastic(self) -> bool:
        """Weights are not shared: kinds have no weights in common."""
        return False

    def genes(self) -> tuple[Gene, ...]:
        """Stem, per stage kind, depth and width, and the features."""
        genes = [Gene("stem.width", self.stem_widths, kind="ordered")]
        for index, stage in enumerate(self.stages):
            path = f"stages.{index}"
            genes.append(Gene(f"{path}.kind", stage.kinds))
            genes.append(Gene(f"{path}.depth", stage.depths, kind="ordered"))
            genes.append(Gene(f"{path}.width", stage.widths, kind="ordered"))
        return (*genes, Gene("features.width", self.features, kind="ordered"))

    def slots(self) -> tuple[Slot, ...]:
        """Stem, every block that may exist, features and classifier."""
        side = -(-self.resolution // self.stem_stride)
        slots = [Slot(name="stem", genes=("stem.width",), side=self.resolution, build=self._stem)]
        for index, stage in enumerate(self.stages):
            for block in range(max(stage.depths)):
                slots.append(self._block_slot(index, block, side))
                side = side if block else -(-side // stage.stride)
        last = f"stages.{len(self.stages) - 1}.width"

        def features(choices: Choices) -> Layer:
            spec = ConvNormSpec(
                in_channels=whole(choices, last), out_channels=whole(choices, "features.width"), activation="relu"
            )
            return Layer("features", CONV_NORM, spec)

        return (
            *slots,
            Slot(name="features", genes=(last, "features.width"), side=side, build=features),
            Slot(name="head", genes=("features.width",), side=side, build=self._head),
        )

    def _stem(self, choices: Choices) -> Layer:
        spec = ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=whole(choices, "stem.width"),
            kernel=3,
            stride=self.stem_stride,
            activation="relu",
        )
        return Layer("stem", CONV_NORM, spec)

    def _head(self, choices: Choices) -> Layer:
        spec = ClassifierSpec(in_channels=whole(choices, "features.width"), classes=self.classes)
        return Layer("head", CLASSIFIER, spec)

    def _block_slot(self, stage: int, block: int, side: int) -> Slot:
        path, name = f"stages.{stage}", f"stages.{stage}.{block}"
        entry = f"{path}.width" if block else (f"stages.{stage - 1}.width" if stage else "stem.width")

        def build(choices: Choices) -> Layer | None:
            if whole(choices, f"{path}.depth") <= block:
                return None
            kind, width = choices[f"{path}.kind"], whole(choices, f"{path}.width")
            assert isinstance(kind, str)
            spec = ResidualSpec(
                in_channels=whole(choices, entry),
                hidden=make_divisible(width * KINDS[kind]),
                out_channels=width,
                stride=1 if block else self.stages[stage].stride,
                form="basic" if kind == "XX" else "bottleneck",
                group_width=1 if kind == "DW" else 0,
            )
            return Layer(name, RESIDUAL, spec)

        genes = (entry, f"{path}.kind", f"{path}.depth", f"{path}.width")
        return Slot(name=name, genes=genes, side=side, build=build)


PRESETS: Final[Mapping[str, GENetSpec]] = MappingProxyType({
    # Around the three published networks.
    "published": GENetSpec(
        in_channels=3, resolution=224, classes=1000, stem_widths=(13, 24, 32), features=(1920, 2560),
        stages=(
            GENetStage(depths=(1, 2), widths=(48, 64, 96, 128)),
            GENetStage(depths=(1, 2, 3), widths=(48, 96, 128, 192)),
            GENetStage(depths=(4, 5, 6, 7, 8), widths=(384, 512, 640)),
            GENetStage(depths=(2, 3, 4, 5, 6), widths=(480, 560, 640)),
            GENetStage(depths=(1, 2, 3, 4), widths=(256, 384, 512, 640), stride=1),
        ),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": GENetSpec(
        in_channels=3, resolution=64, classes=10, stem_widths=(16, 24, 32), features=(256, 512), stem_stride=1,
        stages=(
            GENetStage(depths=(1, 2), widths=(24, 32, 48)),
            GENetStage(depths=(1, 2, 3), widths=(48, 64, 96)),
            GENetStage(depths=(2, 3, 4), widths=(96, 128, 192)),
            GENetStage(depths=(1, 2, 3), widths=(96, 128, 192), stride=1),
        ),
    ),
    # For tests: a few thousand networks of a few thousand weights, with every kind of block.
    "tiny": GENetSpec(
        in_channels=1, resolution=11, classes=10, stem_widths=(5, 8), features=(16, 24), stem_stride=1,
        stages=(GENetStage(depths=(1, 2), widths=(8, 32)), GENetStage(depths=(1, 2), widths=(8, 32), stride=1)),
    ),
})  # fmt: skip
"""The family's presets, by name."""

_STAGES: Final[Mapping[str, tuple[int, int, tuple[tuple[str, int, int], ...]]]] = MappingProxyType({
    "gernet_s": (13, 1920, (("XX", 1, 48), ("XX", 3, 48), ("BL", 7, 384), ("DW", 2, 560), ("DW", 1, 256))),
    "gernet_m": (32, 2560, (("XX", 1, 128), ("XX", 2, 192), ("BL", 6, 640), ("DW", 4, 640), ("DW", 1, 640))),
    "gernet_l": (32, 2560, (("XX", 1, 128), ("XX", 2, 192), ("BL", 6, 640), ("DW", 5, 640), ("DW", 4, 640))),
})  # fmt: skip
"""GENet-Small, Normal and Large: stem, features, then per stage (kind, depth, width)."""


def _published(name: str, resolution: int | None) -> tuple[SearchSpace, Architecture]:
    space = resized(PRESETS["published"], resolution, name="genet", preset="published")
    stem, features, stages = _STAGES[name]
    choices: dict[str, Value] = {"stem.width": stem, "features.width": features}
    for index, (kind, depth, width) in enumerate(stages):
        path = f"stages.{index}"
        choices |= {f"{path}.kind": kind, f"{path}.depth": depth, f"{path}.width": width}
    return space, space.architecture(choices)


REFERENCES: Final[Mapping[str, Callable[[int | None], tuple[SearchSpace, Architecture]]]] = MappingProxyType({
    "gernet_s": lambda resolution: _published("gernet_s", resolution),
    "gernet_m": lambda resolution: _published("gernet_m", resolution),
    "gernet_l": lambda resolution: _published("gernet_l", 256 if resolution is None else resolution),
})  # fmt: skip
"""Published networks: (resolution, None = the published one) -> (space, architecture)."""
