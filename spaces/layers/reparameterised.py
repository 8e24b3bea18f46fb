"""Convolutions of several branches that become one: the block of MobileOne in training and in deployed form.

In training form a block adds k convolutions with batch norms, a 1x1 one where the window is larger, and a batch norm of
the input where shapes allow. All of them are linear in evaluation mode, so that they add up to one convolution with a
bias: `fuse` makes it.

Source: Vasu et al., MobileOne, CVPR 2023, https://arxiv.org/abs/2206.04040 (section 3.2); Ding et al., RepVGG, CVPR
2021, https://arxiv.org/abs/2101.03697.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor as TorchTensor
from torch import nn
from torch.nn.functional import pad

from ..op import Op, Tensor, make_op
from .activation import make_activation
from .chain import Brick
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops, conv_op
from .squeeze_excite import SqueezeExcite, squeeze_excite_ops

__all__ = [
    "BRANCHED_CONV",
    "FUSED_CONV",
    "BranchedConv",
    "BranchedConvSpec",
    "FusedConv",
    "branched_conv_ops",
    "fuse",
    "fused_conv_ops",
]

GATE = "sigmoid"

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchedConvSpec:
    """What a block computes, in either form.

    Attributes:
        in_channels: channels read.
        out_channels: channels written.
        kernel: side of the square window, odd.
        stride: step of the window.
        depthwise: one filter per channel.
        branches: convolutions with the full window in training form; of no effect in deployed form.
        squeezed: channels inside the squeeze-excite before the activation, 0 for none.
        activation: at the end.
    """

    in_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    depthwise: bool = False
    branches: int = 1
    squeezed: int = 0
    activation: str = "relu"

    @property
    def branch(self) -> ConvNormSpec:
        """A convolution with the full window."""
        return self._conv(self.kernel)

    @property
    def scale(self) -> ConvNormSpec | None:
        """The 1x1 convolution beside larger windows."""
        return self._conv(1) if self.kernel > 1 else None

    @property
    def identity(self) -> bool:
        """Whether a batch norm of the input is added."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def groups(self) -> int:
        """Convolution groups."""
        return self.in_channels if self.depthwise else 1

    def _conv(self, kernel: int) -> ConvNormSpec:
        return ConvNormSpec(
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel=kernel,
            stride=self.stride,
            depthwise=self.depthwise,
        )


class BranchedConv(nn.Module):
    """The training form: `branches`, `scale`, `identity`, added, then `squeeze` and `activation`."""

    def __init__(self, spec: BranchedConvSpec) -> None:
        super().__init__()
        self.spec = spec
        self.branches = nn.ModuleList(ConvNorm(spec.branch) for _ in range(spec.branches))
        self.scale = ConvNorm(spec.scale) if spec.scale else None
        self.identity = nn.BatchNorm2d(spec.in_channels) if spec.identity else None
        self.squeeze = SqueezeExcite(spec.out_channels, spec.squeezed, gate=GATE) if spec.squeezed else None
        self.activation = make_activation(spec.activation)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        y = self.branches[0](x)
        for branch in self.branches[1:]:
            y = y + branch(x)
        for branch in (self.scale, self.identity):
            if branch is not None:
                y = y + branch(x)
        return self.activation(y if self.squeeze is None else self.squeeze(y))

    @torch.no_grad()
    def fused(self) -> FusedConv:
        """The deployed form: in evaluation mode it computes the same."""
        fused = FusedConv(self.spec)
        # In double precision, so that the only rounding is that of the result.
        weight = torch.zeros(fused.conv.weight.shape, dtype=torch.float64)
        bias = torch.zeros(self.spec.out_channels, dtype=torch.float64)
        for conv_norm in (*self.branches, *((self.scale,) if self.scale is not None else ())):
            assert isinstance(conv_norm, ConvNorm)
            factor, shift = _affine(conv_norm.norm)
            weight += _centred(conv_norm.conv.weight * factor.view(-1, 1, 1, 1), self.spec.kernel)
            bias += shift
        if self.identity is not None:
            factor, shift = _affine(self.identity)
            inside = 1 if self.spec.depthwise else self.spec.in_channels
            own = torch.zeros(self.spec.out_channels, inside, 1, 1, dtype=torch.float64)
            own[torch.arange(len(own)), torch.arange(len(own)) % inside] = factor.view(-1, 1, 1)
            weight += _centred(own, self.spec.kernel)
            bias += shift
        assert fused.conv.bias is not None
        fused.conv.weight.copy_(weight)
        fused.conv.bias.copy_(bias)
        if self.squeeze is not None and fused.squeeze is not None:
            fused.squeeze.load_state_dict(self.squeeze.state_dict())
        return fused.train(self.training)


