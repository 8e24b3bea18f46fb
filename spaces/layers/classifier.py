"""Global average and linear classifier, optionally after a batch norm, and their cost twin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .pool import GlobalAvgPool

__all__ = ["Classifier", "ClassifierSpec", "classifier_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSpec:
    """What a `Classifier` computes.

    Attributes:
        in_channels: features that are averaged.
        classes: logits.
        normed: whether a batch norm comes first.
        bias: whether the linear layer has one.
    """

    in_channels: int
    classes: int
    normed: bool = False
    bias: bool = True


class Classifier(nn.Module):
    """`norm` where there is one, `pool` and `linear`."""

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(spec.in_channels) if spec.normed else None
        self.pool = GlobalAvgPool()
        self.linear = nn.Linear(spec.in_channels, spec.classes, bias=spec.bias)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        return self.linear(self.pool(x if self.norm is None else self.norm(x)))


def classifier_ops(name: str, x: Tensor, spec: ClassifierSpec) -> tuple[Op, ...]:
    """The Ops of a `Classifier` at module path `name` that reads `x` (C, H, W)."""
    ops = (make_op(f"{name}.norm", "batch_norm", x),) if spec.normed else ()
    pool = make_op(f"{name}.pool", "global_avg_pool", ops[-1].output if ops else x)
    return *ops, pool, make_op(f"{name}.linear", "linear", pool.output, out_features=spec.classes, bias=spec.bias)
