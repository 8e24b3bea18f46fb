"""The Once-for-All space around MobileNetV3: elastic kernel, expansion and depth in five units, and the resolution.

Genes stand in the order of the published encoding: 20 kernels, 20 expansions, 5 depths, resolution.

Source: Cai et al., Once-for-All, ICLR 2020, https://arxiv.org/abs/1908.09791 (appendix A) and its reference
implementation, ofa_mbv3.py: the classifier's second 1x1 convolution has neither bias nor norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .staged_spec import DS, StagedSpec, StageSpec

__all__ = ["GENE_ORDER", "PRESETS", "RESOLUTIONS"]

GENE_ORDER: Final = ("kernel", "expansion", "depth", "resolution")
"""How the Once-for-All encodings group their genes."""

RESOLUTIONS: Final = tuple(range(128, 225, 4))
"""Sides of the image that the published supernets were evaluated at."""


def _unit(width: int, stride: int, activation: str, ratio: float) -> StageSpec:
    return StageSpec(
        widths=(width,),
        depths=(2, 3, 4),
        stride=stride,
        kernels=(3, 5, 7),
        expansions=(3, 4, 6),
        squeezes=(ratio,),
        activation=activation,
    )


def _spec(multiplier: float) -> StagedSpec:
    return StagedSpec(
        resolutions=RESOLUTIONS,
        stem_channels=16,
        stem_activation="hard_swish",
        stages=(
            StageSpec(widths=(16,), forms=(DS,)),
            _unit(24, 2, "relu", 0),
            _unit(40, 2, "relu", 0.25),
            _unit(80, 2, "hard_swish", 0),
            _unit(112, 1, "hard_swish", 0.25),
            _unit(160, 2, "hard_swish", 0.25),
        ),
        head_channels=960,
        head_activation="hard_swish",
        mixed=1280,
        mix="plain",
        width_multipliers=(multiplier,),
        gene_order=GENE_ORDER,
    )


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "w1.0": _spec(1),
    "w1.2": _spec(1.2),
    # For tests: every gene of the family on an image of 12 to 16 pixels.
    "tiny": StagedSpec(
        in_channels=1, resolutions=(12, 16), classes=10, stem_channels=8, stem_activation="hard_swish",
        stages=(
            StageSpec(widths=(8,), forms=(DS,)),
            StageSpec(
                widths=(8,), depths=(1, 2), stride=2, kernels=(3, 5), expansions=(1, 2), squeezes=(0.25,),
            ),
            StageSpec(
                widths=(16,), depths=(1, 2), stride=2, kernels=(3, 5, 7), expansions=(1, 2), activation="hard_swish",
            ),
        ),
        head_channels=24, head_activation="hard_swish", mixed=16, mix="plain", gene_order=GENE_ORDER,
    ),
})  # fmt: skip
"""The family's presets, by name."""
