"""Elastic forms of the layers in `layers/`: same module paths, same order, choices given as the same specs."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from ..layers.activation import make_activation
from ..layers.channel_mix import ChannelScale
from ..layers.conv_norm import ConvNormSpec
from ..layers.head import HeadSpec
from ..layers.inverted_bottleneck import InvertedBottleneckSpec
from ..layers.mobile_attention import MobileAttentionSpec, attend
from ..layers.pool import GlobalAvgPool
from .layers import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear, TransformedConv2d

__all__ = [
    "ElasticConvNorm",
    "ElasticHead",
    "ElasticInvertedBottleneck",
    "ElasticMobileAttention",
    "ElasticSqueezeExcite",
]


class ElasticConvNorm(nn.Module):
    """`ConvNorm` with shared weights; `largest` bounds every choice, `transformed` has the sides of learned kernels."""

    def __init__(self, largest: ConvNormSpec, *, transformed: tuple[int, ...] = ()) -> None:
        super().__init__()
        build = partial(TransformedConv2d, sides=transformed) if len(transformed) > 1 else ElasticConv2d
        self.conv = build(
            largest.in_channels,
            largest.out_channels,
            largest.kernel,
            stride=largest.stride,
            groups=largest.groups,
            bias=largest.bias,
        )
        self.norm = ElasticBatchNorm2d(largest.out_channels)
        self.activation = make_activation(largest.activation) if largest.activation else None

    def forward(self, x: Tensor, spec: ConvNormSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, ceil(H / stride), ceil(W / stride)]."""
        x = self.norm(self.conv(x, spec.out_channels, spec.kernel, stride=spec.stride, groups=spec.groups))
        return x if self.activation is None else self.activation(x)


class ElasticSqueezeExcite(nn.Module):
    """`SqueezeExcite` with shared weights."""

    def __init__(self, channels: int, squeezed: int, *, activation: str = "relu", gate: str = "hard_sigmoid") -> None:
        super().__init__()
        self.pool = GlobalAvgPool(keep_dims=True)
        self.reduce = ElasticConv2d(channels, squeezed, 1)
        self.activation = make_activation(activation)
        self.expand = ElasticConv2d(squeezed, channels, 1)
        self.gate = make_activation(gate)

    def forward(self, x: Tensor, squeezed: int) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        gate = self.expand(self.activation(self.reduce(self.pool(x), squeezed, 1)), x.shape[1], 1)
        return x * self.gate(gate)


class ElasticInvertedBottleneck(nn.Module):
    """`InvertedBottleneck` with shared weights; `largest` has every part and holds the largest value of every size.

    Args:
        largest: bounds every choice.
        transformed: sides of the depthwise windows, where smaller ones are learned maps of larger ones.
    """

    def __init__(self, largest: InvertedBottleneckSpec, *, transformed: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.start = ElasticConvNorm(largest.start) if largest.start else None
        self.expand = ElasticConvNorm(largest.expand) if largest.expand else None
        self.depthwise = ElasticConvNorm(largest.depthwise, transformed=transformed) if largest.depthwise else None
        self.squeeze = (
            ElasticSqueezeExcite(
                largest.hidden, largest.squeezed, activation=largest.squeeze_activation, gate=largest.gate
            )
            if largest.squeezed
            else None
        )
        self.project = ElasticConvNorm(largest.project)
        self.layer_scale = ChannelScale(largest.out_channels) if largest.layer_scale else None

    def forward(self, x: Tensor, spec: InvertedBottleneckSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, ceil(H / stride), ceil(W / stride)]."""
        y = x
        if self.start is not None and spec.start is not None:
            y = self.start(y, spec.start)
        if self.expand is not None and spec.expand is not None:
            y = self.expand(y, spec.expand)
        if spec.groups > 1:
            y = nn.functional.channel_shuffle(y, spec.groups)
        if self.depthwise is not None and spec.depthwise is not None:
            y = self.depthwise(y, spec.depthwise)
        if self.squeeze is not None and spec.squeezed:
            y = self.squeeze(y, spec.squeezed)
        y = self.project(y, spec.project)
        if self.layer_scale is not None:
            y = self.layer_scale(y)
        return x + y if spec.residual else y


class ElasticMobileAttention(nn.Module):
    """`MobileAttention` with shared weights; channels and heads take prefixes."""

    def __init__(self, largest: MobileAttentionSpec) -> None:
        super().__init__()
        wide = largest.heads * largest.head_channels
        self.norm = ElasticBatchNorm2d(largest.channels)
        self.query = ElasticConv2d(largest.channels, wide, 1, bias=False)
        self.key_down = ElasticConvNorm(largest.down) if largest.down else None
        self.key = ElasticConv2d(largest.channels, largest.head_channels, 1, bias=False)
        self.value_down = ElasticConvNorm(largest.down) if largest.down else None
        self.value = ElasticConv2d(largest.channels, largest.head_channels, 1, bias=False)
        self.project = ElasticConv2d(wide, largest.channels, 1, bias=False)
        self.layer_scale = ChannelScale(largest.channels) if largest.layer_scale else None

    def forward(self, x: Tensor, spec: MobileAttentionSpec) -> Tensor:
        """[N, spec.channels, H, W] -> the same shape."""
        y = self.norm(x)
        key, value = y, y
        if self.key_down is not None and self.value_down is not None and spec.down is not None:
            key, value = self.key_down(y, spec.down), self.value_down(y, spec.down)
        query = self.query(y, spec.heads * spec.head_channels, 1)
        key, value = self.key(key, spec.head_channels, 1), self.value(value, spec.head_channels, 1)
        y = self.project(attend(query, key, value, spec.heads), spec.channels, 1)
        return x + (y if self.layer_scale is None else self.layer_scale(y))


class ElasticMix(nn.Module):
    """The second 1x1 convolution of a head, with shared weights."""

    def __init__(self, largest: HeadSpec) -> None:
        super().__init__()
        self.conv = ElasticConv2d(largest.channels, largest.mixed, 1, bias=largest.mix == "bias")
        self.norm = ElasticBatchNorm2d(largest.mixed) if largest.mix == "norm" else None
        self.activation = make_activation(largest.activation)

    def forward(self, x: Tensor, mixed: int) -> Tensor:
        """[N, C, 1, 1] -> [N, mixed, 1, 1]."""
        x = self.conv(x, mixed, 1)
        return self.activation(x if self.norm is None else self.norm(x))


class ElasticHead(nn.Module):
    """`Head` with shared weights: its input width and its features change."""

    def __init__(self, largest: HeadSpec) -> None:
        super().__init__()
        self.features = ElasticConvNorm(largest.features)
        self.pool = GlobalAvgPool(keep_dims=largest.mixed > 0)
        self.mix = ElasticMix(largest) if largest.mixed else None
        self.classifier = ElasticLinear(largest.mixed or largest.channels, largest.classes)

    def forward(self, x: Tensor, spec: HeadSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, classes] logits."""
        x = self.pool(self.features(x, spec.features))
        return self.classifier(x if self.mix is None else self.mix(x, spec.mixed).flatten(1))
