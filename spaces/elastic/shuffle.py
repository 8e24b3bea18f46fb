"""The elastic form of ShuffleNetV2 blocks: of one size, but with batch norms that can be calibrated."""

from __future__ import annotations

from torch import Tensor, cat, nn

from ..layers.chain import Brick
from ..layers.channel_mix import ChannelShuffle
from ..layers.shuffle import ShuffleBlock, ShuffleBlockSpec, shuffle_block_ops
from .blocks import ElasticConvNorm

__all__ = ["SHUFFLE_BLOCK", "ElasticShuffleBlock"]


class ElasticShuffleBlock(nn.Module):
    """`ShuffleBlock` with shared weights."""

    def __init__(self, largest: ShuffleBlockSpec) -> None:
        super().__init__()
        self.shuffle = None if largest.bypass else ChannelShuffle(largest.in_channels // 2)
        self.bypass = nn.ModuleList(ElasticConvNorm(conv) for conv in largest.bypass) if largest.bypass else None
        self.main = nn.ModuleList(ElasticConvNorm(conv) for conv in largest.main)

    def forward(self, x: Tensor, spec: ShuffleBlockSpec) -> Tensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, ceil(H / stride), ceil(W / stride)]."""
        passed = x
        if self.bypass is not None:
            for layer, conv in zip(self.bypass, spec.bypass, strict=True):
                passed = layer(passed, conv)
        elif self.shuffle is not None:
            passed, x = self.shuffle(x).tensor_split((spec.passed,), dim=1)
        for layer, conv in zip(self.main, spec.main, strict=True):
            x = layer(x, conv)
        return cat((passed, x), dim=1)


SHUFFLE_BLOCK = Brick(ShuffleBlock, shuffle_block_ops, ElasticShuffleBlock)