class FusedConv(nn.Module):
    """The deployed form: `conv`, `squeeze` and `activation`."""

    def __init__(self, spec: BranchedConvSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            spec.in_channels,
            spec.out_channels,
            spec.kernel,
            stride=spec.stride,
            padding=spec.kernel // 2,
            groups=spec.groups,
        )
        self.squeeze = SqueezeExcite(spec.out_channels, spec.squeezed, gate=GATE) if spec.squeezed else None
        self.activation = make_activation(spec.activation)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        y = self.conv(x)
        return self.activation(y if self.squeeze is None else self.squeeze(y))


def fuse(network: N) -> N:
    """A copy of `network`, on the CPU, with every `BranchedConv` in deployed form, under the same paths.

    In evaluation mode the copy's outputs are those of `network`; in training mode its batch norms are gone.

    >>> fuse(nn.Sequential(BranchedConv(BranchedConvSpec(in_channels=1, out_channels=4, branches=2))))[0].conv
    Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    copied = copy.deepcopy(network).cpu()
    for path, module in list(copied.named_modules()):
        if isinstance(module, BranchedConv):
            parent, _, name = path.rpartition(".")
            copied.get_submodule(parent).add_module(name, module.fused())
    return copied


def branched_conv_ops(name: str, x: Tensor, spec: BranchedConvSpec) -> tuple[Op, ...]:
    """The Ops of a `BranchedConv` at module path `name` that reads `x` (C, H, W)."""
    ops: tuple[Op, ...] = ()
    terms: list[Tensor] = []
    paths = [(f"branches.{number}", spec.branch) for number in range(spec.branches)]
    for path, conv in (*paths, *((("scale", spec.scale),) if spec.scale else ())):
        ops += conv_norm_ops(f"{name}.{path}", x, conv)
        terms.append(ops[-1].output)
    if spec.identity:
        ops += (make_op(f"{name}.identity", "batch_norm", x),)
        terms.append(ops[-1].output)
    y = terms[0]
    for number, term in enumerate(terms[1:]):
        ops += (make_op(f"{name}.sum_{number}", "add", (y, term)),)
        y = ops[-1].output
    return ops + _end_ops(name, y, spec)


def fused_conv_ops(name: str, x: Tensor, spec: BranchedConvSpec) -> tuple[Op, ...]:
    """The Ops of a `FusedConv` at module path `name` that reads `x` (C, H, W)."""
    conv = conv_op(f"{name}.conv", x, replace(spec.branch, bias=True))
    return (conv, *_end_ops(name, conv.output, spec))


def _end_ops(name: str, x: Tensor, spec: BranchedConvSpec) -> tuple[Op, ...]:
    """Squeeze-excite and activation."""
    ops = squeeze_excite_ops(f"{name}.squeeze", x, spec.squeezed, gate=GATE) if spec.squeezed else ()
    y = ops[-1].output if ops else x
    return (*ops, make_op(f"{name}.activation", "activation", y, function=spec.activation))


def _affine(norm: nn.BatchNorm2d) -> tuple[TorchTensor, TorchTensor]:
    """[C] factor and [C] shift, float64, that the batch norm applies in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return factor, norm.bias.double() - norm.running_mean.double() * factor


def _centred(weight: TorchTensor, kernel: int) -> TorchTensor:
    """[O, I, k, k] in the middle of a larger window [O, I, kernel, kernel]."""
    margin = (kernel - weight.shape[-1]) // 2
    return pad(weight, (margin,) * 4)


BRANCHED_CONV = Brick(BranchedConv, branched_conv_ops)
FUSED_CONV = Brick(FusedConv, fused_conv_ops)
