"""Elastic layers over time: module paths of `layers/temporal`, choices given as its specs.

Where channels lie in equal parts (the groups of an SE-Res2 block, the outputs of several blocks, means and deviations),
a smaller choice takes the first channels of every part, so that each part keeps its own weights. Such a weight is
gathered anew where it is used.

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
    "ElasticPooledLinear",
    "ElasticSERes2Block",
    "ElasticTemporalConv",
    "KernelTransform",
    "part_slice",
]


def part_slice(values: Tensor, axis: int, parts: int, size: int) -> Tensor:
    """`size` entries along `axis`: the first of each of `parts` equal parts.

    >>> part_slice(torch.arange(6), 0, 2, 4).tolist()
    [0, 1, 3, 4]
    """
    if size == values.shape[axis]:
        return values
    return values.unflatten(axis, (parts, -1)).narrow(axis + 1, 0, size // parts).flatten(axis, axis + 1)


class ElasticBatchNorm1d(ElasticBatchNorm2d):
    """`ElasticBatchNorm2d` for [N, C, T] and [N, C]: its arithmetic asks for nothing but channels on axis 1.

    Args:
        channels: the most there are.
        parts: equal parts that they lie in.
    """

    def __init__(self, channels: int, parts: int = 1) -> None:
        super().__init__(channels)
        self.parts = parts

    def chosen(self, values: Tensor, channels: int) -> Tensor:
        """A view [parts, channels / parts] of the first channels of every part."""
        return values.view(self.parts, -1)[:, : channels // self.parts]


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
        bias: whether it has one.
        parts: equal parts that the channels read and the channels written lie in.
        transformed: smaller windows that get a `KernelTransform`, from the window one larger; () = plain centre crops.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        dilation: int = 1,
        bias: bool = False,
        parts: tuple[int, int] = (1, 1),
        transformed: Sequence[int] = (),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, dilation=dilation, bias=bias)
        self.parts = parts
        sizes = sorted(transformed, reverse=True)
        self.transforms = nn.ModuleDict({str(size): KernelTransform(size) for size in sizes if size < kernel})

    def kernel_weight(self, shape: Sequence[int]) -> Tensor:
        """The weight of a smaller convolution: first channels, centre taps, transformed step by step."""
        read, written = self.parts
        weight = part_slice(part_slice(self.weight, 0, written, shape[0]), 1, read, shape[1])
        for size, transform in self.transforms.items():
            if int(size) >= shape[2]:
                weight = transform(shared_slice(weight, (shape[0], shape[1], int(size))))
        return shared_slice(weight, shape)

    def forward(self, x: Tensor, out_channels: int, kernel: int = 1) -> Tensor:  # type: ignore[override]  # the choice
        """[N, C, T] -> [N, out_channels, T]."""
        weight = self.kernel_weight((out_channels, x.shape[1], kernel))
        bias = None if self.bias is None else self.bias[:out_channels]
        padding = kernel // 2 * self.dilation[0]
        return F.conv1d(x, weight, bias, padding=padding, dilation=self.dilation)


class ElasticTemporalConv(nn.Module):
    """`TemporalConv` with shared weights; `largest` bounds every choice.

    Args:
        largest: the largest value of every size.
        transformed: as in `ElasticConv1d`.
        parts: as in `ElasticConv1d`.
    """

    def __init__(
        self, largest: TemporalConvSpec, transformed: Sequence[int] = (), parts: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.conv = ElasticConv1d(
            largest.in_channels, largest.out_channels, largest.kernel, dilation=largest.dilation, parts=parts,
            transformed=transformed,
        )  # fmt: skip
        self.activation = nn.ReLU()
        self.norm = ElasticBatchNorm1d(largest.out_channels, parts[1])

    def forward(self, x: Tensor, spec: TemporalConvSpec) -> Tensor:
        """[N, spec.in_channels, T] -> [N, spec.out_channels, T]."""
        return self.norm(self.activation(self.conv(x, spec.out_channels, spec.kernel)))


class _ElasticSqueezeExcite(nn.Module):
    """`TemporalSqueezeExcite` with shared weights."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = GlobalAvgPool(keep_dims=True)
        self.reduce = ElasticConv1d(channels, squeezed, bias=True)
        self.expand = ElasticConv1d(squeezed, channels, bias=True)

    def forward(self, x: Tensor, squeezed: int) -> Tensor:
        """[N, C, T] -> the same shape."""
        gate = self.expand(self.reduce(self.pool(x), squeezed).relu(), x.shape[1])
        return x * gate.sigmoid()


class ElasticSERes2Block(nn.Module):
    """`SERes2Block` with shared weights; the scale is the same for every choice."""

    def __init__(self, largest: SERes2Spec, transformed: Sequence[int] = ()) -> None:
        super().__init__()
        scale = largest.scale
        self.reduce = ElasticTemporalConv(largest.reduce, parts=(1, scale))
        self.groups = nn.ModuleList(ElasticTemporalConv(largest.group, transformed) for _ in range(scale - 1))
        self.expand = ElasticTemporalConv(largest.expand, parts=(scale, 1))
        self.squeeze = _ElasticSqueezeExcite(largest.channels, largest.squeezed)

    def forward(self, x: Tensor, spec: SERes2Spec) -> Tensor:
        """[N, spec.channels, T] -> the same shape."""
        *parts, last = self.reduce(x, spec.reduce).chunk(spec.scale, dim=1)
        done: list[Tensor] = []
        for group, part in zip(self.groups, parts, strict=True):
            done.append(group(part + done[-1] if done else part, spec.group))
        return self.squeeze(self.expand(torch.cat((*done, last), dim=1), spec.expand), spec.squeezed)


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


class ElasticPooledLinear(nn.Linear):
    """A linear layer over means and deviations, of which the first of either are used; both as views."""

    def chosen(self, weight: Tensor, features: int) -> Tensor:
        """[out_features, 2, features / 2], a view."""
        return weight.unflatten(1, (2, -1))[:, :, : features // 2]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """[N, 2 C] -> [N, out_features]."""
        means, deviations = input.chunk(2, dim=1)
        weight = self.chosen(self.weight, input.shape[1])
        return F.linear(means, weight[:, 0], self.bias) + F.linear(deviations, weight[:, 1])
