"""FBNet: 22 blocks, each one of nine choices, in the order of the published look-up tables.

Where the shape changes a block cannot be left out: `skip` is then a strided 1x1 convolution, normalisation and
activation, as in the reference implementation, so that all 9**22 genomes are networks. (Measured latencies agree: at
those six layers a skip costs more than at the others.)

Source: Wu et al., FBNet, CVPR 2019, https://arxiv.org/abs/1812.03443 (tables 1 and 2), and fbnet_builder.py of its
reference implementation; grouped blocks shuffle their channels after the expansion.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .staged_reference import Reference, block_choices, point
from .staged_spec import SKIP, Form, StagedSpec, StageSpec

__all__ = ["CHOICES", "PRESETS", "REFERENCES"]

_BLOCKS: Final = tuple(
    Form(
        name=f"k{kernel}_e{expansion}" + ("_g2" if groups == 2 else ""),
        kernel=kernel,
        expansion=expansion,
        groups=groups,
    )
    for kernel in (3, 5)
    for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1))
)

CHOICES: Final = tuple(form.name for form in (*_BLOCKS, SKIP))
"""The nine choices of a block, by index."""


def _stage(width: int, depth: int, stride: int, forms: tuple[Form, ...] = (*_BLOCKS, SKIP)) -> StageSpec:
    return StageSpec(widths=(width,), depths=(depth,), stride=stride, forms=forms)


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "imagenet": StagedSpec(
        stem_channels=16,
        stages=(
            _stage(16, 1, 1), _stage(24, 4, 2), _stage(32, 4, 2), _stage(64, 4, 2), _stage(112, 4, 1),
            _stage(184, 4, 2), _stage(352, 1, 1),
        ),
        head_channels=1984,
    ),
    "digits": StagedSpec(
        in_channels=1, resolutions=(12,), classes=10, stem_channels=8, stem_stride=1,
        stages=(_stage(8, 1, 1), _stage(16, 3, 2), _stage(32, 3, 2)),
        head_channels=128,
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(16,), classes=10, stem_channels=8,
        stages=(_stage(8, 1, 1), _stage(16, 2, 2), _stage(24, 1, 2, (_BLOCKS[1], _BLOCKS[6], SKIP))),
        head_channels=24,
    ),
})  # fmt: skip
"""The family's presets, by name."""

_FBNET_C: Final = (
    ("k3_e1",),
    ("k3_e6", "k3_e1", "k3_e1", "skip"),
    ("k5_e6", "k5_e3", "k5_e6", "k3_e6"),
    ("k5_e6", "k5_e3", "k5_e6", "k5_e6"),
    ("k5_e6", "k5_e6", "k5_e6", "k5_e3"),
    ("k5_e6", "k5_e6", "k5_e6", "k5_e6"),
    ("k3_e6",),
)

REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "fbnetc_100": point(
        PRESETS["imagenet"],
        block_choices([[{"form": form} for form in stage] for stage in _FBNET_C]),
        name="fbnet", preset="imagenet", resolution=224,
    ),
})  # fmt: skip
"""Published networks of the family."""
