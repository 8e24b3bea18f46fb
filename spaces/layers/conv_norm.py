"""Convolution, batch normalisation, activation: the brick of convolutional families, and its cost twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation

__all__ = ["ConvNorm", "ConvNormSpec", "Subsampled", "conv_norm_ops", "conv_op"]


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


NARROW: Final = 16
"""Input channels below which strided 1x1 convolutions are `Subsampled`."""


class Subsampled(nn.Conv2d):
    """A strided 1x1 convolution that is given only the pixels it reads.

    The result is the same. oneDNN's backward pass (torch 2.13 on a CPU, one thread, channels last) writes beyond its
    memory for such a convolution of few channels on a large image, and ends the process.
    """

    def forward(self, x: TorchTensor) -> TorchTensor:  # type: ignore[override]  # the stubs name it `input`
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        return F.conv2d(x[:, :, :: self.stride[0], :: self.stride[1]], self.weight, self.bias)


class ConvNorm(nn.Module):
    """`conv`, `norm` and, where there is one, `activation`.

    Args:
        spec: channels, window and activation.
    """

    def __init__(self, spec: ConvNormSpec) -> None:
        super().__init__()
        narrow = spec.kernel == 1 and spec.stride > 1 and spec.groups == 1 and spec.in_channels < NARROW
        self.conv = (Subsampled if narrow else nn.Conv2d)(
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


def conv_op(name: str, x: Tensor, spec: ConvNormSpec) -> Op:
    """The Op of the convolution of `spec` at module path `name` that reads `x` (C, H, W)."""
    return make_op(
        name,
        "conv2d",
        x,
        out_channels=spec.out_channels,
        kernel=spec.kernel,
        stride=spec.stride,
        padding=spec.kernel // 2,
        groups=spec.groups,
        bias=spec.bias,
    )


def conv_norm_ops(name: str, x: Tensor, spec: ConvNormSpec) -> tuple[Op, ...]:
    """The Ops of a `ConvNorm` at module path `name` that reads `x` (C, H, W)."""
    conv = conv_op(f"{name}.conv", x, spec)
    norm = make_op(f"{name}.norm", "batch_norm", conv.output)
    if not spec.activation:
        return conv, norm
    return conv, norm, make_op(f"{name}.activation", "activation", norm.output, function=spec.activation)
