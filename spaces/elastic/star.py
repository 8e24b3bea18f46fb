"""The elastic star block: same module paths and order as the block it shares weights with."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers.activation import make_activation
from ..layers.chain import Brick
from ..layers.star import ACTIVATION, StarBlock, StarBlockSpec, star_block_ops
from .blocks import ElasticConvNorm
from .layers import ElasticConv2d

__all__ = ["STAR_BLOCK", "ElasticStarBlock"]


class ElasticStarBlock(nn.Module):
    """`StarBlock` with shared weights; `largest` holds the largest value of every size."""

    def __init__(self, largest: StarBlockSpec) -> None:
        super().__init__()
        channels = largest.in_channels
        self.depthwise = ElasticConvNorm(largest.depthwise)
        self.left = ElasticConv2d(channels, largest.hidden, 1)
        self.activation = make_activation(ACTIVATION)
        self.right = ElasticConv2d(channels, largest.hidden, 1)
        self.project = ElasticConvNorm(largest.project)
        self.last = ElasticConv2d(channels, channels, largest.kernel, groups=channels)

    def forward(self, x: Tensor, spec: StarBlockSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> the same shape."""
        y = self.depthwise(x, spec.depthwise)
        y = self.activation(self.left(y, spec.hidden, 1)) * self.right(y, spec.hidden, 1)
        y = self.project(y, spec.project)
        return x + self.last(y, spec.in_channels, spec.kernel, groups=spec.in_channels)


STAR_BLOCK = Brick(StarBlock, star_block_ops, ElasticStarBlock)
