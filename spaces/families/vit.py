"""Vision Transformers with weight entanglement: width and depth, and in every layer heads and feed-forward ratio.

Source: Chen et al., AutoFormer, ICCV 2021, https://arxiv.org/abs/2107.00651 (spaces T, S and B, with the options that
its released networks were trained with: absolute and relative positions, the mean of the patches classified); Touvron
et al., DeiT, ICML 2021, https://arxiv.org/abs/2012.12877 (no relative positions, the class token classified).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..elastic.attention import ElasticPatches, ElasticTransformerLayer, make_elastic_norm
from ..elastic.layers import ElasticLinear
from ..elastic.supernet import Supernet
from ..gene import Gene
from ..layers.attention import AttentionSpec
from ..layers.feed_forward import FeedForwardSpec
from ..layers.materialise import allocate
from ..layers.pool import GlobalAvgPool
from ..layers.tokens import ClassToken, LearnedPosition, patch_ops
from ..layers.transformer import TransformerLayer, TransformerLayerSpec, make_norm, norm_op, transformer_layer_ops
from ..op import Op, Tensor, make_op
from .steps import Choices, Read, Step, StepSpace, integer, layer_genes

__all__ = ["PRESETS", "REFERENCES", "Vit", "VitPlan", "VitSpace", "VitSpec", "VitSupernet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VitSpec:
    """A member of the family.

    Attributes:
        in_channels: channels of the image.
        resolution: side of the square image, a multiple of `patch`.
        classes: logits.
        patch: side of the square patches that become tokens.
        head_dim: features of an attention head.
        widths: features of a token, ascending.
        depths: numbers of layers, ascending.
        heads: attention heads of a layer, ascending.
        ratios: hidden features of a feed-forward layer as multiples of the width, ascending.
        relative: rows and columns up to which attention tells distances of patches apart, 0 for no distances.
        pooled: the mean of the patches' tokens is classified, instead of the class token.
    """

    in_channels: int = 3
    resolution: int = 224
    classes: int = 1000
    patch: int = 16
    head_dim: int = 64
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[int | float, ...]
    relative: int = 0
    pooled: bool = False

    def __post_init__(self) -> None:
        for name in ("in_channels", "resolution", "classes", "patch", "head_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpaceError(f"vit: {name} is {value!r}; it must be an integer of at least 1.")
        if self.resolution % self.patch:
            raise SpaceError(
                f"vit: resolution is {self.resolution}; it must be a multiple of the patch side, {self.patch}: "
                f"use {max(self.resolution // self.patch, 1) * self.patch}."
            )
        if self.relative < 0:
            raise SpaceError(f"vit: relative is {self.relative}; it must be 0 (no distances) or more.")

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (self.resolution // self.patch) ** 2


PRESETS: Final[Mapping[str, VitSpec]] = MappingProxyType({
    # A handful of small layers for tests.
    "tiny": VitSpec(
        in_channels=1, resolution=8, classes=10, patch=4, head_dim=4, widths=(8, 12, 16), depths=(1, 2),
        heads=(1, 2, 3), ratios=(1.5, 2), relative=1, pooled=True,
    ),
    "autoformer_t": VitSpec(
        widths=(192, 216, 240), depths=(12, 13, 14), heads=(3, 4), ratios=(3.5, 4), relative=14, pooled=True,
    ),
    "autoformer_s": VitSpec(
        widths=(320, 384, 448), depths=(12, 13, 14), heads=(5, 6, 7), ratios=(3, 3.5, 4), relative=14, pooled=True,
    ),
    "autoformer_b": VitSpec(
        widths=(528, 576, 624), depths=(14, 15, 16), heads=(9, 10), ratios=(3, 3.5, 4), relative=14, pooled=True,
    ),
})  # fmt: skip
"""The family's presets, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VitPlan:
    """One architecture as the specs of its layers."""

    width: int
    layers: tuple[TransformerLayerSpec, ...]


