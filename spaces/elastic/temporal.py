"""Elastic layers over time: module paths of `layers/temporal`, choices given as its specs.

Source: Wang et al., EfficientTDNN, 2021, https://arxiv.org/abs/2103.13581; the kernel transform is that of Cai et al.,
Once-for-All, ICLR 2020, https://arxiv.org/abs/1908.09791 (here over one axis).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor, nn

from ..layers.pool import GlobalAvgPool
from ..layers.temporal import SERes2Spec, StatisticsPool, TemporalConvSpec
from .layers import ElasticBatchNorm2d, shared_slice

__all__ = [
    "ElasticAttentiveStatistics",
    "ElasticBatchNorm1d",
    "ElasticConv1d",
    "ElasticSERes2Block",
    "ElasticTemporalConv",
    "KernelTransform",
]


class ElasticBatchNorm1d(ElasticBatchNorm2d):
    """`ElasticBatchNorm2d` for [N, C, T] and [N, C]: its arithmetic asks for nothing but channels on axis 1."""


class KernelTransform(nn.Module):
    """A learned matrix between a kernel and the smaller one cut from its centre; the identity at first."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel, kernel))

    def fill(self, generator: torch.Generator) -> None:
        """The identity."""
        del generator  # nothing is random
        nn.init.eye_(self.weight)

    def forward(self, weight: Tensor) -> Tensor:
        """[..., kernel] taps -> the same shape."""
        return weight @ self.weight


class ElasticConv1d(nn.Conv1d):
    """A convolution over time whose output channels and kernel are chosen per call; input channels follow the input.

    Args:
        in_channels: the most it reads.
        out_channels: the most it writes.
        kernel: its largest window, odd.
        dilation: steps between taps.
        transformed: smaller windows that get a `KernelTransform`, from the window one larger; () = plain centre crops.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        dilation: int = 1,
        transformed: Sequence[int] = (),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, dilation=dilation)
        sizes = sorted(transformed, reverse=True)
        self.transforms = nn.ModuleDict({str(size): KernelTransform(size) for size in sizes if size < kernel})

    def kernel_weight(self, shape: Sequence[int]) -> Tensor:
        """The weight of a smaller convolution: first channels, centre taps, transformed step by step."""
        weight = shared_slice(self.weight, (shape[0], shape[1], self.kernel_size[0]))
        for size, transform in self.transforms.items():
            if int(size) >= shape[2]:
                weight = transform(shared_slice(weight, (shape[0], shape[1], int(size))))
        return shared_slice(weight, shape)

    def forward(self, x: Tensor, out_channels: int, kernel: int = 1) -> Tensor:  # type: ignore[override]  # the choice
        """[N, C, T] -> [N, out_channels, T]."""
        weight = self.kernel_weight((out_channels, x.shape[1], kernel))
        assert self.bias is not None
        padding = kernel // 2 * self.dilation[0]
        return F.conv1d(x, weight, self.bias[:out_channels], padding=padding, dilation=self.dilation)


class ElasticTemporalConv(nn.Module):
    """`TemporalConv` with shared weights; `largest` bounds every choice."""

    def __init__(self, largest: TemporalConvSpec, transformed: Sequence[int] = ()) -> None:
        super().__init__()
        self.conv = ElasticConv1d(
            largest.in_channels, largest.out_channels, largest.kernel, dilation=largest.dilation,
            transformed=transformed,
        )  # fmt: skip
        self.activation = nn.ReLU()
        self.norm = ElasticBatchNorm1d(largest.out_channels)

    def forward(self, x: Tensor, spec: TemporalConvSpec) -> Tensor:
        """[N, spec.in_channels, T] -> [N, spec.out_channels, T]."""
        return self.norm(self.activation(self.conv(x, spec.out_channels, spec.kernel)))


class _ElasticSqueezeExcite(nn.Module):
    """`TemporalSqueezeExcite` with shared weights."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = GlobalAvgPool(keep_dims=True)
        self.reduce = ElasticConv1d(channels, squeezed)
        self.expand = ElasticConv1d(squeezed, channels)

    def forward(self, x: Tensor, squeezed: int) -> Tensor:
        """[N, C, T] -> the same shape."""
        gate = self.expand(self.reduce(self.pool(x), squeezed).relu(), x.shape[1])
        return x * gate.sigmoid()


class ElasticSERes2Block(nn.Module):
    """`SERes2Block` with shared weights; the scale is the same for every choice."""

    def __init__(self, largest: SERes2Spec, transformed: Sequence[int] = ()) -> None:
        super().__init__()
        self.reduce = ElasticTemporalConv(largest.reduce)
        self.groups = nn.ModuleList(ElasticTemporalConv(largest.group, transformed) for _ in range(largest.scale - 1))
        self.expand = ElasticTemporalConv(largest.expand)
        self.squeeze = _ElasticSqueezeExcite(largest.channels, largest.squeezed)

    def forward(self, x: Tensor, spec: SERes2Spec) -> Tensor:
        """[N, spec.channels, T] -> the same shape."""
        first, *parts = self.reduce(x, spec.reduce).chunk(spec.scale, dim=1)
        done = [first]
        for index, (group, part) in enumerate(zip(self.groups, parts, strict=True)):
            done.append(group(part + done[-1] if index else part, spec.group))
        return x + self.squeeze(self.expand(torch.cat(done, dim=1), spec.expand), spec.squeezed)


class ElasticAttentiveStatistics(nn.Module):
    """`AttentiveStatistics` with shared weights: its channels follow the input."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeezed = squeezed
        self.reduce = ElasticConv1d(channels, squeezed)
        self.expand = ElasticConv1d(squeezed, channels)
        self.pool = StatisticsPool()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T] -> [N, 2 C]."""
        weights = self.expand(self.reduce(x, self.squeezed).tanh(), x.shape[1]).softmax(dim=2)
        return self.pool(x, weights)
