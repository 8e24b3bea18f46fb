"""The feed-forward layer of Transformers, plain or gated, and its cost twin.

Sources: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762 (equation 2); Shazeer, GLU
Variants Improve Transformer, 2020, https://arxiv.org/abs/2002.05202 (the gated form).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation

__all__ = ["FeedForward", "FeedForwardSpec", "feed_forward_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardSpec:
    """What a feed-forward layer computes.

    Attributes:
        width: features read and written.
        hidden: features in between.
        activation: after `up`, or after `gate` where there is one.
        gated: multiply `up` by an activated `gate` of the same size.
        bias: whether the linear layers have one.
    """

    width: int
    hidden: int
    activation: str
    gated: bool = False
    bias: bool = True


class FeedForward(nn.Module):
    """A feed-forward layer with the sizes of `spec`: `up`, `activation`, `down`, and `gate` where there is one."""

    def __init__(self, spec: FeedForwardSpec) -> None:
        super().__init__()
        self.up = nn.Linear(spec.width, spec.hidden, bias=spec.bias)
        self.gate = nn.Linear(spec.width, spec.hidden, bias=spec.bias) if spec.gated else None
        self.activation = make_activation(spec.activation)
        self.down = nn.Linear(spec.hidden, spec.width, bias=spec.bias)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[..., width] -> the same shape."""
        y = self.up(x)
        return self.down(self.activation(y) if self.gate is None else self.activation(self.gate(x)) * y)


def feed_forward_ops(name: str, x: Tensor, spec: FeedForwardSpec) -> tuple[Op, ...]:
    """The Ops of a `FeedForward` at module path `name` that reads `x` (..., width)."""
    up = make_op(f"{name}.up", "linear", x, out_features=spec.hidden, bias=spec.bias)
    ops = (up,)
    if spec.gated:
        gate = make_op(f"{name}.gate", "linear", x, out_features=spec.hidden, bias=spec.bias)
        bent = make_op(f"{name}.activation", "activation", gate.output, function=spec.activation)
        ops += (gate, bent, make_op(f"{name}.gated", "mul", (bent.output, up.output)))
    else:
        ops += (make_op(f"{name}.activation", "activation", up.output, function=spec.activation),)
    return (*ops, make_op(f"{name}.down", "linear", ops[-1].output, out_features=spec.width, bias=spec.bias))
