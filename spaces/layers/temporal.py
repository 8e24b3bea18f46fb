"""Layers over time for audio: convolution, ReLU and norm; SE-Res2 block; attentive statistics; each with a cost twin.

Sources: Desplanques et al., ECAPA-TDNN, Interspeech 2020, https://arxiv.org/abs/2005.07143 (the SE-Res2 block); Gao et
al., Res2Net, 2019, https://arxiv.org/abs/1904.01169; Okabe et al., Attentive Statistics Pooling, Interspeech 2018,
https://arxiv.org/abs/1803.10963 (equations 3 to 7, a weight per channel as in ECAPA-TDNN). Which layers have a bias and
which group of a block passes unchanged is as in EfficientTDNN's released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..onnx_graph import EPSILON
from ..op import Op, Tensor, make_op
from .pool import GlobalAvgPool

__all__ = [
    "AttentiveStatistics",
    "SERes2Block",
    "SERes2Spec",
    "StatisticsPool",
    "TemporalConv",
    "TemporalConvSpec",
    "TemporalSqueezeExcite",
    "attentive_statistics_ops",
    "res2_ops",
    "temporal_conv_ops",
    "temporal_squeeze_excite_ops",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalConvSpec:
    """What a `TemporalConv` computes: channels, window (odd) and dilation; the length stays the same."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    dilation: int = 1

    @property
    def padding(self) -> int:
        """Positions added at either end."""
        return self.kernel // 2 * self.dilation


class TemporalConv(nn.Module):
    """`conv` over time, ReLU (`activation`), `norm`."""

    def __init__(self, spec: TemporalConvSpec) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            spec.in_channels, spec.out_channels, spec.kernel, padding=spec.padding, dilation=spec.dilation, bias=False
        )
        self.activation = nn.ReLU()
        self.norm = nn.BatchNorm1d(spec.out_channels)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, T] -> [N, out_channels, T]."""
        return self.norm(self.activation(self.conv(x)))


def temporal_conv_ops(name: str, x: Tensor, spec: TemporalConvSpec) -> tuple[Op, ...]:
    """The Ops of a `TemporalConv` at module path `name` that reads `x` (C, T)."""
    conv = make_op(
        f"{name}.conv", "conv1d", x, out_channels=spec.out_channels, kernel=spec.kernel, padding=spec.padding,
        dilation=spec.dilation,
    )  # fmt: skip
    bent = make_op(f"{name}.activation", "activation", conv.output, function="relu")
    return conv, bent, make_op(f"{name}.norm", "batch_norm", bent.output)


class TemporalSqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from all channels' means over time."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = GlobalAvgPool(keep_dims=True)
        self.reduce = nn.Conv1d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.expand = nn.Conv1d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, T] -> the same shape."""
        return x * self.gate(self.expand(self.activation(self.reduce(self.pool(x)))))


def temporal_squeeze_excite_ops(name: str, x: Tensor, squeezed: int) -> tuple[Op, ...]:
    """The Ops of a `TemporalSqueezeExcite` at module path `name` that reads `x` (C, T)."""
    pool = make_op(f"{name}.pool", "global_avg_pool", x, keep_dims=True)
    reduce = make_op(f"{name}.reduce", "conv1d", pool.output, out_channels=squeezed, kernel=1, bias=True)
    bent = make_op(f"{name}.activation", "activation", reduce.output, function="relu")
    expand = make_op(f"{name}.expand", "conv1d", bent.output, out_channels=x.shape[0], kernel=1, bias=True)
    gate = make_op(f"{name}.gate", "activation", expand.output, function="sigmoid")
    return pool, reduce, bent, expand, gate, make_op(f"{name}.scaled", "mul", (x, gate.output))


@dataclass(frozen=True, slots=True, kw_only=True)
class SERes2Spec:
    """What an SE-Res2 block computes.

    Attributes:
        channels: read and written.
        hidden: channels inside, a multiple of `scale`.
        scale: groups of hidden channels; each but the last is convolved, after adding what came of the one before it.
        kernel: of those convolutions, odd.
        dilation: of those convolutions.
        squeezed: channels inside squeeze-excite.
    """

    channels: int
    hidden: int
    scale: int
    kernel: int
    dilation: int
    squeezed: int

    def __post_init__(self) -> None:
        if self.hidden % self.scale or self.scale < 2:
            raise SpaceError(
                f"SE-Res2 block: {self.hidden} hidden channels in {self.scale} groups; the scale must be at least 2 "
                "and divide the hidden channels."
            )

    @property
    def reduce(self) -> TemporalConvSpec:
        """The convolution into the hidden channels."""
        return TemporalConvSpec(in_channels=self.channels, out_channels=self.hidden)

    @property
    def group(self) -> TemporalConvSpec:
        """The convolution of one group."""
        size = self.hidden // self.scale
        return TemporalConvSpec(in_channels=size, out_channels=size, kernel=self.kernel, dilation=self.dilation)

    @property
    def expand(self) -> TemporalConvSpec:
        """The convolution back to the block's channels."""
        return TemporalConvSpec(in_channels=self.hidden, out_channels=self.channels)


