"""MobileNetV4: universal inverted bottlenecks in four forms, fused ones in front, and mobile multi-query attention.

The four forms: a depthwise convolution before the expansion and one after it (`extra_dw`), only the latter (`ib`, the
inverted bottleneck), only the former (`convnext`), neither (`ffn`).

Source: Qin et al., MobileNetV4, ECCV 2024, https://arxiv.org/abs/2404.10518 (sections 3 and 5; the published
networks in its appendix).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ..architecture import Value
from .staged_reference import Reference, block_choices, point
from .staged_spec import CONV, ER, AttentionRule, Form, StagedSpec, StageSpec

__all__ = ["PRESETS", "REFERENCES"]

_EXTRA: Final = Form(name="extra_dw", starts=True)
_IB: Final = Form(name="ib")
_CONVNEXT: Final = Form(name="convnext", starts=True, kernel=0)
_FFN: Final = Form(name="ffn", kernel=0)
_MQA: Final = Form(name="mqa", layer="attention")
_UIB: Final = (_EXTRA, _IB, _CONVNEXT, _FFN)


def _uib(
    width: int, deepest: int, *, forms: tuple[Form, ...] = _UIB, attention: AttentionRule | None = None
) -> StageSpec:
    """A stage that halves the map, of up to `deepest` blocks."""
    return StageSpec(
        widths=(width,),
        depths=tuple(sorted({deepest // 2, deepest * 3 // 4, deepest})),
        stride=2,
        forms=forms,
        kernels=(3, 5),
        starts=(3, 5),
        expansions=(2, 3, 4, 6),
        attention=attention or AttentionRule(),
    )


def _conv(width: int, kernel: int, stride: int) -> StageSpec:
    return StageSpec(widths=(width,), stride=stride, forms=(CONV,), kernels=(kernel,))


def _fused(width: int) -> StageSpec:
    return StageSpec(widths=(width,), stride=2, forms=(ER,), kernels=(3,), expansions=(4,))


def _spec(stem: int, *stages: StageSpec, layer_scale: bool = False) -> StagedSpec:
    return StagedSpec(
        stem_channels=stem, stages=stages, head_channels=960, mixed=1280, mix="norm", layer_scale=layer_scale
    )


PRESETS: Final[Mapping[str, StagedSpec]] = MappingProxyType({
    "conv_medium": _spec(32, _fused(48), _uib(80, 2), _uib(160, 8), _uib(256, 11)),
    "conv_small": _spec(
        32, _conv(32, 3, 2), _conv(32, 1, 1), _conv(96, 3, 2), _conv(64, 1, 1), _uib(96, 6), _uib(128, 6)
    ),
    "conv_large": _spec(24, _fused(48), _uib(96, 2), _uib(192, 11), _uib(512, 13)),
    "hybrid_medium": _spec(
        32, _fused(48), _uib(80, 2),
        _uib(160, 12, forms=(*_UIB, _MQA), attention=AttentionRule(stride=2)),
        _uib(256, 16, forms=(*_UIB, _MQA)),
        layer_scale=True,
    ),
    "tiny": StagedSpec(
        in_channels=1, resolutions=(16,), classes=10, stem_channels=8, stem_stride=1,
        stages=(
            _conv(8, 1, 1),
            StageSpec(widths=(8,), stride=2, forms=(ER,), expansions=(2, 3)),
            StageSpec(
                widths=(16,), depths=(1, 2), stride=2, forms=(*_UIB, _MQA), kernels=(3, 5), starts=(3, 5),
                expansions=(2, 3), attention=AttentionRule(heads=2, head_channels=8, stride=2),
            ),
        ),
        head_channels=24, mixed=16, mix="norm", layer_scale=True,
    ),
})  # fmt: skip
"""The family's presets, by name."""

_Code = tuple[int, int, int] | None
"""A block as (start kernel, kernel, expansion), kernel 0 where there is no such convolution; None = attention."""


def _block(code: _Code) -> dict[str, Value]:
    if code is None:
        return {"form": "mqa"}
    start, kernel, expansion = code
    form = {(True, True): _EXTRA, (False, True): _IB, (True, False): _CONVNEXT, (False, False): _FFN}
    choices: dict[str, Value] = {"form": form[start > 0, kernel > 0].name, "expansion": expansion}
    choices |= {"start": start} if start else {}
    return choices | ({"kernel": kernel} if kernel else {})


def _reference(preset: str, resolution: int, first: int, *stages: Sequence[_Code]) -> Reference:
    """The published network whose stages from number `first` on have these blocks."""
    fixed: list[list[Mapping[str, Value]]] = [[{}] for _ in range(first)]
    choices = block_choices([*fixed, *([_block(code) for code in stage] for stage in stages)])
    return point(PRESETS[preset], choices, name="mobilenetv4", preset=preset, resolution=resolution)


_C80: Final = ((3, 5, 4), (3, 3, 2))

REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "mobilenetv4_conv_small": _reference(
        "conv_small", 224, 4,
        ((5, 5, 3), *((0, 3, 2),) * 4, (3, 0, 4)),
        ((3, 3, 6), (5, 5, 4), (0, 5, 4), (0, 5, 3), (0, 3, 4), (0, 3, 4)),
    ),
    "mobilenetv4_conv_medium": _reference(
        "conv_medium", 256, 1,
        _C80,
        ((3, 5, 6), (3, 3, 4), (3, 3, 4), (3, 5, 4), (3, 3, 4), (3, 0, 4), (0, 0, 2), (3, 0, 4)),
        (
            (5, 5, 6), (5, 5, 4), (3, 5, 4), (3, 5, 4), (0, 0, 4), (3, 0, 4), (3, 5, 2), (5, 5, 4), (0, 0, 4),
            (0, 0, 4), (5, 0, 2),
        ),
    ),
    "mobilenetv4_conv_large": _reference(
        "conv_large", 384, 1,
        ((3, 5, 4), (3, 3, 4)),
        ((3, 5, 4), *((3, 3, 4),) * 3, (3, 5, 4), *((5, 3, 4),) * 5, (3, 0, 4)),
        (
            *((5, 5, 4),) * 4, (5, 0, 4), (5, 3, 4), (5, 0, 4), (5, 0, 4), (5, 3, 4), (5, 5, 4), *((5, 0, 4),) * 3,
        ),
    ),
    "mobilenetv4_hybrid_medium": _reference(
        "hybrid_medium", 256, 1,
        _C80,
        (
            (3, 5, 6), (0, 0, 2), (3, 3, 4), (3, 5, 4), None, (3, 3, 4), None, (3, 0, 4), None, (3, 3, 4), None,
            (3, 0, 4),
        ),
        (
            (5, 5, 6), (5, 5, 4), (3, 5, 4), (3, 5, 4), (0, 0, 2), (3, 5, 2), (0, 0, 2), (0, 0, 4), None, (3, 0, 4),
            None, (5, 5, 4), None, (5, 0, 4), None, (5, 0, 4),
        ),
    ),
})  # fmt: skip
"""Published networks of the family, at the resolutions of the pytorch-image-models weights."""
