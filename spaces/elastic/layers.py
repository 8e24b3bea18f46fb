"""Elastic layers: the largest weights are stored, a choice runs on views of them.

A smaller layer takes the first output channels, the first input channels and the centre of the kernel. `shared_slice`
is the only place that says so: the forward passes and `Supernet.extract` both use it.

Source: Cai et al., Once-for-All, ICLR 2020, https://arxiv.org/abs/1908.09791 (a smaller kernel is the centre crop
itself, or with `TransformedConv2d` a learned map of it); Yu and Huang, Universally Slimmable Networks, ICCV 2019,
https://arxiv.org/abs/1903.05134 (batch-norm statistics are re-estimated for each choice).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor, nn

from ...errors import SpaceError

__all__ = ["ElasticBatchNorm2d", "ElasticConv2d", "ElasticLinear", "KernelMaps", "TransformedConv2d", "shared_slice"]


def shared_slice(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """A view of `weight` with the given shape: prefixes along the first two axes, the centre along all others.

    Raises:
        SpaceError: the shape has other axes, or is larger than the weight.

    >>> import torch
    >>> shared_slice(torch.arange(5.0), (3,))
    tensor([0., 1., 2.])
    >>> shared_slice(torch.arange(25.0).view(1, 1, 5, 5), (1, 1, 3, 3)).flatten().tolist()
    [6.0, 7.0, 8.0, 11.0, 12.0, 13.0, 16.0, 17.0, 18.0]
    """
    if len(shape) != weight.ndim or any(want > size for want, size in zip(shape, weight.shape, strict=True)):
        raise SpaceError(f"shared weight of shape {tuple(weight.shape)} holds no slice of shape {tuple(shape)}.")
    if tuple(shape) == tuple(weight.shape):
        return weight
    # One view, whatever the number of axes: its gradient is written once into one tensor of zeros, laid out like the
    # weight. A chain of `narrow` writes one per axis, and loses channels-last on the way.
    strides = weight.stride()
    start = weight.storage_offset()
    for axis in range(2, weight.ndim):
        start += (weight.shape[axis] - shape[axis]) // 2 * strides[axis]
    return weight.as_strided(tuple(shape), strides, start)


class ElasticConv2d(nn.Conv2d):
    """A convolution whose output channels, kernel, stride and groups are chosen per call; it reads all it is given.

    A depthwise one (groups equal to its channels) stays depthwise at every width unless other groups are asked for.
    """

    def forward(  # type: ignore[override]  # takes the choice
        self, x: Tensor, out_channels: int, kernel: int, *, stride: int | None = None, groups: int | None = None
    ) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)], padding kernel // 2."""
        if groups is None:
            groups = out_channels if self.groups > 1 else 1
        weight = self.chosen_weight((out_channels, x.shape[1] // groups, kernel, kernel))
        bias = None if self.bias is None else shared_slice(self.bias, (out_channels,))
        return F.conv2d(x, weight, bias, self.stride if stride is None else stride, kernel // 2, groups=groups)

    def chosen_weight(self, shape: Sequence[int]) -> Tensor:
        """The weight that a choice with this weight shape runs on."""
        return shared_slice(self.weight, shape)


class KernelMaps(nn.Module):
    """One matrix [k * k, k * k] for every kernel side k but the largest; they start as the identity.

    Args:
        sides: of the kernels that are mapped to, ascending.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        for side in sides:
            self.register_parameter(f"to_{side}", nn.Parameter(torch.eye(side * side)))

    @torch.no_grad()
    def fill(self, generator: torch.Generator) -> None:
        """Set every matrix to the identity; nothing is drawn."""
        for matrix in self.parameters():
            matrix.zero_().fill_diagonal_(1.0)

    def map(self, weight: Tensor, side: int) -> Tensor:
        """[out, in, k, k] -> [out, in, side, side]: the centre of each filter, times the matrix of that side."""
        centre = shared_slice(weight, (*weight.shape[:2], side, side))
        return F.linear(centre.flatten(2), self.get_parameter(f"to_{side}")).view_as(centre)


class TransformedConv2d(ElasticConv2d):
    """An elastic convolution whose smaller kernels are learned linear maps of the next larger ones.

    The maps are shared by all channels, and applied one after the other: 7 to 5, then 5 to 3.

    Source: Cai et al., Once-for-All, ICLR 2020, https://arxiv.org/abs/1908.09791 (section 3.3, elastic kernel size).

    Args:
        in_channels: of the largest choice.
        out_channels: of the largest choice.
        kernel_size: the largest of `sides`.
        sides: of all kernels that may be chosen, ascending.
        **options: as for a convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, sides: Sequence[int], **options: Any
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)
        self.sides = tuple(sides[:-1])
        self.maps = KernelMaps(self.sides)

    def chosen_weight(self, shape: Sequence[int]) -> Tensor:
        """The weight that a choice with this weight shape runs on."""
        weight = shared_slice(self.weight, (*shape[:2], *self.weight.shape[2:]))
        for side in reversed(self.sides):
            if side < shape[-1]:
                break
            weight = self.maps.map(weight, side)
        return shared_slice(weight, shape)


class ElasticLinear(nn.Linear):
    """A linear layer that reads the first input features of its weight, as many as the input has."""

    def forward(self, input: Tensor, out_features: int | None = None) -> Tensor:  # noqa: A002  # torch's own name
        """[..., C] -> [..., out_features], all that there are by default."""
        out = self.out_features if out_features is None else out_features
        bias = None if self.bias is None else shared_slice(self.bias, (out,))
        return F.linear(input, shared_slice(self.weight, (out, input.shape[-1])), bias)


class ElasticBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the first channels, as many as the input has.

    In training mode the batch's own statistics normalise and nothing is stored: a running average over differing
    choices would be the statistics of none of them. In evaluation mode the running buffers normalise; they are the
    statistics of the choice that was calibrated last. While `calibrating`, the batch's statistics normalise and the
    buffers become the average of the batches' means and variances (biased), weighted by batch size. Where `tracking`,
    training does move the buffers of the channels that run, by `momentum`, whichever the choice.

    Where processes share a batch, `gather` brings a vector [K] of each of them together, [processes, K], and lets its
    gradient through; the whole batch's statistics normalise then.
    """

    calibrating: bool = False
    tracking: bool = False
    gather: Callable[[Tensor], Tensor] | None = None
    _samples: int = 0

    def start_calibration(self) -> None:
        """Forget the running statistics and average those of the following batches."""
        self.calibrating, self._samples = True, 0
        self.reset_running_stats()

    def end_calibration(self) -> None:
        """Keep the statistics averaged so far."""
        self.calibrating = False

    def chosen(self, values: Tensor, channels: int) -> Tensor:
        """A view of those `channels` of a weight or a statistic that a narrower input uses: the first."""
        return shared_slice(values, (channels,))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """[N, C, H, W] -> the same shape, C up to `num_features`."""
        channels = input.shape[1]
        weight = self.chosen(self.weight, channels).flatten() if self.affine else None
        bias = self.chosen(self.bias, channels).flatten() if self.affine else None
        if self.calibrating:
            return self._calibrate(input, weight, bias)
        if self.training and self.gather is not None:
            return _normalise_together(input, weight, bias, eps=self.eps, gather=self.gather)
        if self.training and self.tracking:
            assert self.momentum is not None
            return self._observe(input, weight, bias, self.momentum)
        if self.training:
            return F.batch_norm(input, None, None, weight, bias, training=True, eps=self.eps)
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance = (self.chosen(each, channels).flatten() for each in (self.running_mean, self.running_var))
        return F.batch_norm(input, mean, variance, weight, bias, training=False, eps=self.eps)

    def _calibrate(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        self._samples += len(x)
        return self._observe(x, weight, bias, len(x) / self._samples)

    def _observe(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, share: float) -> Tensor:
        """Normalise by the batch's statistics, and move those of its channels in the buffers towards them."""
        assert self.running_mean is not None
        assert self.running_var is not None
        channels = x.shape[1]
        mean, variance = self.running_mean.new_zeros(channels), self.running_var.new_ones(channels)
        # With momentum 1 torch writes the batch's mean and *unbiased* variance into the buffers it is given.
        y = F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=1.0, eps=self.eps)
        count = x.numel() // channels
        with torch.no_grad():
            biased = variance * ((count - 1) / count)
            for buffer, observed in ((self.running_mean, mean), (self.running_var, biased)):
                used = self.chosen(buffer, channels)
                used.lerp_(observed.view_as(used), share)
        return y


def _normalise_together(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float, gather: Callable[[Tensor], Tensor]
) -> Tensor:
    """Batch normalisation of [N, C, ...] by the statistics of all processes' samples.

    One exchange per layer: each process's mean, variance and number of values, put together by the formula for moments
    of parts, which loses no digits where a mean is far from 0.

    Source: Chan et al., The American Statistician 37(3), 1983, https://doi.org/10.1080/00031305.1983.10483115.
    """
    channels = x.shape[1]
    values = x if x.dtype == torch.float64 else x.float()
    variance, mean = torch.var_mean(values, [axis for axis in range(x.ndim) if axis != 1], correction=0)
    count = values.new_full((1,), x.numel() // channels)
    means, variances, counts = gather(torch.cat([mean, variance, count])).split([channels, channels, 1], dim=1)
    shares = counts / counts.sum()
    mean = (shares * means).sum(dim=0)
    scale = ((shares * (variances + (means - mean) ** 2)).sum(dim=0) + eps).rsqrt()
    shape = (1, channels, *[1] * (x.ndim - 2))
    normed = (values - mean.view(shape)) * (scale if weight is None else scale * weight).view(shape)
    return (normed if bias is None else normed + bias.view(shape)).to(x.dtype)
