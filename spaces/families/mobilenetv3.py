"""MobileNetV3, large and small: depth per stage; kernel, expansion and squeeze-excite per block.

Source: Howard et al., Searching for MobileNetV3, ICCV 2019, https://arxiv.org/abs/1905.02244 (tables 1 and 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..architecture import Value
from .staged_reference import Reference, block_choices, point
from .staged_spec import DS, StagedSpec, StageSpec

__all__ = ["PRESETS", "REFERENCES"]


def _stage(
    width: int,
    depths: tuple[int, ...],
    expansions: tuple[int | float, ...] = (3, 4, 6),
    *,
    stride: int = 1,
    activation: str = "hard_swish",
) -> StageSpec:
    return StageSpec(
        widths=(width,), depths=depths, stride=stride, kernels=(3, 5, 7), expansions=expansions, squeezes=(0, 0.25),
        activation=activation,
    )  # fmt: skip


def _spec(stages: tuple[StageSpec, ...], head_channels: int, mixed: int) -> StagedSpec:
    return StagedSpec(
        stem_channels=16, stem_activation="hard_swish", stages=stages, head_channels=head_channels, mixed=mixed,
        head_activation="hard_swish",
    )  # fmt: skip


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "large": _spec(
        (
            StageSpec(widths=(16,), forms=(DS,), squeezes=(0, 0.25)),
            _stage(24, (1, 2, 3), stride=2, activation="relu"),
            _stage(40, (2, 3, 4), stride=2, activation="relu"),
            _stage(80, (3, 4, 5), (2.3, 2.5, 3, 4, 6), stride=2),
            _stage(112, (1, 2, 3, 4)),
            _stage(160, (2, 3, 4), stride=2),
        ), 960, 1280,
    ),
    "small": _spec(
        (
            StageSpec(widths=(16,), forms=(DS,), squeezes=(0, 0.25), stride=2),
            _stage(24, (1, 2, 3), (3, 3.67, 4.5, 6), stride=2, activation="relu"),
            _stage(40, (2, 3, 4), stride=2),
            _stage(48, (1, 2, 3)),
            _stage(96, (2, 3, 4), stride=2),
        ), 576, 1024,
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(16,), classes=10, stem_channels=8, stem_activation="hard_swish",
        stages=(
            StageSpec(widths=(8,), forms=(DS,), squeezes=(0, 0.25)),
            StageSpec(
                widths=(8,), depths=(1, 2), stride=2, kernels=(3, 5), expansions=(2, 3, 4), squeezes=(0, 0.25),
                activation="hard_swish",
            ),
        ),
        head_channels=24, head_activation="hard_swish", mixed=16,
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _block(kernel: int, expansion: float, squeeze: float = 0) -> dict[str, Value]:
    return {"kernel": kernel, "expansion": expansion, "squeeze": squeeze}


_LARGE: Final = block_choices([
    [{"squeeze": 0}],
    [_block(3, 4), _block(3, 3)],
    [_block(5, 3, 0.25)] * 3,
    [_block(3, 6), _block(3, 2.5), _block(3, 2.3), _block(3, 2.3)],
    [_block(3, 6, 0.25)] * 2,
    [_block(5, 6, 0.25)] * 3,
])  # fmt: skip

_SMALL: Final = block_choices([
    [{"squeeze": 0.25}],
    [_block(3, 4.5), _block(3, 3.67)],
    [_block(5, 4, 0.25), _block(5, 6, 0.25), _block(5, 6, 0.25)],
    [_block(5, 3, 0.25)] * 2,
    [_block(5, 6, 0.25)] * 3,
])  # fmt: skip


def _reference(preset: str, choices: dict[str, Value]) -> Reference:
    return point(PRESETS[preset], choices, name="mobilenetv3", preset=preset, resolution=224)


REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "mobilenetv3_large_100": _reference("large", _LARGE),
    "mobilenetv3_small_100": _reference("small", _SMALL),
})  # fmt: skip
"""Published networks of the family."""
