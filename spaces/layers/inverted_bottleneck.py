"""The inverted bottleneck (expand 1x1, depthwise, optional squeeze-excite, project 1x1), and its cost twin.

Source: Sandler et al., MobileNetV2, CVPR 2018, https://arxiv.org/abs/1801.04381; with squeeze-excite after the
depthwise activation as in Howard et al., Searching for MobileNetV3, https://arxiv.org/abs/1905.02244.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from .squeeze_excite import SqueezeExcite, squeeze_excite_ops

__all__ = ["InvertedBottleneck", "InvertedBottleneckSpec", "inverted_bottleneck_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedBottleneckSpec:
    """What an inverted bottleneck computes; it alone drives the layer, its Ops and its elastic form.

    Attributes:
        in_channels: channels read.
        hidden: channels of the depthwise convolution.
        out_channels: channels written.
        kernel: side of the depthwise window, odd.
        stride: step of the depthwise window.
        activation: after the expanding and the depthwise convolution.
        squeezed: channels inside squeeze-excite, 0 for none.
    """

    in_channels: int
    hidden: int
    out_channels: int
    kernel: int
    stride: int
    activation: str
    squeezed: int = 0

    @property
    def residual(self) -> bool:
        """Whether input and output have one shape and are added."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def expand(self) -> ConvNormSpec:
        """The widening 1x1 convolution."""
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.hidden, activation=self.activation)

    @property
    def depthwise(self) -> ConvNormSpec:
        """The spatial convolution, channel by channel."""
        return ConvNormSpec(
            in_channels=self.hidden,
            out_channels=self.hidden,
            kernel=self.kernel,
            stride=self.stride,
            depthwise=True,
            activation=self.activation,
        )

    @property
    def project(self) -> ConvNormSpec:
        """The narrowing 1x1 convolution, without activation."""
        return ConvNormSpec(in_channels=self.hidden, out_channels=self.out_channels)


class InvertedBottleneck(nn.Module):
    """An inverted bottleneck with the sizes of `spec`."""

    def __init__(self, spec: InvertedBottleneckSpec) -> None:
        super().__init__()
        self.residual = spec.residual
        self.expand = ConvNorm(spec.expand)
        self.depthwise = ConvNorm(spec.depthwise)
        self.squeeze = SqueezeExcite(spec.hidden, spec.squeezed) if spec.squeezed else None
        self.project = ConvNorm(spec.project)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        y = self.depthwise(self.expand(x))
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        return x + y if self.residual else y


def inverted_bottleneck_ops(name: str, x: Tensor, spec: InvertedBottleneckSpec) -> tuple[Op, ...]:
    """The Ops of an `InvertedBottleneck` at module path `name` that reads `x` (C, H, W)."""
    ops = conv_norm_ops(f"{name}.expand", x, spec.expand)
    ops += conv_norm_ops(f"{name}.depthwise", ops[-1].output, spec.depthwise)
    if spec.squeezed:
        ops += squeeze_excite_ops(f"{name}.squeeze", ops[-1].output, spec.squeezed)
    ops += conv_norm_ops(f"{name}.project", ops[-1].output, spec.project)
    if spec.residual:
        ops += (make_op(f"{name}.residual_add", "add", (x, ops[-1].output)),)
    return ops
