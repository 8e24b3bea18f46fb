"""Residual blocks, basic and bottleneck: plain, grouped or depthwise, maybe with squeeze-excite; and their cost twin.

Source: He et al., Deep Residual Learning, CVPR 2016, https://arxiv.org/abs/1512.03385; the average-pooled shortcut of
He et al., Bag of Tricks, CVPR 2019, https://arxiv.org/abs/1812.01187; grouped, with squeeze-excite after the grouped
convolution, as in Radosavovic et al., Designing Network Design Spaces, CVPR 2020, https://arxiv.org/abs/2003.13678.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from .squeeze_excite import SqueezeExcite, squeeze_excite_ops

__all__ = [
    "Residual",
    "ResidualConvNorm",
    "ResidualSpec",
    "residual_conv_norm_ops",
    "residual_ops",
]

GATE = "sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualSpec:
    """What a residual block computes; it alone drives the layer, its Ops and its elastic form.

    Attributes:
        in_channels: channels read.
        hidden: channels between the convolutions.
        out_channels: channels written.
        stride: of the first 3x3 convolution and of the shortcut.
        form: `basic` (3x3, 3x3) or `bottleneck` (1x1, 3x3, 1x1).
        group_width: channels per group of a bottleneck's 3x3 convolution, 0 for one group, 1 for depthwise.
        squeezed: channels inside a bottleneck's squeeze-excite, 0 for none.
        shortcut: how a shortcut changes shape: a strided 1x1 convolution, or an average pool before a plain one.
        activation: after every convolution but the last, and after the sum.
    """

    in_channels: int
    hidden: int
    out_channels: int
    stride: int = 1
    form: Literal["basic", "bottleneck"] = "bottleneck"
    group_width: int = 0
    squeezed: int = 0
    shortcut: Literal["conv", "avg_pool"] = "conv"
    activation: str = "relu"

    @property
    def convolutions(self) -> tuple[tuple[str, ConvNormSpec], ...]:
        """The convolutions of the body in order, by name; squeeze-excite stands after `spatial`."""
        if self.form == "basic":
            return ("first", self._conv(self.in_channels, self.hidden, 3)), (
                "second",
                ConvNormSpec(in_channels=self.hidden, out_channels=self.out_channels, kernel=3),
            )
        return (
            (
                "reduce",
                ConvNormSpec(in_channels=self.in_channels, out_channels=self.hidden, activation=self.activation),
            ),
            ("spatial", self._conv(self.hidden, self.hidden, 3)),
            ("expand", ConvNormSpec(in_channels=self.hidden, out_channels=self.out_channels)),
        )

    def _conv(self, channels: int, out: int, kernel: int) -> ConvNormSpec:
        """The convolution that strides."""
        return ConvNormSpec(
            in_channels=channels,
            out_channels=out,
            kernel=kernel,
            stride=self.stride,
            depthwise=self.group_width == 1,
            pointwise_groups=channels // self.group_width if self.group_width > 1 else 1,
            activation=self.activation,
        )

    @property
    def projects(self) -> bool:
        """Whether the shortcut has weights: where input and output differ in shape."""
        return self.stride != 1 or self.in_channels != self.out_channels

    @property
    def pooled(self) -> int:
        """Stride of the shortcut's average pool, 0 for none."""
        return self.stride if self.projects and self.shortcut == "avg_pool" and self.stride > 1 else 0

    @property
    def project(self) -> ConvNormSpec:
        """The shortcut's convolution."""
        stride = 1 if self.shortcut == "avg_pool" else self.stride
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.out_channels, stride=stride)


class Residual(nn.Module):
    """A residual block with the sizes of `spec`: `body`, `shortcut` where it has weights, `activation`."""

    def __init__(self, spec: ResidualSpec) -> None:
        super().__init__()
        body: OrderedDict[str, nn.Module] = OrderedDict()
        for name, conv in spec.convolutions:
            body[name] = ConvNorm(conv)
            if name == "spatial" and spec.squeezed:
                body["squeeze"] = SqueezeExcite(spec.hidden, spec.squeezed, gate=GATE)
        self.body = nn.Sequential(body)
        shortcut: OrderedDict[str, nn.Module] = OrderedDict()
        if spec.pooled:
            shortcut["pool"] = nn.AvgPool2d(spec.pooled, spec.pooled, ceil_mode=True)
        if spec.projects:
            shortcut["project"] = ConvNorm(spec.project)
        self.shortcut = nn.Sequential(shortcut) if shortcut else None
        self.activation = make_activation(spec.activation)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        return self.activation(self.body(x) + (x if self.shortcut is None else self.shortcut(x)))


def residual_ops(name: str, x: Tensor, spec: ResidualSpec) -> tuple[Op, ...]:
    """The Ops of a `Residual` at module path `name` that reads `x` (C, H, W)."""
    ops: tuple[Op, ...] = ()
    body = shortcut = x
    for part, conv in spec.convolutions:
        ops += conv_norm_ops(f"{name}.body.{part}", body, conv)
        if part == "spatial" and spec.squeezed:
            ops += squeeze_excite_ops(f"{name}.body.squeeze", ops[-1].output, spec.squeezed, gate=GATE)
        body = ops[-1].output
    if spec.pooled:
        ops += (make_op(f"{name}.shortcut.pool", "avg_pool2d", x, kernel=spec.pooled, stride=spec.pooled, ceil=True),)
        shortcut = ops[-1].output
    if spec.projects:
        ops += conv_norm_ops(f"{name}.shortcut.project", shortcut, spec.project)
        shortcut = ops[-1].output
    add = make_op(f"{name}.residual_add", "add", (body, shortcut))
    return *ops, add, make_op(f"{name}.activation", "activation", add.output, function=spec.activation)


class ResidualConvNorm(ConvNorm):
    """A `ConvNorm` that keeps the shape, added to its input."""

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, H, W] -> the same shape."""
        return x + super().forward(x)


def residual_conv_norm_ops(name: str, x: Tensor, spec: ConvNormSpec) -> tuple[Op, ...]:
    """The Ops of a `ResidualConvNorm` at module path `name` that reads `x` (C, H, W)."""
    ops = conv_norm_ops(name, x, spec)
    return *ops, make_op(f"{name}.residual_add", "add", (x, ops[-1].output))
