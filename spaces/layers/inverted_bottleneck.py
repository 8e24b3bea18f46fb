"""The inverted bottleneck in all its forms, and its cost twin.

expand 1x1 -> depthwise k x k -> squeeze-excite -> project 1x1, where parts may be missing: without the expansion it is
a depthwise separable block, without the depthwise convolution a feed-forward one, with a depthwise convolution in front
one of the forms of the universal inverted bottleneck, and fused the expansion takes the window itself.

Source: Sandler et al., MobileNetV2, CVPR 2018, https://arxiv.org/abs/1801.04381; with squeeze-excite after the
depthwise activation as in Howard et al., Searching for MobileNetV3, https://arxiv.org/abs/1905.02244; grouped and
shuffled as in Wu et al., FBNet, CVPR 2019, https://arxiv.org/abs/1812.03443; starting depthwise convolution and layer
scale as in Qin et al., MobileNetV4, ECCV 2024, https://arxiv.org/abs/2404.10518.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .channel_mix import ChannelScale, ChannelShuffle
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
        kernel: side of the depthwise window, odd; 0 for none.
        stride: step of the first of these that is there: depthwise window, starting window.
        activation: after the expanding and the depthwise convolution.
        squeezed: channels inside squeeze-excite, 0 for none.
        squeeze_activation: inside squeeze-excite.
        gate: of squeeze-excite.
        widens: whether there is an expanding convolution; without one `hidden` equals `in_channels`.
        fused: the expanding convolution takes window and stride, and there is no depthwise one.
        start_kernel: side of a depthwise window in front of the expansion, 0 for none.
        groups: of the 1x1 convolutions; where above 1 the hidden channels are shuffled after the expansion.
        layer_scale: a learned factor per output channel.
        shortcut: add the input where it has the output's shape.
    """

    in_channels: int
    hidden: int
    out_channels: int
    kernel: int
    stride: int
    activation: str
    squeezed: int = 0
    squeeze_activation: str = "relu"
    gate: str = "hard_sigmoid"
    widens: bool = True
    fused: bool = False
    start_kernel: int = 0
    groups: int = 1
    layer_scale: bool = False
    shortcut: bool = True

    @property
    def residual(self) -> bool:
        """Whether input and output have one shape and are added."""
        return self.shortcut and self.stride == 1 and self.in_channels == self.out_channels

    @property
    def start(self) -> ConvNormSpec | None:
        """The depthwise convolution in front, without activation; it strides only where no other can."""
        if not self.start_kernel:
            return None
        return ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=self.in_channels,
            kernel=self.start_kernel,
            stride=1 if self.kernel else self.stride,
            depthwise=True,
        )

    @property
    def expand(self) -> ConvNormSpec | None:
        """The widening convolution."""
        if not self.widens:
            return None
        return ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=self.hidden,
            kernel=self.kernel if self.fused else 1,
            stride=self.stride if self.fused else 1,
            pointwise_groups=self.groups,
            activation=self.activation,
        )

    @property
    def depthwise(self) -> ConvNormSpec | None:
        """The spatial convolution, channel by channel."""
        if self.fused or not self.kernel:
            return None
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
        return ConvNormSpec(in_channels=self.hidden, out_channels=self.out_channels, pointwise_groups=self.groups)


class InvertedBottleneck(nn.Module):
    """An inverted bottleneck with the parts and sizes of `spec`."""

    def __init__(self, spec: InvertedBottleneckSpec) -> None:
        super().__init__()
        self.residual = spec.residual
        self.start = ConvNorm(spec.start) if spec.start else None
        self.expand = ConvNorm(spec.expand) if spec.expand else None
        self.shuffle = ChannelShuffle(spec.groups) if spec.groups > 1 else None
        self.depthwise = ConvNorm(spec.depthwise) if spec.depthwise else None
        self.squeeze = (
            SqueezeExcite(spec.hidden, spec.squeezed, activation=spec.squeeze_activation, gate=spec.gate)
            if spec.squeezed
            else None
        )
        self.project = ConvNorm(spec.project)
        self.layer_scale = ChannelScale(spec.out_channels) if spec.layer_scale else None

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        y = x
        for part in (
            self.start, self.expand, self.shuffle, self.depthwise, self.squeeze, self.project, self.layer_scale
        ):  # fmt: skip
            if part is not None:
                y = part(y)
        return x + y if self.residual else y


def inverted_bottleneck_ops(name: str, x: Tensor, spec: InvertedBottleneckSpec) -> tuple[Op, ...]:
    """The Ops of an `InvertedBottleneck` at module path `name` that reads `x` (C, H, W)."""
    ops: tuple[Op, ...] = ()
    y = x
    for part in ("start", "expand", "shuffle", "depthwise", "squeeze", "project", "layer_scale"):
        ops += _part_ops(f"{name}.{part}", part, y, spec)
        y = ops[-1].output if ops else x
    if spec.residual:
        ops += (make_op(f"{name}.residual_add", "add", (x, y)),)
    return ops


def _part_ops(name: str, part: str, x: Tensor, spec: InvertedBottleneckSpec) -> tuple[Op, ...]:
    """The Ops of one part of the block, () where it is missing."""
    if part == "squeeze":
        if not spec.squeezed:
            return ()
        return squeeze_excite_ops(name, x, spec.squeezed, activation=spec.squeeze_activation, gate=spec.gate)
    if part == "shuffle":
        return (make_op(name, "channel_shuffle", x, groups=spec.groups),) if spec.groups > 1 else ()
    if part == "layer_scale":
        return (make_op(name, "channel_scale", x),) if spec.layer_scale else ()
    conv = {"start": spec.start, "expand": spec.expand, "depthwise": spec.depthwise, "project": spec.project}[part]
    return conv_norm_ops(name, x, conv) if conv else ()
