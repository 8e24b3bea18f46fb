"""Candidate operations on the edges of cells: one spec, one module and one cost twin for each.

An edge of a cell is described by a `CandidateSpec`; None is the identity, which costs nothing and has no module. A spec
is `weighted` where its module holds parameters or statistics, so that two edges with equal specs still compute
differently.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055 (its operations; those of NAS-Bench-201 are the
same); Hundt et al., sharpDARTS, https://arxiv.org/abs/1903.09900 (separable blocks with another middle width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..op import Op, Tensor, make_op

__all__ = [
    "CandidateSpec",
    "FactorizedReduce",
    "FactorizedReduceSpec",
    "Pool",
    "PoolSpec",
    "ReluConvNorm",
    "ReluConvNormSpec",
    "Separable",
    "SeparableSpec",
    "Zero",
    "candidate_ops",
    "make_candidate",
    "weighted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReluConvNormSpec:
    """ReLU, convolution, batch norm.

    Attributes:
        in_channels: channels read.
        out_channels: channels written.
        kernel: side of the window, odd.
        stride: step of the window.
        affine: whether the norm has weights.
    """

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    affine: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparableSpec:
    """One or more separable convolutions in a row, each ReLU, depthwise, pointwise, batch norm.

    Attributes:
        widths: channels read, then written by each of the convolutions in turn.
        kernel: side of the depthwise windows, odd.
        stride: step of the first window; the others have 1.
        dilation: of the first window; the others have 1.
        affine: whether the norms have weights.
        activation: ReLU before each depthwise convolution, or after each norm.
    """

    widths: tuple[int, ...]
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    affine: bool = True
    activation: Literal["before", "after"] = "before"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """A 3x3 pooling that leaves padding out of averages, followed by a batch norm if `norm`.

    Attributes:
        kind: maximum or mean of the window.
        channels: channels read and written.
        stride: step of the window.
        norm: whether a batch norm without weights follows.
    """

    kind: Literal["max", "avg"]
    channels: int
    stride: int = 1
    norm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorizedReduceSpec:
    """ReLU, two 1x1 convolutions of stride 2, the second on the image shifted by one pixel, concatenated; batch norm.

    Attributes:
        in_channels: channels read.
        out_channels: channels written, even.
        affine: whether the norm has weights.
    """

    in_channels: int
    out_channels: int
    affine: bool = True


CandidateSpec = ReluConvNormSpec | SeparableSpec | PoolSpec | FactorizedReduceSpec | None


def weighted(spec: CandidateSpec) -> bool:
    """Whether the candidate's module holds parameters or statistics of its own."""
    return spec.norm if isinstance(spec, PoolSpec) else spec is not None


