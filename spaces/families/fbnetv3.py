"""FBNetV3: blocks chosen for a stage's first block and the rest apart, jointly with the training recipe.

The recipe's genes say how to train; they are no part of the network, so genomes that differ in them alone share a key.

Source: Dai et al., FBNetV3, CVPR 2021, https://arxiv.org/abs/2006.02049 (tables 1 and 2); stages of the networks A/B, D
and G as in pytorch-image-models, mobilenetv3.py. The ranges of widths and depths around them are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..architecture import Value
from .staged_reference import Reference, point
from .staged_spec import DS, SqueezeRule, StagedSpec, StageSpec

__all__ = ["PRESETS", "RECIPE", "REFERENCES"]

RECIPE: Final[tuple[tuple[str, tuple[Value, ...]], ...]] = (
    ("optimizer", ("rmsprop", "sgd")),
    ("learning_rate", (0.02, 0.022, 0.024, 0.026, 0.028, 0.03)),
    ("weight_decay", (7e-6, 1e-5, 1.4e-5, 1.7e-5, 2.1e-5)),
    ("dropout", (0.1, 0.15, 0.2, 0.25, 0.31)),
    ("drop_path", (0.01, 0.08, 0.16, 0.24, 0.31)),
    ("mixup", (0.0, 0.1, 0.2, 0.3, 0.41)),
    ("ema", (True, False)),
)
"""Genes of the training recipe."""

_SQUEEZE: Final = SqueezeRule(of="input", limit=0.95, activation="hard_swish")


def _stage(width: int, depth: int, stride: int, *, squeeze: float = 0) -> StageSpec:
    return StageSpec(
        widths=(width - 8, width, width + 8), depths=tuple(n for n in (depth - 1, depth, depth + 1) if n),
        stride=stride,
        kernels=(3, 5), expansions=(2, 3, 4, 5, 6), first_expansions=(4, 5, 6), squeezes=(squeeze,),
        activation="hard_swish", per="ends",
    )  # fmt: skip


def _spec(
    stem: int, depthwise: tuple[int, int], widths: tuple[int, ...], depths: tuple[int, ...], head: int
) -> StagedSpec:
    width, depth = depthwise
    strides, squeezed = (2, 2, 2, 1, 2, 1), (False, True, False, True, True, True)
    return StagedSpec(
        resolutions=tuple(range(224, 273, 8)),
        stem_channels=stem, stem_activation="hard_swish",
        stages=(
            StageSpec(widths=(width,), depths=(depth - 1, depth, depth + 1), forms=(DS,), activation="hard_swish"),
            *(
                _stage(width, depth, stride, squeeze=0.25 if has else 0)
                for width, depth, stride, has in zip(widths, depths, strides, squeezed, strict=True)
            ),
        ),
        head_channels=head, head_activation="hard_swish", mixed=1984, mix="plain",
        squeeze=_SQUEEZE, recipe=RECIPE,
    )  # fmt: skip


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "b": _spec(16, (16, 2), (24, 40, 72, 120, 184, 224), (4, 5, 5, 6, 6, 1), 1344),
    "d": _spec(24, (16, 2), (24, 40, 72, 128, 208, 240), (6, 5, 5, 7, 6, 1), 1440),
    "g": _spec(32, (24, 3), (40, 56, 104, 160, 264, 288), (5, 5, 5, 9, 7, 2), 1728),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(12, 16), classes=10, stem_channels=8, stem_activation="hard_swish",
        stages=(
            StageSpec(widths=(8,), forms=(DS,), activation="hard_swish"),
            StageSpec(
                widths=(8, 16), depths=(1, 2, 3), stride=2, kernels=(3, 5), expansions=(2, 3), first_expansions=(3, 4),
                squeezes=(0.25,), activation="hard_swish", per="ends",
            ),
        ),
        head_channels=24, head_activation="hard_swish", mixed=16, mix="plain", squeeze=_SQUEEZE,
        recipe=(("optimizer", ("rmsprop", "sgd")), ("learning_rate", (0.02, 0.03))),
    ),
})  # fmt: skip
"""The family's presets, by name."""


def _reference(preset: str, resolution: int, stages: tuple[tuple[tuple[int, int], tuple[int, int]], ...]) -> Reference:
    """From (kernel, expansion) of the first block and of the rest, for the stages after the depthwise one."""
    spec = PRESETS[preset]
    choices: dict[str, Value] = {"stages.0.depth": spec.stages[0].depths[1]}
    for number, ends in enumerate(stages, start=1):
        stage = spec.stages[number]
        depth = stage.depths[-2]
        choices |= {f"stages.{number}.width": stage.widths[1], f"stages.{number}.depth": depth}
        for place, (kernel, expansion) in zip(("first", "rest") if depth > 1 else ("first",), ends, strict=False):
            choices |= {f"stages.{number}.{place}.kernel": kernel, f"stages.{number}.{place}.expansion": expansion}
    return point(spec, choices, name="fbnetv3", preset=preset, resolution=resolution)


REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "fbnetv3_b": _reference(
        "b", 224,
        (((5, 4), (5, 2)), ((5, 5), (5, 3)), ((5, 5), (3, 3)), ((3, 5), (5, 3)), ((3, 6), (5, 4)), ((5, 6), (5, 6))),
    ),
    "fbnetv3_d": _reference(
        "d", 224,
        (((3, 5), (3, 2)), ((5, 4), (3, 3)), ((3, 5), (3, 3)), ((3, 5), (5, 3)), ((3, 6), (5, 5)), ((5, 6), (5, 6))),
    ),
    "fbnetv3_g": _reference(
        "g", 240,
        (((5, 4), (5, 2)), ((5, 4), (5, 3)), ((5, 5), (3, 3)), ((3, 5), (5, 3)), ((3, 6), (5, 5)), ((5, 6), (5, 6))),
    ),
})  # fmt: skip
"""Published networks of the family."""
