"""What every building block of the gene language is: its Ops, its layer, and its layer with shared weights.

A `BlockSpec` is a block with every choice made, at one input shape. It alone drives the three functions here, so they
cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Value
from ..elastic.blocks import ElasticInvertedBottleneck, ElasticSqueezeExcite
from ..elastic.layers import ElasticBatchNorm2d, ElasticLinear
from ..elastic.window import ElasticWindow
from ..layers.activation import make_activation
from ..layers.channels import make_divisible
from ..layers.inverted_bottleneck import InvertedBottleneck, InvertedBottleneckSpec, inverted_bottleneck_ops
from ..layers.pool import GlobalAvgPool
from ..layers.squeeze_excite import SqueezeExcite, squeeze_excite_ops
from ..layers.window import Window, WindowSpec, window_ops
from ..op import Op, Shape, Tensor, make_op

__all__ = ["BlockSpec", "Noise", "block_ops", "elastic_block", "make_block", "run_elastic"]


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """A block with every choice made.

    Attributes:
        kind: a key of `language.BLOCKS`.
        shape: what it reads: (C, H, W) or (features,).
        values: its parameters by name.
    """

    kind: str
    shape: Shape
    values: tuple[tuple[str, Value], ...]

    def get(self, key: str) -> Any:
        """The value of a parameter."""
        return dict(self.values)[key]


class Noise(nn.Module):
    """Adds noise in training: x + sigma * |x| * n with n standard normal; in evaluation it is the identity.

    Source: the poisoning operation of https://github.com/rusbridger/enas_poisoning (P2).
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: TorchTensor) -> TorchTensor:
        """Any shape -> the same shape."""
        return x + self.sigma * x.abs() * torch.randn_like(x) if self.training else x


def window_spec(spec: BlockSpec) -> WindowSpec:
    """The convolution that a `conv`, `depthwise` or `conv_transpose` block is."""
    channels, values = spec.shape[0], dict(spec.values)
    transposed, depthwise = spec.kind == "conv_transpose", spec.kind == "depthwise"
    kernel, dilation = spec.get("kernel"), values.get("dilation", 1)
    return WindowSpec(
        in_channels=channels,
        out_channels=channels if depthwise else spec.get("out") or channels,
        kernel=kernel,
        stride=spec.get("stride"),
        padding=values.get("padding", 0) or dilation * (kernel - 1) // 2,  # type: ignore[arg-type,operator]  # checked
        dilation=dilation,  # type: ignore[arg-type]  # the language checked it
        groups=channels if depthwise else values.get("groups", 1),  # type: ignore[arg-type]  # the language checked it
        transposed=transposed,
        norm=spec.get("norm"),
        activation=spec.get("activation"),
    )


def bottleneck_spec(spec: BlockSpec) -> InvertedBottleneckSpec:
    """The inverted bottleneck that a block is; hidden channels are multiples of 8."""
    hidden = make_divisible(spec.shape[0] * spec.get("expansion"))
    return InvertedBottleneckSpec(
        in_channels=spec.shape[0],
        hidden=hidden,
        out_channels=spec.get("out") or spec.shape[0],
        kernel=spec.get("kernel"),
        stride=spec.get("stride"),
        activation=spec.get("activation"),
        squeezed=make_divisible(hidden * spec.get("squeeze")) if spec.get("squeeze") else 0,
    )


def squeezed(spec: BlockSpec) -> int:
    """Channels inside a squeeze-excite block."""
    return max(1, int(spec.shape[0] * spec.get("ratio")))


WINDOWS = frozenset({"conv", "conv_transpose", "depthwise"})
NO_OPS = frozenset({"dropout", "identity", "noise"})
"""Blocks that compute nothing in evaluation."""

IMAGE_ONLY = frozenset(
    {"avg_pool", "global_pool", "inverted_bottleneck", "max_pool", "norm", "squeeze_excite", *WINDOWS}
)


def block_ops(name: str, x: Tensor, spec: BlockSpec) -> tuple[Op, ...]:
    """The Ops of a block at module path `name` that reads `x`; raises SpaceError where its input does not fit."""
    kind = spec.kind
    if kind in IMAGE_ONLY and len(x.shape) != 3:
        raise SpaceError(f"{kind} reads an image (C, H, W), but gets {x.shape}; put it before global_pool.")
    if kind in NO_OPS or kind == "zero":
        return ()
    if kind in WINDOWS:
        _odd(spec)
        return window_ops(name, x, window_spec(spec))
    if kind == "inverted_bottleneck":
        _odd(spec)
        return inverted_bottleneck_ops(name, x, bottleneck_spec(spec))
    if kind == "squeeze_excite":
        return squeeze_excite_ops(name, x, squeezed(spec), activation=spec.get("activation"))
    if kind == "linear":
        if len(x.shape) != 1:
            raise SpaceError(f"linear reads features, but gets an image {x.shape}; put global_pool before it.")
        return (make_op(name, "linear", x, out_features=spec.get("out"), bias=spec.get("bias")),)
    return (_plain_op(name, x, spec),)


