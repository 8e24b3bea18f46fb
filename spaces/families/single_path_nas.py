"""Single-Path NAS: twenty blocks, each with kernel 3 or 5 and expansion 3 or 6, or none.

A stage's first block changes the shape and is always there.

Source: Stamoulis et al., Single-Path NAS, ECML 2019, https://arxiv.org/abs/1904.02877 (section 3, table 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .staged_reference import Reference, block_choices, point
from .staged_spec import DS, IR, StagedSpec, StageSpec

__all__ = ["PRESETS", "REFERENCES"]


def _stage(width: int, stride: int, depth: int = 4) -> StageSpec:
    return StageSpec(widths=(width,), depths=(depth,), stride=stride, forms=(IR,), kernels=(3, 5), expansions=(0, 3, 6))


_FIRST: Final = StageSpec(widths=(16,), forms=(DS,), shortcuts=(False,))
_LAST: Final = StageSpec(widths=(320,), kernels=(3,), expansions=(6,))

PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "imagenet": StagedSpec(
        stem_channels=32,
        stages=(_FIRST, _stage(24, 2), _stage(40, 2), _stage(80, 2), _stage(96, 1), _stage(192, 2), _LAST),
        head_channels=1280,
    ),
    "digits": StagedSpec(
        in_channels=1, resolutions=(12,), classes=10, stem_channels=8, stem_stride=1,
        stages=(StageSpec(widths=(8,), forms=(DS,), shortcuts=(False,)), _stage(16, 2, 3), _stage(32, 2, 3)),
        head_channels=128,
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(16,), classes=10, stem_channels=8,
        stages=(
            StageSpec(widths=(8,), forms=(DS,)),
            StageSpec(widths=(16,), depths=(3,), stride=2, kernels=(3, 5), expansions=(0, 2, 3)),
        ),
        head_channels=24,
    ),
})  # fmt: skip
"""The family's presets, by name."""

_SPNASNET: Final = (
    ((3, 3), (3, 3), (3, 3), (3, 0)),
    ((5, 6), (3, 3), (3, 3), (3, 3)),
    ((5, 6), (3, 3), (3, 3), (3, 3)),
    ((5, 6), (5, 3), (5, 3), (5, 3)),
    ((5, 6), (5, 6), (5, 6), (5, 6)),
)

REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "spnasnet_100": point(
        PRESETS["imagenet"],
        block_choices([
            [{}],
            *(
                [{"expansion": e} | ({"kernel": k} if e else {}) for k, e in stage]
                for stage in _SPNASNET
            ),
        ]),
        name="single_path_nas", preset="imagenet", resolution=224,
    ),
})  # fmt: skip
"""Published networks of the family."""