class SERes2Block(nn.Module):
    """An SE-Res2 block with the sizes of `spec`: `reduce`, `groups.<i>`, `expand`, `squeeze`."""

    def __init__(self, spec: SERes2Spec) -> None:
        super().__init__()
        self.scale = spec.scale
        self.reduce = TemporalConv(spec.reduce)
        self.groups = nn.ModuleList(TemporalConv(spec.group) for _ in range(spec.scale - 1))
        self.expand = TemporalConv(spec.expand)
        self.squeeze = TemporalSqueezeExcite(spec.channels, spec.squeezed)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, T] -> the same shape."""
        *parts, last = self.reduce(x).chunk(self.scale, dim=1)
        done: list[TorchTensor] = []
        for group, part in zip(self.groups, parts, strict=True):
            done.append(group(part + done[-1] if done else part))
        return self.squeeze(self.expand(torch.cat((*done, last), dim=1)))


def res2_ops(name: str, x: Tensor, spec: SERes2Spec) -> tuple[Op, ...]:
    """The Ops between `reduce` and `expand` of an `SERes2Block` at module path `name`; `x` is (hidden, T).

    Those of the whole block are `temporal_conv_ops` of `reduce`, these, `temporal_conv_ops` of `expand`, and
    `temporal_squeeze_excite_ops` of `squeeze`: pieces that depend on different sizes.
    """
    size, last = spec.hidden // spec.scale, spec.scale - 1
    ops: tuple[Op, ...] = ()
    done: list[Tensor] = []
    for part in range(spec.scale):
        cut = make_op(f"{name}.part{part}", "slice", x, start=part * size, stop=(part + 1) * size)
        ops += (cut,)
        if 0 < part < last:
            ops += (make_op(f"{name}.part{part}_add", "add", (cut.output, done[-1])),)
        if part < last:
            ops += temporal_conv_ops(f"{name}.groups.{part}", ops[-1].output, spec.group)
        done.append(ops[-1].output)
    return (*ops, make_op(f"{name}.joined", "concat", tuple(done)))


class StatisticsPool(nn.Module):
    """Weighted mean and standard deviation over time."""

    def forward(self, x: TorchTensor, weights: TorchTensor) -> TorchTensor:
        """[N, C, T] and weights of the same shape that sum to 1 over time -> [N, 2 C]: means, then deviations."""
        mean = (x * weights).sum(dim=2)
        variance = ((x - mean.unsqueeze(2)).square() * weights).sum(dim=2)
        return torch.cat((mean, variance.clamp(min=EPSILON["statistics_pool"]).sqrt()), dim=1)


class AttentiveStatistics(nn.Module):
    """`StatisticsPool` whose weights two 1x1 convolutions compute from the sequence itself."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv1d(channels, squeezed, 1, bias=False)
        self.activation = nn.Tanh()
        self.expand = nn.Conv1d(squeezed, channels, 1, bias=False)
        self.softmax = nn.Softmax(dim=2)
        self.pool = StatisticsPool()

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, T] -> [N, 2 C]."""
        return self.pool(x, self.softmax(self.expand(self.activation(self.reduce(x)))))


def attentive_statistics_ops(name: str, x: Tensor, squeezed: int) -> tuple[Op, ...]:
    """The Ops of an `AttentiveStatistics` at module path `name` that reads `x` (C, T)."""
    reduce = make_op(f"{name}.reduce", "conv1d", x, out_channels=squeezed, kernel=1)
    bent = make_op(f"{name}.activation", "activation", reduce.output, function="tanh")
    expand = make_op(f"{name}.expand", "conv1d", bent.output, out_channels=x.shape[0], kernel=1)
    weights = make_op(f"{name}.softmax", "softmax", expand.output)
    return reduce, bent, expand, weights, make_op(f"{name}.pool", "statistics_pool", (x, weights.output))
