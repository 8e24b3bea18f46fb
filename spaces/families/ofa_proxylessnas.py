"""The Once-for-All space around ProxylessNAS: elastic kernel, expansion and depth in six units, and the resolution.

Genes stand in the order of the published encoding: 21 kernels, 21 expansions, 5 depths (the last unit has one block),
resolution.

Source: Cai et al., ProxylessNAS, ICLR 2019, https://arxiv.org/abs/1812.00332; Once-for-All, ICLR 2020,
https://arxiv.org/abs/1908.09791, and its reference implementation, ofa_proxyless.py. The released supernet has width
1.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .ofa_mobilenetv3 import GENE_ORDER, RESOLUTIONS
from .staged_spec import DS, StagedSpec, StageSpec

__all__ = ["PRESETS"]


def _unit(width: int, stride: int, depths: tuple[int, ...] = (2, 3, 4)) -> StageSpec:
    return StageSpec(
        widths=(width,),
        depths=depths,
        stride=stride,
        kernels=(3, 5, 7),
        expansions=(3, 4, 6),
        activation="relu6",
    )


def _spec(multiplier: float) -> StagedSpec:
    return StagedSpec(
        resolutions=RESOLUTIONS,
        stem_channels=32,
        stem_activation="relu6",
        stages=(
            StageSpec(widths=(16,), forms=(DS,), activation="relu6"),
            _unit(24, 2),
            _unit(40, 2),
            _unit(80, 2),
            _unit(96, 1),
            _unit(192, 2),
            _unit(320, 1, (1,)),
        ),
        head_channels=1280,
        head_activation="relu6",
        width_multipliers=(multiplier,),
        gene_order=GENE_ORDER,
    )


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "w1.3": _spec(1.3),
    "w1.0": _spec(1),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(12, 16), classes=10, stem_channels=8, stem_activation="relu6",
        stages=(
            StageSpec(widths=(8,), forms=(DS,), activation="relu6"),
            StageSpec(widths=(8,), depths=(1, 2), stride=2, kernels=(3, 5), expansions=(2, 3), activation="relu6"),
            StageSpec(widths=(16,), stride=2, kernels=(3, 5, 7), expansions=(2, 3), activation="relu6"),
        ),
        head_channels=24, head_activation="relu6", gene_order=GENE_ORDER,
    ),
})  # fmt: skip
"""The family's presets, by name."""
