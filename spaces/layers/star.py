"""The star block: two widenings of one input, multiplied; and its cost twin.

Source: Ma et al., Rewrite the Stars, CVPR 2024, https://arxiv.org/abs/2403.19967 (its StarNet).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops

__all__ = ["ACTIVATION", "StarBlock", "StarBlockSpec", "star_block_ops"]

ACTIVATION = "relu6"


@dataclass(frozen=True, slots=True, kw_only=True)
class StarBlockSpec:
    """What a star block computes.

    Attributes:
        in_channels: channels read and written.
        hidden: channels of the product.
        kernel: side of both depthwise windows, odd.
    """

    in_channels: int
    hidden: int
    kernel: int = 7

    @property
    def depthwise(self) -> ConvNormSpec:
        """The depthwise convolution in front."""
        return ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=self.in_channels,
            kernel=self.kernel,
            depthwise=True,
            bias=True,
        )

    @property
    def project(self) -> ConvNormSpec:
        """The narrowing 1x1 convolution after the product."""
        return ConvNormSpec(in_channels=self.hidden, out_channels=self.in_channels, bias=True)


class StarBlock(nn.Module):
    """A star block: `depthwise`, `left` (activated) times `right`, `project`, `last`, added to the input."""

    def __init__(self, spec: StarBlockSpec) -> None:
        super().__init__()
        channels = spec.in_channels
        self.depthwise = ConvNorm(spec.depthwise)
        self.left = nn.Conv2d(channels, spec.hidden, 1)
        self.activation = make_activation(ACTIVATION)
        self.right = nn.Conv2d(channels, spec.hidden, 1)
        self.project = ConvNorm(spec.project)
        self.last = nn.Conv2d(channels, channels, spec.kernel, padding=spec.kernel // 2, groups=channels)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> the same shape."""
        y = self.depthwise(x)
        y = self.activation(self.left(y)) * self.right(y)
        return x + self.last(self.project(y))


def star_block_ops(name: str, x: Tensor, spec: StarBlockSpec) -> tuple[Op, ...]:
    """The Ops of a `StarBlock` at module path `name` that reads `x` (C, H, W)."""
    front = conv_norm_ops(f"{name}.depthwise", x, spec.depthwise)
    left = make_op(f"{name}.left", "conv2d", front[-1].output, out_channels=spec.hidden, kernel=1, bias=True)
    active = make_op(f"{name}.activation", "activation", left.output, function=ACTIVATION)
    right = make_op(f"{name}.right", "conv2d", front[-1].output, out_channels=spec.hidden, kernel=1, bias=True)
    star = make_op(f"{name}.star", "mul", (active.output, right.output))
    project = conv_norm_ops(f"{name}.project", star.output, spec.project)
    last = make_op(
        f"{name}.last",
        "conv2d",
        project[-1].output,
        out_channels=spec.in_channels,
        kernel=spec.kernel,
        padding=spec.kernel // 2,
        groups=spec.in_channels,
        bias=True,
    )
    add = make_op(f"{name}.residual_add", "add", (x, last.output))
    return *front, left, active, right, star, *project, last, add
