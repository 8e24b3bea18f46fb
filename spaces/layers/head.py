"""The classification head (1x1 convolution, global average, linear classifier), and its cost twin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from .pool import GlobalAvgPool

__all__ = ["Head", "HeadSpec", "head_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """What a head computes.

    Attributes:
        in_channels: channels of the last stage.
        channels: features that are averaged and classified.
        classes: logits.
        activation: after the 1x1 convolution.
    """

    in_channels: int
    channels: int
    classes: int
    activation: str

    @property
    def features(self) -> ConvNormSpec:
        """The 1x1 convolution."""
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.channels, activation=self.activation)


class Head(nn.Module):
    """A head with the sizes of `spec`."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.features = ConvNorm(spec.features)
        self.pool = GlobalAvgPool()
        self.classifier = nn.Linear(spec.channels, spec.classes)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        return self.classifier(self.pool(self.features(x)))


def head_ops(name: str, x: Tensor, spec: HeadSpec) -> tuple[Op, ...]:
    """The Ops of a `Head` at module path `name` that reads `x` (C, H, W)."""
    ops = conv_norm_ops(f"{name}.features", x, spec.features)
    pool = make_op(f"{name}.pool", "global_avg_pool", ops[-1].output)
    return (*ops, pool, make_op(f"{name}.classifier", "linear", pool.output, out_features=spec.classes))