class Vit(nn.Module):
    """The standalone network of a plan: `patches`, `class_token`, `position`, `layers.<i>`, `norm`, `pool`, `head`."""

    def __init__(self, spec: VitSpec, plan: VitPlan) -> None:
        super().__init__()
        self.patches = nn.Conv2d(spec.in_channels, plan.width, spec.patch, stride=spec.patch)
        self.class_token = ClassToken(plan.width)
        self.position = LearnedPosition(spec.tokens + 1, plan.width)
        self.layers = nn.ModuleList(TransformerLayer(layer) for layer in plan.layers)
        self.norm = make_norm("layer_norm", plan.width)
        self.pool = GlobalAvgPool() if spec.pooled else None
        self.head = nn.Linear(plan.width, spec.classes)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        x = self.position(self.class_token(self.patches(x).flatten(2).transpose(1, 2)))
        for layer in self.layers:
            x = layer(x)
        return self.head(_classified(self.norm(x), self.pool))


def _classified(x: TorchTensor, pool: nn.Module | None) -> TorchTensor:
    """[N, T, C] -> [N, C]: the mean of the patches with a `pool`, else the class token."""
    return x[:, 0] if pool is None else pool(x[:, 1:].transpose(1, 2))


class VitSupernet(Supernet):
    """The family's supernet: same module paths as `Vit`, every layer as large as any choice needs."""

    def __init__(self, space: VitSpace) -> None:
        super().__init__()
        self.space = space
        spec, largest = space.spec, space.plan(space.largest_choices())
        self.patches = ElasticPatches(spec.in_channels, largest.width, spec.patch, stride=spec.patch)
        self.class_token = ClassToken(largest.width)
        self.position = LearnedPosition(spec.tokens + 1, largest.width)
        self.layers = nn.ModuleList(ElasticTransformerLayer(layer) for layer in largest.layers)
        self.norm = make_elastic_norm("layer_norm", largest.width)
        self.pool = GlobalAvgPool() if spec.pooled else None
        self.head = ElasticLinear(largest.width, spec.classes)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        plan = self.space.plan(self.space.choices(architecture))
        x = self.position(self.class_token(self.patches(x, plan.width).flatten(2).transpose(1, 2)))
        for layer, spec in zip(self.layers, plan.layers, strict=False):  # depth: the first layers run
            x = layer(x, spec)
        return self.head(_classified(self.norm(x), self.pool))

    def blank_network(self, architecture: Architecture) -> Vit:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: self.space.blank(self.space.choices(architecture)))


class VitSpace(StepSpace):
    """All networks of one `VitSpec`.

    Args:
        spec: what may vary and what is fixed.
        preset: the name `spec` goes by, "" if none.

    >>> VitSpace(PRESETS["tiny"], preset="tiny").size
    126
    """

    def __init__(self, spec: VitSpec, *, preset: str = "") -> None:
        self.spec = spec
        genes = [
            Gene("width", spec.widths, kind="ordered", default=len(spec.widths) - 1),
            Gene("depth", spec.depths, kind="ordered", default=len(spec.depths) - 1),
            *layer_genes("depth", spec.depths, "layers", (("heads", spec.heads), ("ratio", spec.ratios))),
        ]
        super().__init__(spec, genes, name="vit", preset=preset, options=("in_channels", "resolution", "classes"))

    def plan(self, choices: Choices) -> VitPlan:
        """The specs of the layers of these choices."""
        depth = integer(choices, "depth")
        return VitPlan(
            width=integer(choices, "width"), layers=tuple(self._layer(choices, index) for index in range(depth))
        )

    def _layer(self, choices: Choices, index: int) -> TransformerLayerSpec:
        width, heads = integer(choices, "width"), integer(choices, f"layers.{index}.heads")
        hidden = int(width * cast(float, choices[f"layers.{index}.ratio"]))
        return TransformerLayerSpec(
            attention=AttentionSpec(width=width, heads=heads, head_dim=self.spec.head_dim, relative=self.spec.relative),
            feed_forward=FeedForwardSpec(width=width, hidden=hidden, activation="gelu"),
        )

    def steps(self) -> tuple[Step, ...]:
        """Patches and tokens, every layer that may exist, and the classifier."""
        spec = self.spec
        image = Tensor("image", (spec.in_channels, spec.resolution, spec.resolution))

        def start(choices: Choices, read: Read) -> tuple[Op, ...]:
            del read
            ops = patch_ops("patches", image, integer(choices, "width"), spec.patch)
            token = make_op("class_token", "class_token", ops[-1].output)
            return (*ops, token, make_op("position", "position", token.output))

        def end(choices: Choices, read: Read) -> tuple[Op, ...]:
            width = integer(choices, "width")
            norm = norm_op("norm", read((spec.tokens + 1, width)), "layer_norm")
            if spec.pooled:
                part = make_op("patch_tokens", "slice", norm.output, start=1, stop=spec.tokens + 1)
                turned = make_op("patch_features", "transpose", part.output, order=(1, 0))
                ops = norm, part, turned, make_op("pool", "global_avg_pool", turned.output)
            else:
                part = make_op("class_slice", "slice", norm.output, start=0, stop=1)
                ops = norm, part, make_op("class_vector", "reshape", part.output, shape=(width,))
            return (*ops, make_op("head", "linear", ops[-1].output, out_features=spec.classes))

        layers = (self._layer_step(index) for index in range(max(spec.depths)))
        return (
            Step(name="patches", genes=("width",), build=start),
            *layers,
            Step(name="head", genes=("width",), build=end),
        )

    def _layer_step(self, index: int) -> Step:
        path = f"layers.{index}"

        def build(choices: Choices, read: Read) -> tuple[Op, ...]:
            if integer(choices, "depth") <= index:
                return ()
            layer = self._layer(choices, index)
            return transformer_layer_ops(path, read((self.spec.tokens + 1, layer.width)), layer)

        return Step(name=path, genes=("width", "depth", f"{path}.heads", f"{path}.ratio"), build=build)

    def blank(self, choices: Choices) -> Vit:
        """The network of these choices, not yet filled."""
        return Vit(self.spec, self.plan(choices))

    def blank_supernet(self) -> VitSupernet:
        """The supernet, not yet filled."""
        return VitSupernet(self)

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        side = self.spec.resolution
        shape = (batch, self.spec.in_channels, side, side)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