class ReluConvNorm(nn.Module):
    """`activation`, `conv`, `norm` with the sizes of `spec`."""

    def __init__(self, spec: ReluConvNormSpec) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.conv = nn.Conv2d(
            spec.in_channels, spec.out_channels, spec.kernel, stride=spec.stride, padding=spec.kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(spec.out_channels, affine=spec.affine)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        return self.norm(self.conv(self.activation(x)))


class Separable(nn.Module):
    """Convolution number `index` of a separable candidate: `activation`, `depthwise`, `pointwise`, `norm`."""

    def __init__(self, spec: SeparableSpec, index: int) -> None:
        super().__init__()
        channels, out = spec.widths[index : index + 2]
        stride, dilation = (1, 1) if index else (spec.stride, spec.dilation)
        self.first = spec.activation == "before"
        self.activation = nn.ReLU()
        self.depthwise = nn.Conv2d(
            channels,
            channels,
            spec.kernel,
            stride=stride,
            padding=dilation * (spec.kernel // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        self.pointwise = nn.Conv2d(channels, out, 1, bias=False)
        self.norm = nn.BatchNorm2d(out, affine=spec.affine)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, H, W] -> [N, C', ceil(H / stride), ceil(W / stride)]."""
        if self.first:
            return self.norm(self.pointwise(self.depthwise(self.activation(x))))
        return self.activation(self.norm(self.pointwise(self.depthwise(x))))


class Pool(nn.Module):
    """`pool` and, where there is one, `norm`."""

    def __init__(self, spec: PoolSpec) -> None:
        super().__init__()
        if spec.kind == "max":
            self.pool: nn.Module = nn.MaxPool2d(3, stride=spec.stride, padding=1)
        else:
            self.pool = nn.AvgPool2d(3, stride=spec.stride, padding=1, count_include_pad=False)
        self.norm = nn.BatchNorm2d(spec.channels, affine=False) if spec.norm else None

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, H, W] -> [N, C, ceil(H / stride), ceil(W / stride)]."""
        x = self.pool(x)
        return x if self.norm is None else self.norm(x)


class FactorizedReduce(nn.Module):
    """`activation`, `even` and `odd` 1x1 convolutions of stride 2, concatenated, `norm`."""

    def __init__(self, spec: FactorizedReduceSpec) -> None:
        super().__init__()
        if spec.out_channels % 2:
            raise SpaceError(f"factorised reduction: out_channels is {spec.out_channels}; it must be even.")
        self.activation = nn.ReLU()
        self.even = nn.Conv2d(spec.in_channels, spec.out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(spec.in_channels, spec.out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(spec.out_channels, affine=spec.affine)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, H / 2, W / 2]; H and W are even."""
        x = self.activation(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


class Zero(nn.Module):
    """What a cell without any path computes; its cost twin is the Op kind `zero`."""

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, ...] -> zeros of the same shape, still joined to `x` for gradients."""
        return x * 0.0


def make_candidate(spec: CandidateSpec) -> nn.Module:
    """The module of a candidate."""
    match spec:
        case ReluConvNormSpec():
            return ReluConvNorm(spec)
        case SeparableSpec():
            return nn.Sequential(*(Separable(spec, index) for index in range(len(spec.widths) - 1)))
        case PoolSpec():
            return Pool(spec)
        case FactorizedReduceSpec():
            return FactorizedReduce(spec)
        case None:
            return nn.Identity()


def candidate_ops(name: str, x: Tensor, spec: CandidateSpec) -> tuple[Op, ...]:
    """The Ops of the candidate at module path `name` that reads `x` (C, H, W); () for the identity."""
    match spec:
        case ReluConvNormSpec():
            return _relu_conv_norm_ops(name, x, spec)
        case SeparableSpec():
            ops: tuple[Op, ...] = ()
            for index in range(len(spec.widths) - 1):
                ops += _separable_ops(f"{name}.{index}", ops[-1].output if ops else x, spec, index)
            return ops
        case PoolSpec():
            return _pool_ops(name, x, spec)
        case FactorizedReduceSpec():
            return _factorized_reduce_ops(name, x, spec)
        case None:
            return ()


def _relu_conv_norm_ops(name: str, x: Tensor, spec: ReluConvNormSpec) -> tuple[Op, ...]:
    activation = make_op(f"{name}.activation", "activation", x, function="relu")
    conv = make_op(
        f"{name}.conv",
        "conv2d",
        activation.output,
        out_channels=spec.out_channels,
        kernel=spec.kernel,
        stride=spec.stride,
        padding=spec.kernel // 2,
    )
    return activation, conv, make_op(f"{name}.norm", "batch_norm", conv.output, affine=spec.affine)


def _separable_ops(name: str, x: Tensor, spec: SeparableSpec, index: int) -> tuple[Op, ...]:
    before = spec.activation == "before"
    stride, dilation = (1, 1) if index else (spec.stride, spec.dilation)
    ops = (make_op(f"{name}.activation", "activation", x, function="relu"),) if before else ()
    depthwise = make_op(
        f"{name}.depthwise",
        "conv2d",
        ops[-1].output if ops else x,
        out_channels=spec.widths[index],
        kernel=spec.kernel,
        stride=stride,
        padding=dilation * (spec.kernel // 2),
        dilation=dilation,
        groups=spec.widths[index],
    )
    pointwise = make_op(f"{name}.pointwise", "conv2d", depthwise.output, out_channels=spec.widths[index + 1], kernel=1)
    ops += depthwise, pointwise, make_op(f"{name}.norm", "batch_norm", pointwise.output, affine=spec.affine)
    if not before:
        ops += (make_op(f"{name}.activation", "activation", ops[-1].output, function="relu"),)
    return ops


def _pool_ops(name: str, x: Tensor, spec: PoolSpec) -> tuple[Op, ...]:
    if spec.kind == "max":
        pool = make_op(f"{name}.pool", "max_pool2d", x, kernel=3, stride=spec.stride, padding=1)
    else:
        pool = make_op(
            f"{name}.pool", "avg_pool2d", x, kernel=3, stride=spec.stride, padding=1, count_include_pad=False
        )
    return (pool, make_op(f"{name}.norm", "batch_norm", pool.output, affine=False)) if spec.norm else (pool,)


def _factorized_reduce_ops(name: str, x: Tensor, spec: FactorizedReduceSpec) -> tuple[Op, ...]:
    _, height, width = x.shape
    if height % 2 or width % 2:
        raise SpaceError(f"factorised reduction {name!r}: input {x.shape}; height and width must be even.")
    activation = make_op(f"{name}.activation", "activation", x, function="relu")
    half = spec.out_channels // 2
    even = make_op(f"{name}.even", "conv2d", activation.output, out_channels=half, kernel=1, stride=2)
    below = make_op(f"{name}.below", "slice", activation.output, axis=1, start=1, stop=height)
    shifted = make_op(f"{name}.shifted", "slice", below.output, axis=2, start=1, stop=width)
    odd = make_op(f"{name}.odd", "conv2d", shifted.output, out_channels=half, kernel=1, stride=2)
    joined = make_op(f"{name}.joined", "concat", (even.output, odd.output))
    norm = make_op(f"{name}.norm", "batch_norm", joined.output, affine=spec.affine)
    return activation, even, below, shifted, odd, joined, norm
