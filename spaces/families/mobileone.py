"""The MobileOne family: depthwise separable blocks that train as several branches and deploy as one convolution.

With `deploy` a space describes its networks in deployed form: what a device runs. `fuse` turns a trained network into
that form.

Source: Vasu et al., MobileOne: An Improved One Millisecond Mobile Backbone, CVPR 2023,
https://arxiv.org/abs/2206.04040 (its networks S0 to S4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..elastic.residual import CLASSIFIER
from ..gene import Gene
from ..layers.chain import Layer
from ..layers.classifier import ClassifierSpec
from ..layers.reparameterised import BRANCHED_CONV, FUSED_CONV, BranchedConvSpec, fuse
from ..space import SearchSpace
from .chain import Choices, Slot, check_image, resized, whole

__all__ = ["PRESETS", "REFERENCES", "MobileOneSpec", "MobileOneStage", "fuse"]

SQUEEZE = 16
"""Channels per channel inside squeeze-excite, which are a multiple of 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileOneStage:
    """What may vary in a stage.

    Attributes:
        depths: numbers of blocks, ascending.
        widths: output channels, ascending.
        squeezes: how many of the last blocks have squeeze-excite, ascending; at most the smallest depth.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    squeezes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileOneSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image.
        classes: logits.
        stages: in order; the first block of each halves the image.
        branches: convolutions with the full window per block in training form, ascending; the stem has one.
        stem_limit: the stem has the first stage's width, but no more channels than this.
        stem_stride: of the stem.
        deploy: whether networks are in deployed form.
    """

    in_channels: int
    resolution: int
    classes: int
    stages: tuple[MobileOneStage, ...]
    branches: tuple[int, ...] = (1,)
    stem_limit: int = 64
    stem_stride: int = 2
    deploy: bool = False

    def __post_init__(self) -> None:
        check_image(self, "mobileone", self.stem_stride * 2 ** len(self.stages))
        if not isinstance(self.deploy, bool):
            raise SpaceError(f"mobileone: deploy is {self.deploy!r}; it must be true or false.")
        if min(self.branches, default=0) < 1:
            raise SpaceError(f"mobileone: branches {self.branches} must be at least 1.")
        for index, stage in enumerate(self.stages):
            if min(stage.depths, default=0) < 1 or min(stage.widths, default=0) < 1:
                raise SpaceError(
                    f"mobileone stage {index}: depths {stage.depths} and widths {stage.widths} must be at least 1."
                )
            if not 0 <= min(stage.squeezes, default=-1) <= max(stage.squeezes) <= min(stage.depths):
                raise SpaceError(
                    f"mobileone stage {index}: squeezes {stage.squeezes} must be from 0 to the smallest depth, "
                    f"{min(stage.depths)}."
                )

    @property
    def elastic(self) -> bool:
        """Weights are not shared: a block's identity branch exists at some widths only."""
        return False

    def genes(self) -> tuple[Gene, ...]:
        """Per stage depth, width, branches (of no effect in deployed form) and squeeze-excite."""
        branches = self.branches[-1:] if self.deploy else self.branches
        genes: list[Gene] = []
        for index, stage in enumerate(self.stages):
            path = f"stages.{index}"
            genes.append(Gene(f"{path}.branches", branches, kind="ordered"))
            genes.append(Gene(f"{path}.depth", stage.depths, kind="ordered"))
            genes.append(Gene(f"{path}.width", stage.widths, kind="ordered"))
            genes.append(Gene(f"{path}.squeezes", stage.squeezes, kind="ordered"))
        return tuple(genes)

    def slots(self) -> tuple[Slot, ...]:
        """Stem, a depthwise and a pointwise slot per block that may exist, and the classifier."""
        side = -(-self.resolution // self.stem_stride)
        slots = [Slot(name="stem", genes=("stages.0.width",), side=self.resolution, build=self._stem)]
        for index, stage in enumerate(self.stages):
            for block in range(max(stage.depths)):
                slots.append(self._slot(index, block, side, depthwise=True))
                side = side if block else -(-side // 2)
                slots.append(self._slot(index, block, side, depthwise=False))
        last = f"stages.{len(self.stages) - 1}.width"

        def head(choices: Choices) -> Layer:
            return Layer("head", CLASSIFIER, ClassifierSpec(in_channels=whole(choices, last), classes=self.classes))

        return (*slots, Slot(name="head", genes=(last,), side=side, build=head))

    def _layer(self, path: str, spec: BranchedConvSpec) -> Layer:
        return Layer(path, FUSED_CONV if self.deploy else BRANCHED_CONV, spec)

    def _stem_width(self, choices: Choices) -> int:
        return min(whole(choices, "stages.0.width"), self.stem_limit)

    def _stem(self, choices: Choices) -> Layer:
        width = self._stem_width(choices)
        spec = BranchedConvSpec(in_channels=self.in_channels, out_channels=width, stride=self.stem_stride)
        return self._layer("stem", spec)

    def _slot(self, stage: int, block: int, side: int, *, depthwise: bool) -> Slot:
        path = f"stages.{stage}"
        entry = f"{path}.width" if block else f"stages.{max(stage - 1, 0)}.width"
        name = f"{path}.{block}.{'depthwise' if depthwise else 'pointwise'}"

        def build(choices: Choices) -> Layer | None:
            depth, width = whole(choices, f"{path}.depth"), whole(choices, f"{path}.width")
            if depth <= block:
                return None
            before = whole(choices, entry) if stage or block else self._stem_width(choices)
            out = before if depthwise else width
            squeezes = block >= depth - whole(choices, f"{path}.squeezes")
            spec = BranchedConvSpec(
                in_channels=before,
                out_channels=out,
                kernel=3 if depthwise else 1,
                stride=2 if depthwise and not block else 1,
                depthwise=depthwise,
                branches=whole(choices, f"{path}.branches"),
                squeezed=max(8, (out // SQUEEZE + 4) // 8 * 8) if squeezes else 0,
            )
            return self._layer(name, spec)

        genes = (f"{path}.branches", entry, f"{path}.depth", f"{path}.width", f"{path}.squeezes")
        return Slot(name=name, genes=genes, side=side, build=build)


PRESETS: Final[Mapping[str, MobileOneSpec]] = MappingProxyType({
    # Around the five published networks.
    "published": MobileOneSpec(
        in_channels=3, resolution=224, classes=1000, branches=(1, 2, 4),
        stages=(
            MobileOneStage(depths=(1, 2), widths=(48, 64, 96, 128, 192)),
            MobileOneStage(depths=(4, 6, 8), widths=(128, 192, 256, 320, 448)),
            MobileOneStage(depths=(6, 8, 10), widths=(256, 512, 640, 768, 896), squeezes=(0, 5)),
            MobileOneStage(depths=(1,), widths=(1024, 1280, 2048), squeezes=(0, 1)),
        ),
    ),
    # Small colour images at a size where latency is a matter of the network, not of the call.
    "edge64": MobileOneSpec(
        in_channels=3, resolution=64, classes=10, branches=(1, 2), stem_limit=32, stem_stride=1,
        stages=(
            MobileOneStage(depths=(1, 2), widths=(32, 48, 64)),
            MobileOneStage(depths=(2, 3, 4), widths=(64, 96, 128)),
            MobileOneStage(depths=(2, 3, 4), widths=(128, 192, 256), squeezes=(0, 2)),
        ),
    ),
    # For tests: a few hundred networks of a few thousand weights, with every kind of branch.
    "tiny": MobileOneSpec(
        in_channels=1, resolution=11, classes=10, branches=(1, 2), stem_limit=8, stem_stride=1,
        stages=(
            MobileOneStage(depths=(1, 2), widths=(8, 12)),
            MobileOneStage(depths=(1, 2), widths=(12, 24), squeezes=(0, 1)),
        ),
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _published(
    widths: tuple[int, ...], *, branches: int = 1, squeezes: tuple[int, int] = (0, 0)
) -> Callable[[int | None], tuple[SearchSpace, Architecture]]:
    def build(resolution: int | None) -> tuple[SearchSpace, Architecture]:
        space = resized(PRESETS["published"], resolution, name="mobileone", preset="published")
        choices: dict[str, Value] = {f"stages.{stage}.branches": branches for stage in range(4)}
        choices |= {f"stages.{stage}.width": width for stage, width in enumerate(widths)}
        choices |= {f"stages.{stage}.depth": depth for stage, depth in enumerate((2, 8, 10))}
        choices |= {f"stages.{stage}.squeezes": count for stage, count in zip((2, 3), squeezes, strict=True)}
        return space, space.architecture(choices)

    return build


REFERENCES: Final[Mapping[str, Callable[[int | None], tuple[SearchSpace, Architecture]]]] = MappingProxyType({
    "mobileone_s0": _published((48, 128, 256, 1024), branches=4),
    "mobileone_s1": _published((96, 192, 512, 1280)),
    "mobileone_s2": _published((96, 256, 640, 2048)),
    "mobileone_s3": _published((128, 320, 768, 2048)),
    "mobileone_s4": _published((192, 448, 896, 2048), squeezes=(5, 1)),
})  # fmt: skip
"""Published networks in training form: (resolution, None = 224) -> (space, architecture)."""
