"""Convolution, batch normalisation, activation: the brick of convolutional families, and its cost twin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation

__all__ = ["ConvNorm", "ConvNormSpec", "conv_norm_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvNormSpec:
    """What a `ConvNorm` computes.

    Attributes:
        in_channels: channels read.
        out_channels: channels written.
        kernel: side of the square window, odd; padding is kernel // 2.
        stride: step of the window.
        depthwise: one filter per channel; then both channel counts are equal.
        pointwise_groups: groups of a convolution that is not depthwise.
        activation: what follows the normalisation, "" for nothing.
        bias: whether the convolution has one (of no use before a normalisation, but published networks have it).
    """

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    pointwise_groups: int = 1
    activation: str = ""
    bias: bool = False

    @property
    def groups(self) -> int:
        """Convolution groups."""
        return self.in_channels if self.depthwise else self.pointwise_groups


class ConvNorm(nn.Module):
    """`conv`, `norm` and, where there is one, `activation`.

    Args:
        spec: channels, window and activation.
    """

    def __init__(self, spec: ConvNormSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            spec.in_channels,
            spec.out_channels,
            spec.kernel,
            stride=spec.stride,
            padding=spec.kernel // 2,
            groups=spec.groups,
            bias=spec.bias,
        )
        self.norm = nn.BatchNorm2d(spec.out_channels)
        self.activation = make_activation(spec.activation) if spec.activation else None

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


def conv_norm_ops(name: str, x: Tensor, spec: ConvNormSpec) -> tuple[Op, ...]:
    """The Ops of a `ConvNorm` at module path `name` that reads `x` (C, H, W)."""
    conv = make_op(
        f"{name}.conv",
        "conv2d",
        x,
        out_channels=spec.out_channels,
        kernel=spec.kernel,
        stride=spec.stride,
        padding=spec.kernel // 2,
        groups=spec.groups,
        bias=spec.bias,
    )
    norm = make_op(f"{name}.norm", "batch_norm", conv.output)
    if not spec.activation:
        return conv, norm
    return conv, norm, make_op(f"{name}.activation", "activation", norm.output, function=spec.activation)