Reference = Callable[[int | None], tuple[VitSpace, Architecture]]


def _reference(spec: VitSpec, preset: str, width: int, layers: Sequence[tuple[int, float]]) -> Reference:
    """A network with these heads and ratios per layer, in the space of `spec`."""

    def reference(resolution: int | None) -> tuple[VitSpace, Architecture]:
        adapted = spec if resolution is None else dataclasses.replace(spec, resolution=resolution)
        space = VitSpace(adapted, preset=preset)
        choices: dict[str, Value] = {"width": width, "depth": len(layers)}
        for index, (heads, ratio) in enumerate(layers):
            choices |= {f"layers.{index}.heads": heads, f"layers.{index}.ratio": ratio}
        return space, space.architecture(choices)

    return reference


def _deit(preset: str, width: int, heads: int) -> Reference:
    """A DeiT: twelve equal layers with ratio 4, without what AutoFormer added."""
    spec = dataclasses.replace(PRESETS[preset], relative=0, pooled=False)
    return _reference(spec, "", width, [(heads, 4)] * 12)


def _autoformer_tiny() -> Reference:
    """AutoFormer-T; three of its layers have a ratio that the published space T lacks."""
    ratios = (3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5)
    heads = (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3)
    spec = dataclasses.replace(PRESETS["autoformer_t"], ratios=(3, 3.5, 4))
    return _reference(spec, "", 192, list(zip(heads, ratios, strict=True)))


def _autoformer(preset: str, width: int, heads: Sequence[int], ratios: Sequence[float]) -> Reference:
    return _reference(PRESETS[preset], preset, width, list(zip(heads, ratios, strict=True)))


REFERENCES: Final[Mapping[str, Reference]] = MappingProxyType({
    "autoformer_base_patch16_224": _autoformer(
        "autoformer_b", 576, (9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10),
        (3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5),
    ),
    "autoformer_small_patch16_224": _autoformer(
        "autoformer_s", 384, (6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7), (3, 3.5, 3, 3.5, 4, 4, 4, 4, 4, 4, 4, 3.5, 4),
    ),
    "autoformer_tiny_patch16_224": _autoformer_tiny(),
    "deit_small_patch16_224": _deit("autoformer_s", 384, 6),
    "deit_tiny_patch16_224": _deit("autoformer_t", 192, 3),
})  # fmt: skip
"""Published networks as points of these spaces: (resolution or None) -> (space, architecture)."""
