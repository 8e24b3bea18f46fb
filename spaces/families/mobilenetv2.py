"""MobileNetV2: inverted residuals with ReLU6; depth and width per stage, kernel and expansion per block.

Source: Sandler et al., MobileNetV2, CVPR 2018, https://arxiv.org/abs/1801.04381 (table 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .staged_reference import Reference, block_choices, point
from .staged_spec import DS, StagedSpec, StageSpec

__all__ = ["PRESETS", "REFERENCES"]


def _stage(width: int, depths: tuple[int, ...], stride: int) -> StageSpec:
    widths = (width * 3 // 4, width, width * 5 // 4)
    return StageSpec(
        widths=widths, depths=depths, stride=stride, kernels=(3, 5, 7), expansions=(3, 4, 6), activation="relu6"
    )


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "imagenet": StagedSpec(
        stem_channels=32, stem_activation="relu6",
        stages=(
            StageSpec(widths=(16,), forms=(DS,), activation="relu6"),
            _stage(24, (1, 2, 3), 2),
            _stage(32, (2, 3, 4), 2),
            _stage(64, (2, 3, 4), 2),
            _stage(96, (2, 3, 4), 1),
            _stage(160, (2, 3, 4), 2),
            _stage(320, (1,), 1),
        ),
        head_channels=1280, head_activation="relu6",
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(16,), classes=10, stem_channels=8, stem_activation="relu6",
        stages=(
            StageSpec(widths=(8,), forms=(DS,), activation="relu6"),
            StageSpec(widths=(8, 12), depths=(1, 2), kernels=(3, 5), expansions=(2, 3), stride=2, activation="relu6"),
            StageSpec(widths=(16, 24), stride=2, kernels=(3, 5), expansions=(2, 3), activation="relu6"),
        ),
        head_channels=24, head_activation="relu6",
    ),
})  # fmt: skip
"""The family's presets, by name."""

_WIDTHS_AND_DEPTHS = ((24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1))

REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "mobilenetv2_100": point(
        PRESETS["imagenet"],
        block_choices([[{}], *([{"kernel": 3, "expansion": 6}] * depth for _, depth in _WIDTHS_AND_DEPTHS)])
        | {f"stages.{stage}.width": width for stage, (width, _) in enumerate(_WIDTHS_AND_DEPTHS, start=1)},
        name="mobilenetv2", preset="imagenet", resolution=224,
    ),
})  # fmt: skip
"""Published networks of the family."""
