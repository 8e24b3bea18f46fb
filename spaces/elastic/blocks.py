"""Elastic forms of the layers in `layers/`: same module paths, same order, choices given as the same specs."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers.activation import make_activation
from ..layers.conv_norm import ConvNormSpec
from ..layers.head import HeadSpec
from ..layers.inverted_bottleneck import InvertedBottleneckSpec
from ..layers.pool import GlobalAvgPool
from .layers import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear

__all__ = ["ElasticConvNorm", "ElasticHead", "ElasticInvertedBottleneck", "ElasticSqueezeExcite"]


class ElasticConvNorm(nn.Module):
    """`ConvNorm` with shared weights; `largest` bounds every choice."""

    def __init__(self, largest: ConvNormSpec) -> None:
        super().__init__()
        self.conv = ElasticConv2d(
            largest.in_channels,
            largest.out_channels,
            largest.kernel,
            stride=largest.stride,
            groups=largest.groups,
            bias=False,
        )
        self.norm = ElasticBatchNorm2d(largest.out_channels)
        self.activation = make_activation(largest.activation) if largest.activation else None

    def forward(self, x: Tensor, spec: ConvNormSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, ceil(H / stride), ceil(W / stride)]."""
        x = self.norm(self.conv(x, spec.out_channels, spec.kernel))
        return x if self.activation is None else self.activation(x)


class ElasticSqueezeExcite(nn.Module):
    """`SqueezeExcite` with shared weights."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = GlobalAvgPool(keep_dims=True)
        self.reduce = ElasticConv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.expand = ElasticConv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor, squeezed: int) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        gate = self.expand(self.activation(self.reduce(self.pool(x), squeezed, 1)), x.shape[1], 1)
        return x * self.gate(gate)


class ElasticInvertedBottleneck(nn.Module):
    """`InvertedBottleneck` with shared weights; `largest` holds the largest value of every size."""

    def __init__(self, largest: InvertedBottleneckSpec) -> None:
        super().__init__()
        self.expand = ElasticConvNorm(largest.expand)
        self.depthwise = ElasticConvNorm(largest.depthwise)
        self.squeeze = ElasticSqueezeExcite(largest.hidden, largest.squeezed) if largest.squeezed else None
        self.project = ElasticConvNorm(largest.project)

    def forward(self, x: Tensor, spec: InvertedBottleneckSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, ceil(H / stride), ceil(W / stride)]."""
        y = self.depthwise(self.expand(x, spec.expand), spec.depthwise)
        if self.squeeze is not None:
            y = self.squeeze(y, spec.squeezed)
        y = self.project(y, spec.project)
        return x + y if spec.residual else y


class ElasticHead(nn.Module):
    """`Head` with shared weights: only its input width changes."""

    def __init__(self, largest: HeadSpec) -> None:
        super().__init__()
        self.features = ElasticConvNorm(largest.features)
        self.pool = GlobalAvgPool()
        self.classifier = ElasticLinear(largest.channels, largest.classes)

    def forward(self, x: Tensor, spec: HeadSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, classes] logits."""
        return self.classifier(self.pool(self.features(x, spec.features)))
