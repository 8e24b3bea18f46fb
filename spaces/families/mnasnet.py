"""MnasNet: every stage chooses one block (form, kernel, expansion, squeeze-excite, shortcut), its depth and its width.

Source: Tan et al., MnasNet, CVPR 2019, https://arxiv.org/abs/1807.11626 (section 3.2, figures 4 and 7). Of the
published skip operations the identity and none are there, pooling is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..architecture import Value
from .staged_reference import Reference, point
from .staged_spec import CONV, DS, IR, SqueezeRule, StagedSpec, StageSpec

__all__ = ["PRESETS", "REFERENCES"]

_SQUEEZE: Final = SqueezeRule(of="input", divisor=1, gate="sigmoid")


def _stage(widths: tuple[int, ...], depths: tuple[int, ...], stride: int) -> StageSpec:
    return StageSpec(
        widths=widths, depths=depths, stride=stride, forms=(IR, DS, CONV), kernels=(3, 5), expansions=(3, 6),
        squeezes=(0, 0.25), shortcuts=(True, False), per="stage",
    )  # fmt: skip


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "imagenet": StagedSpec(
        stem_channels=32,
        stages=(
            StageSpec(widths=(16,), forms=(DS,), shortcuts=(False,)),
            _stage((16, 24, 32), (1, 2, 3, 4), 2),
            _stage((32, 40, 48), (1, 2, 3, 4), 2),
            _stage((64, 80, 96), (1, 2, 3, 4), 2),
            _stage((80, 96, 112), (1, 2, 3, 4), 1),
            _stage((128, 160, 192), (1, 2, 3, 4), 2),
            _stage((256, 320, 384), (1, 2), 1),
        ),
        head_channels=1280,
        squeeze=_SQUEEZE,
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(16,), classes=10, stem_channels=8,
        stages=(
            StageSpec(widths=(8,), forms=(DS,)),
            StageSpec(
                widths=(8, 16), depths=(1, 2), stride=2, forms=(IR, DS, CONV), kernels=(3, 5), expansions=(2, 3),
                squeezes=(0, 0.25), shortcuts=(True, False), per="stage",
            ),
            StageSpec(widths=(16,), stride=2, forms=(IR, CONV), kernels=(3, 5), expansions=(2, 3), per="stage"),
        ),
        head_channels=24,
        squeeze=_SQUEEZE,
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _reference(*stages: tuple[int, int, int, int, float]) -> Reference:
    """From (width, depth, kernel, expansion, squeeze) of the stages after the first."""
    choices: dict[str, Value] = {}
    for number, values in enumerate(stages, start=1):
        names = ("width", "depth", "kernel", "expansion", "squeeze")
        choices |= {f"stages.{number}.{name}": value for name, value in zip(names, values, strict=True)}
        choices |= {f"stages.{number}.form": "ir", f"stages.{number}.shortcut": True}
    return point(PRESETS["imagenet"], choices, name="mnasnet", preset="imagenet", resolution=224)


REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "mnasnet_100": _reference(
        (24, 3, 3, 3, 0), (40, 3, 5, 3, 0), (80, 3, 5, 6, 0), (96, 2, 3, 6, 0), (192, 4, 5, 6, 0), (320, 1, 3, 6, 0)
    ),
    "semnasnet_100": _reference(
        (24, 2, 3, 6, 0), (40, 3, 5, 3, 0.25), (80, 4, 3, 6, 0), (112, 2, 3, 6, 0.25), (160, 3, 5, 6, 0.25),
        (320, 1, 3, 6, 0),
    ),
})  # fmt: skip
"""Published networks of the family."""
