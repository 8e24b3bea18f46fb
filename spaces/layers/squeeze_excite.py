"""Squeeze-and-excitation: channels weighted by what the whole image holds, and its cost twin.

Source: Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507; with the hard sigmoid
of Howard et al., Searching for MobileNetV3, ICCV 2019, https://arxiv.org/abs/1905.02244.
"""

from __future__ import annotations

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .pool import GlobalAvgPool

__all__ = ["SqueezeExcite", "squeeze_excite_ops"]


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from all channels' means.

    Args:
        channels: channels read and written.
        squeezed: channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = GlobalAvgPool(keep_dims=True)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, H, W] -> the same shape."""
        return x * self.gate(self.expand(self.activation(self.reduce(self.pool(x)))))


def squeeze_excite_ops(name: str, x: Tensor, squeezed: int) -> tuple[Op, ...]:
    """The Ops of a `SqueezeExcite` at module path `name` that reads `x` (C, H, W)."""
    pool = make_op(f"{name}.pool", "global_avg_pool", x, keep_dims=True)
    reduce = make_op(f"{name}.reduce", "conv2d", pool.output, out_channels=squeezed, kernel=1, bias=True)
    activation = make_op(f"{name}.activation", "activation", reduce.output, function="relu")
    expand = make_op(f"{name}.expand", "conv2d", activation.output, out_channels=x.shape[0], kernel=1, bias=True)
    gate = make_op(f"{name}.gate", "activation", expand.output, function="hard_sigmoid")
    return pool, reduce, activation, expand, gate, make_op(f"{name}.scale", "mul", (x, gate.output))
