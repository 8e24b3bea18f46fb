"""The classification head (1x1 convolution, global average, linear classifier), and its cost twin.

With `mixed` features a second 1x1 convolution stands between average and classifier, as in MobileNetV3 (plain) and
MobileNetV4 (normalised).

Source: Howard et al., Searching for MobileNetV3, ICCV 2019, https://arxiv.org/abs/1905.02244 (figure 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from .pool import GlobalAvgPool

__all__ = ["Head", "HeadSpec", "MixForm", "head_ops"]

MixForm = Literal["norm", "bias", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What a head computes.

    Attributes:
        in_channels: channels of the last stage.
        channels: features that are averaged.
        classes: logits.
        activation: after the 1x1 convolutions.
        mixed: features that the second 1x1 convolution makes of the averages, 0 for none.
        mix: what follows that convolution: a batch norm, its own bias, or nothing.
    """

    in_channels: int
    channels: int
    classes: int
    activation: str
    mixed: int = 0
    mix: MixForm = "bias"

    @property
    def features(self) -> ConvNormSpec:
        """The 1x1 convolution."""
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.channels, activation=self.activation)


class Mix(nn.Module):
    """The second 1x1 convolution: `conv`, `norm` where asked for, `activation`."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.conv = nn.Conv2d(spec.channels, spec.mixed, 1, bias=spec.mix == "bias")
        self.norm = nn.BatchNorm2d(spec.mixed) if spec.mix == "norm" else None
        self.activation = make_activation(spec.activation)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, 1, 1] -> [N, mixed, 1, 1]."""
        x = self.conv(x)
        return self.activation(x if self.norm is None else self.norm(x))


class Head(nn.Module):
    """A head with the sizes of `spec`."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.features = ConvNorm(spec.features)
        self.pool = GlobalAvgPool(keep_dims=spec.mixed > 0)
        self.mix = Mix(spec) if spec.mixed else None
        self.classifier = nn.Linear(spec.mixed or spec.channels, spec.classes)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        x = self.pool(self.features(x))
        return self.classifier(x if self.mix is None else self.mix(x).flatten(1))


def head_ops(name: str, x: Tensor, spec: HeadSpec) -> tuple[Op, ...]:
    """The Ops of a `Head` at module path `name` that reads `x` (C, H, W)."""
    ops = conv_norm_ops(f"{name}.features", x, spec.features)
    ops += (make_op(f"{name}.pool", "global_avg_pool", ops[-1].output, keep_dims=spec.mixed > 0),)
    if spec.mixed:
        bias = spec.mix == "bias"
        ops += (make_op(f"{name}.mix.conv", "conv2d", ops[-1].output, out_channels=spec.mixed, kernel=1, bias=bias),)
        if spec.mix == "norm":
            ops += (make_op(f"{name}.mix.norm", "batch_norm", ops[-1].output),)
        ops += (make_op(f"{name}.mix.activation", "activation", ops[-1].output, function=spec.activation),)
        ops += (make_op(f"{name}.flat", "reshape", ops[-1].output, shape=(spec.mixed,)),)
    return (*ops, make_op(f"{name}.classifier", "linear", ops[-1].output, out_features=spec.classes))
