"""The convolution of the gene language: any window, transposed or not, with its norm and activation; and its cost twin.

Where `ConvNorm` is what published families need, this one is what a user may ask for: dilation, explicit padding,
groups, no norm (then the convolution has a bias), transposed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation

__all__ = ["Window", "WindowSpec", "window_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """What a `Window` computes.

    Attributes:
        in_channels: channels read.
        out_channels: channels written.
        kernel: side of the square window.
        stride: step of the window, or growth of the image where transposed.
        padding: zeros on every side.
        dilation: distance of the window's taps.
        groups: of the convolution.
        transposed: a transposed convolution; it has neither groups nor dilation.
        norm: whether a batch norm follows; without one the convolution has a bias.
        activation: what comes last, "" for nothing.
    """

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    norm: bool = True
    activation: str = ""


class Window(nn.Module):
    """`conv`, `norm` and `activation`, as far as the spec has them."""

    def __init__(self, spec: WindowSpec) -> None:
        super().__init__()
        channels = spec.in_channels, spec.out_channels, spec.kernel
        if spec.transposed:
            self.conv = nn.ConvTranspose2d(
                *channels, spec.stride, spec.padding, output_padding=spec.stride - 1, bias=not spec.norm
            )
        else:
            self.conv = nn.Conv2d(
                *channels, spec.stride, spec.padding, spec.dilation, groups=spec.groups, bias=not spec.norm
            )
        self.norm = nn.BatchNorm2d(spec.out_channels) if spec.norm else None
        self.activation = make_activation(spec.activation) if spec.activation else None

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, H', W']."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


def window_ops(name: str, x: Tensor, spec: WindowSpec) -> tuple[Op, ...]:
    """The Ops of a `Window` at module path `name` that reads `x` (C, H, W)."""
    common = {"out_channels": spec.out_channels, "kernel": spec.kernel, "stride": spec.stride, "padding": spec.padding}
    if spec.transposed:
        ops = (make_op(f"{name}.conv", "conv_transpose2d", x, **common, bias=not spec.norm),)
    else:
        extra = {"dilation": spec.dilation, "groups": spec.groups, "bias": not spec.norm}
        ops = (make_op(f"{name}.conv", "conv2d", x, **common, **extra),)
    if spec.norm:
        ops += (make_op(f"{name}.norm", "batch_norm", ops[-1].output),)
    if spec.activation:
        ops += (make_op(f"{name}.activation", "activation", ops[-1].output, function=spec.activation),)
    return ops
