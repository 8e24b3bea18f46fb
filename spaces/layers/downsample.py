"""Halving an image between stages, by a strided convolution or by pooling, and its cost twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..op import Op, Tensor, make_op
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops

__all__ = ["DOWNSAMPLES", "Downsample", "DownsampleSpec", "downsample_ops"]

DOWNSAMPLES: Final = ("conv", "pool")
"""A 3x3 convolution with stride 2; or the largest of 2x2 positions, then a 1x1 convolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownsampleSpec:
    """What a `Downsample` computes: channels read and written, and which of `DOWNSAMPLES` does it."""

    in_channels: int
    out_channels: int
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in DOWNSAMPLES:
            raise SpaceError(f"downsampling {self.kind!r} is unknown; allowed: {', '.join(DOWNSAMPLES)}.")

    @property
    def layer(self) -> ConvNormSpec:
        """The convolution, strided or after the pooling."""
        pooled = self.kind == "pool"
        return ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel=1 if pooled else 3,
            stride=1 if pooled else 2,
        )


class Downsample(nn.Module):
    """`conv`, or `pool` and `project`, as `spec` says."""

    def __init__(self, spec: DownsampleSpec) -> None:
        super().__init__()
        pooled = spec.kind == "pool"
        self.pool = make_pool() if pooled else None
        self.project = ConvNorm(spec.layer) if pooled else None
        self.conv = None if pooled else ConvNorm(spec.layer)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / 2), ceil(W / 2)]."""
        if self.pool is None or self.project is None:
            assert self.conv is not None
            return self.conv(x)
        return self.project(self.pool(x))


def make_pool() -> nn.MaxPool2d:
    """The pooling over 2x2 positions; the last window may be smaller."""
    return nn.MaxPool2d(2, 2, ceil_mode=True)


def downsample_ops(name: str, x: Tensor, spec: DownsampleSpec) -> tuple[Op, ...]:
    """The Ops of a `Downsample` at module path `name` that reads `x` (C, H, W)."""
    if spec.kind == "conv":
        return conv_norm_ops(f"{name}.conv", x, spec.layer)
    pool = make_op(f"{name}.pool", "max_pool2d", x, kernel=2, stride=2, ceil=True)
    return (pool, *conv_norm_ops(f"{name}.project", pool.output, spec.layer))
