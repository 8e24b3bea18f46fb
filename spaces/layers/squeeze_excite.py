"""Squeeze-and-excitation: channels weighted by what the whole image holds, and its cost twin.

Source: Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507; with the hard sigmoid
of Howard et al., Searching for MobileNetV3, ICCV 2019, https://arxiv.org/abs/1905.02244.
"""

from __future__ import annotations

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .activation import make_activation
from .pool import GlobalAvgPool

__all__ = ["SqueezeExcite", "squeeze_excite_ops"]


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from all channels' means.

    Args:
        channels: channels read and written.
        squeezed: channels between the two 1x1 convolutions.
        activation: between them.
        gate: function whose values multiply the channels.
        normed: whether a batch norm follows the first convolution.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        *,
        activation: str = "relu",
        gate: str = "hard_sigmoid",
        normed: bool = False,
    ) -> None:
        super().__init__()
        self.pool = GlobalAvgPool(keep_dims=True)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.norm = nn.BatchNorm2d(squeezed) if normed else None
        self.activation = make_activation(activation)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = make_activation(gate)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, H, W] -> the same shape."""
        y = self.reduce(self.pool(x))
        if self.norm is not None:
            y = self.norm(y)
        return x * self.gate(self.expand(self.activation(y)))


def squeeze_excite_ops(
    name: str,
    x: Tensor,
    squeezed: int,
    *,
    activation: str = "relu",
    gate: str = "hard_sigmoid",
    normed: bool = False,
) -> tuple[Op, ...]:
    """The Ops of a `SqueezeExcite` at module path `name` that reads `x` (C, H, W)."""
    pool = make_op(f"{name}.pool", "global_avg_pool", x, keep_dims=True)
    ops = (pool, make_op(f"{name}.reduce", "conv2d", pool.output, out_channels=squeezed, kernel=1, bias=True))
    if normed:
        ops += (make_op(f"{name}.norm", "batch_norm", ops[-1].output),)
    middle = make_op(f"{name}.activation", "activation", ops[-1].output, function=activation)
    expand = make_op(f"{name}.expand", "conv2d", middle.output, out_channels=x.shape[0], kernel=1, bias=True)
    opening = make_op(f"{name}.gate", "activation", expand.output, function=gate)
    return *ops, middle, expand, opening, make_op(f"{name}.scale", "mul", (x, opening.output))
