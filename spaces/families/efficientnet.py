"""EfficientNet: compound scaling as a space, with width, depth and resolution as genes.

Source: Tan and Le, EfficientNet, ICML 2019, https://arxiv.org/abs/1905.11946 (table 1, section 3.3): the published
networks B0 to B7 are the points (width, depth, resolution) along alpha**phi, beta**phi, gamma**phi.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .staged_reference import Reference, point
from .staged_spec import DS, SqueezeRule, StagedSpec, StageSpec

__all__ = ["PRESETS", "REFERENCES"]

_SQUEEZE: Final = SqueezeRule(of="input", divisor=1, activation="silu", gate="sigmoid")


def _stage(width: int, depth: int, kernel: int, stride: int) -> StageSpec:
    return StageSpec(
        widths=(width,), depths=(depth,), kernels=(kernel,), stride=stride, squeezes=(0.25,), activation="silu"
    )


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "imagenet": StagedSpec(
        resolutions=(224, 240, 260, 300, 380, 456, 528, 600),
        stem_channels=32, stem_activation="silu",
        stages=(
            StageSpec(widths=(16,), forms=(DS,), squeezes=(0.25,), activation="silu"),
            _stage(24, 2, 3, 2), _stage(40, 2, 5, 2), _stage(80, 3, 3, 2), _stage(112, 3, 5, 1), _stage(192, 4, 5, 2),
            _stage(320, 1, 3, 1),
        ),
        head_channels=1280, head_activation="silu",
        width_multipliers=(1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0),
        depth_multipliers=(1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1),
        squeeze=_SQUEEZE,
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(12, 16), classes=10, stem_channels=8, stem_activation="silu",
        stages=(
            StageSpec(widths=(8,), forms=(DS,), squeezes=(0.25,), activation="silu"),
            StageSpec(widths=(16,), depths=(2,), stride=2, expansions=(3,), squeezes=(0.25,), activation="silu"),
        ),
        head_channels=24, head_activation="silu",
        width_multipliers=(1.0, 1.25, 1.5),
        depth_multipliers=(1.0, 1.4, 2.0),
        squeeze=_SQUEEZE,
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _reference(width: float, depth: float, resolution: int) -> Reference:
    choices = {"width": width, "depth": depth}
    return point(PRESETS["imagenet"], choices, name="efficientnet", preset="imagenet", resolution=resolution)


REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "efficientnet_b0": _reference(1.0, 1.0, 224),
    "efficientnet_b1": _reference(1.0, 1.1, 240),
    "efficientnet_b2": _reference(1.1, 1.2, 256),
    "efficientnet_b3": _reference(1.2, 1.4, 288),
})  # fmt: skip
"""Published networks, at the resolutions of the pytorch-image-models weights (B2 and B3: below the paper's)."""
