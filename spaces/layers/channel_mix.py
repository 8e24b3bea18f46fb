"""Layers that permute or scale whole channels; their cost twins are the Op kinds of the same names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ChannelScale", "ChannelShuffle"]


class ChannelScale(nn.Module):
    """One learned factor per channel (layer scale); its cost twin is the Op kind `channel_scale`.

    Source: Touvron et al., Going Deeper with Image Transformers, ICCV 2021, https://arxiv.org/abs/2103.17239.

    Args:
        channels: channels read and written.
    """

    initial: float = 1e-5
    """What every factor starts with: blocks begin close to the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), self.initial))

    @torch.no_grad()
    def fill(self, generator: torch.Generator) -> None:
        """Set every factor to its initial value; nothing is drawn."""
        self.weight.fill_(self.initial)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape; C up to the number of factors, whose first C are used."""
        return x * self.weight[: x.shape[1]].view(-1, 1, 1)


class ChannelShuffle(nn.Module):
    """Interleave the channels of `groups` groups; its cost twin is the Op kind `channel_shuffle`.

    Source: Zhang et al., ShuffleNet, CVPR 2018, https://arxiv.org/abs/1707.01083.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape; C divides by `groups`."""
        n, channels, height, width = x.shape
        split = x.reshape(n, self.groups, channels // self.groups, height, width)
        return split.transpose(1, 2).reshape(n, channels, height, width)