def _plain_op(name: str, x: Tensor, spec: BlockSpec) -> Op:
    if spec.kind in {"avg_pool", "max_pool"}:
        _odd(spec)
        window = {"kernel": spec.get("kernel"), "stride": spec.get("stride"), "padding": spec.get("kernel") // 2}
        return make_op(name, f"{spec.kind}2d", x, **window)
    if spec.kind == "global_pool":
        return make_op(name, "global_avg_pool", x)
    if spec.kind == "norm":
        return make_op(name, "batch_norm", x)
    return make_op(name, "activation", x, function=spec.get("function"))


def _odd(spec: BlockSpec) -> None:
    if spec.get("kernel") % 2 == 0 and not dict(spec.values).get("padding"):
        raise SpaceError(f"{spec.kind}: kernel {spec.get('kernel')} is even; allowed: odd, or give conv a padding.")


MAKERS: dict[str, Callable[[BlockSpec], nn.Module]] = {
    "activation": lambda spec: make_activation(spec.get("function")),
    "avg_pool": lambda spec: nn.AvgPool2d(spec.get("kernel"), spec.get("stride"), spec.get("kernel") // 2),
    "conv": lambda spec: Window(window_spec(spec)),
    "conv_transpose": lambda spec: Window(window_spec(spec)),
    "depthwise": lambda spec: Window(window_spec(spec)),
    "dropout": lambda spec: nn.Dropout(spec.get("p")),
    "global_pool": lambda _: GlobalAvgPool(),
    "inverted_bottleneck": lambda spec: InvertedBottleneck(bottleneck_spec(spec)),
    "linear": lambda spec: nn.Linear(spec.shape[0], spec.get("out"), bias=spec.get("bias")),
    "max_pool": lambda spec: nn.MaxPool2d(spec.get("kernel"), spec.get("stride"), spec.get("kernel") // 2),
    "noise": lambda spec: Noise(spec.get("sigma")),
    "norm": lambda spec: nn.BatchNorm2d(spec.shape[0]),
    "squeeze_excite": lambda spec: SqueezeExcite(spec.shape[0], squeezed(spec), activation=spec.get("activation")),
}


def make_block(spec: BlockSpec) -> nn.Module | None:
    """The layer of a standalone network, None for the identity and for zero."""
    return MAKERS[spec.kind](spec) if spec.kind in MAKERS else None


def elastic_block(specs: Sequence[BlockSpec]) -> nn.Module | None:
    """The layer whose shared weights hold every one of `specs`; None where there are no weights to share."""
    first = specs[0]
    if first.kind in WINDOWS:
        return ElasticWindow([window_spec(spec) for spec in specs])
    if first.kind == "inverted_bottleneck":
        each = [bottleneck_spec(spec) for spec in specs]
        sizes = {
            key: max(getattr(spec, key) for spec in each)
            for key in ("in_channels", "hidden", "out_channels", "kernel", "stride", "squeezed")
        }
        return ElasticInvertedBottleneck(InvertedBottleneckSpec(**sizes, activation=each[0].activation))
    wide = max(spec.shape[0] for spec in specs)
    if first.kind == "squeeze_excite":
        return ElasticSqueezeExcite(wide, max(map(squeezed, specs)), activation=first.get("activation"))
    if first.kind == "linear":
        out, bias = max(spec.get("out") for spec in specs), any(spec.get("bias") for spec in specs)
        return ElasticLinear(wide, out, bias=bias)
    return ElasticBatchNorm2d(wide) if first.kind == "norm" else None


def run_elastic(layer: nn.Module | None, x: TorchTensor, spec: BlockSpec, *, training: bool) -> TorchTensor:
    """What `spec` makes of `x` on shared weights (`elastic_block`), or without any."""
    if layer is None:
        made = make_block(spec)
        return x if made is None else made.train(training)(x)
    if isinstance(layer, ElasticWindow):
        return layer(x, window_spec(spec))
    if isinstance(layer, ElasticInvertedBottleneck):
        return layer(x, bottleneck_spec(spec))
    if isinstance(layer, ElasticSqueezeExcite):
        return layer(x, squeezed(spec))
    if isinstance(layer, ElasticLinear):
        weight = layer.weight[: spec.get("out"), : x.shape[-1]]
        bias = layer.bias[: spec.get("out")] if spec.get("bias") else None
        return nn.functional.linear(x, weight, bias)
    return layer(x)
