"""Elastic residual blocks, stem and classifier: same module paths and order as the layers they share weights with."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ..layers.activation import make_activation
from ..layers.chain import Brick
from ..layers.classifier import Classifier, ClassifierSpec, classifier_ops
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..layers.pool import GlobalAvgPool
from ..layers.residual import (
    GATE,
    Residual,
    ResidualConvNorm,
    ResidualSpec,
    residual_conv_norm_ops,
    residual_ops,
)
from .blocks import ElasticConvNorm, ElasticSqueezeExcite
from .layers import ElasticBatchNorm2d, ElasticLinear

__all__ = [
    "CLASSIFIER",
    "CONV_NORM",
    "RESIDUAL",
    "RESIDUAL_CONV_NORM",
    "ElasticClassifier",
    "ElasticResidual",
    "ElasticResidualConvNorm",
]


class ElasticResidual(nn.Module):
    """`Residual` with shared weights; `largest` has every part and holds the largest value of every size."""

    def __init__(self, largest: ResidualSpec) -> None:
        super().__init__()
        self.body = nn.ModuleDict()
        for name, conv in largest.convolutions:
            self.body[name] = ElasticConvNorm(conv)
            if name == "spatial" and largest.squeezed:
                self.body["squeeze"] = ElasticSqueezeExcite(largest.hidden, largest.squeezed, gate=GATE)
        self.shortcut = nn.ModuleDict()
        if largest.pooled:
            self.shortcut["pool"] = nn.AvgPool2d(largest.pooled, largest.pooled, ceil_mode=True)
        if largest.projects:
            self.shortcut["project"] = ElasticConvNorm(largest.project)
        self.activation = make_activation(largest.activation)

    def forward(self, x: Tensor, spec: ResidualSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, ceil(H / stride), ceil(W / stride)]."""
        y, shortcut = x, x
        for name, conv in spec.convolutions:
            y = self.body[name](y, conv)
            if name == "spatial" and spec.squeezed:
                y = cast(ElasticSqueezeExcite, self.body["squeeze"])(y, spec.squeezed)
        if spec.pooled:
            shortcut = self.shortcut["pool"](shortcut)
        if spec.projects:
            shortcut = self.shortcut["project"](shortcut, spec.project)
        return self.activation(y + shortcut)


class ElasticResidualConvNorm(ElasticConvNorm):
    """`ResidualConvNorm` with shared weights."""

    def forward(self, x: Tensor, spec: ConvNormSpec) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return x + super().forward(x, spec)


class ElasticClassifier(nn.Module):
    """`Classifier` with shared weights: only its input width changes."""

    def __init__(self, largest: ClassifierSpec) -> None:
        super().__init__()
        self.norm = ElasticBatchNorm2d(largest.in_channels) if largest.normed else None
        self.pool = GlobalAvgPool()
        self.linear = ElasticLinear(largest.in_channels, largest.classes, bias=largest.bias)

    def forward(self, x: Tensor, spec: ClassifierSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, classes] logits."""
        return self.linear(self.pool(x if self.norm is None else self.norm(x)))


CLASSIFIER = Brick(Classifier, classifier_ops, ElasticClassifier)
CONV_NORM = Brick(ConvNorm, conv_norm_ops, ElasticConvNorm)
RESIDUAL = Brick(Residual, residual_ops, ElasticResidual)
RESIDUAL_CONV_NORM = Brick(ResidualConvNorm, residual_conv_norm_ops, ElasticResidualConvNorm)
