"""ProxylessNAS: twenty-one blocks, each with kernel 3, 5 or 7 and expansion 3 or 6, or none.

A stage's first block changes the shape and is always there. (The Once-for-All space around the networks found here,
with elastic depth, is `ofa_proxylessnas`.)

Source: Cai et al., ProxylessNAS, ICLR 2019, https://arxiv.org/abs/1812.00332 (section 4.2), and its reference
implementation, https://github.com/mit-han-lab/proxylessnas, search/models/super_nets/super_proxyless.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .staged_spec import DS, StagedSpec, StageSpec

__all__ = ["PRESETS"]


def _stage(
    width: int, stride: int, depth: int = 4, kernels: tuple[int, ...] = (3, 5, 7), expansions: tuple[int, ...] = (3, 6)
) -> StageSpec:
    return StageSpec(
        widths=(width,),
        depths=(depth,),
        stride=stride,
        kernels=kernels,
        expansions=(0, *expansions),
        activation="relu6",
    )


def _first(width: int) -> StageSpec:
    return StageSpec(widths=(width,), forms=(DS,), shortcuts=(False,), activation="relu6")


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "imagenet": StagedSpec(
        stem_channels=32, stem_activation="relu6",
        stages=(
            _first(16), _stage(24, 2), _stage(40, 2), _stage(80, 2), _stage(96, 1), _stage(192, 2), _stage(320, 1, 1),
        ),
        head_channels=1280, head_activation="relu6",
    ),
    "digits": StagedSpec(
        in_channels=1, resolutions=(12,), classes=10, stem_channels=8, stem_stride=1, stem_activation="relu6",
        stages=(_first(8), _stage(16, 2, 3, (3, 5)), _stage(32, 2, 3, (3, 5))),
        head_channels=128, head_activation="relu6",
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(16,), classes=10, stem_channels=8, stem_activation="relu6",
        stages=(_first(8), _stage(16, 2, 3, expansions=(2, 3))),
        head_channels=24, head_activation="relu6",
    ),
})  # fmt: skip
"""The family's presets, by name: the published one, and two for small grey images."""
