"""ReXNet's linear bottleneck and its cost twin: widening at every block, with a shortcut onto the first channels.

It differs from `inverted_bottleneck` in order (squeeze-excite before the activation of the depthwise convolution) and
in the partial shortcut: a block that writes more channels than it reads adds its input to the first of them.

Source: Han et al., Rethinking Channel Dimensions for Efficient Model Design, CVPR 2021,
https://arxiv.org/abs/2007.00992.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import cat, nn

from ..op import Op, Tensor, make_op
from .activation import make_activation
from .chain import Brick
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from .squeeze_excite import SqueezeExcite, squeeze_excite_ops

__all__ = ["PARTIAL_BOTTLENECK", "PartialBottleneck", "PartialBottleneckSpec", "partial_bottleneck_ops"]

DEPTHWISE_ACTIVATION = "relu6"
GATE = "sigmoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialBottleneckSpec:
    """What a linear bottleneck computes.

    Attributes:
        in_channels: channels read.
        hidden: channels of the depthwise convolution; without an expanding convolution equal to `in_channels`.
        out_channels: channels written.
        stride: of the depthwise 3x3 window.
        squeezed: channels inside squeeze-excite, 0 for none.
        widens: whether there is an expanding convolution.
        activation: after the expanding convolution.
    """

    in_channels: int
    hidden: int
    out_channels: int
    stride: int = 1
    squeezed: int = 0
    widens: bool = True
    activation: str = "silu"

    @property
    def shared(self) -> int:
        """Channels that the input is added to, 0 for none."""
        return self.in_channels if self.stride == 1 and self.in_channels <= self.out_channels else 0

    @property
    def expand(self) -> ConvNormSpec:
        """The widening 1x1 convolution."""
        return ConvNormSpec(in_channels=self.in_channels, out_channels=self.hidden, activation=self.activation)

    @property
    def depthwise(self) -> ConvNormSpec:
        """The spatial convolution; its activation comes after squeeze-excite."""
        return ConvNormSpec(
            in_channels=self.hidden, out_channels=self.hidden, kernel=3, stride=self.stride, depthwise=True
        )

    @property
    def project(self) -> ConvNormSpec:
        """The last 1x1 convolution, without activation."""
        return ConvNormSpec(in_channels=self.hidden, out_channels=self.out_channels)


class PartialBottleneck(nn.Module):
    """A linear bottleneck with the sizes of `spec`."""

    def __init__(self, spec: PartialBottleneckSpec) -> None:
        super().__init__()
        self.shared = spec.shared
        self.expand = ConvNorm(spec.expand) if spec.widens else None
        self.depthwise = ConvNorm(spec.depthwise)
        self.squeeze = SqueezeExcite(spec.hidden, spec.squeezed, gate=GATE, normed=True) if spec.squeezed else None
        self.activation = make_activation(DEPTHWISE_ACTIVATION)
        self.project = ConvNorm(spec.project)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        y = self.depthwise(x if self.expand is None else self.expand(x))
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(self.activation(y))
        if not self.shared:
            return y
        if self.shared == y.shape[1]:
            return y + x
        return cat((y[:, : self.shared] + x, y[:, self.shared :]), dim=1)


def partial_bottleneck_ops(name: str, x: Tensor, spec: PartialBottleneckSpec) -> tuple[Op, ...]:
    """The Ops of a `PartialBottleneck` at module path `name` that reads `x` (C, H, W)."""
    ops = conv_norm_ops(f"{name}.expand", x, spec.expand) if spec.widens else ()
    ops += conv_norm_ops(f"{name}.depthwise", ops[-1].output if ops else x, spec.depthwise)
    if spec.squeezed:
        ops += squeeze_excite_ops(f"{name}.squeeze", ops[-1].output, spec.squeezed, gate=GATE, normed=True)
    ops += (make_op(f"{name}.activation", "activation", ops[-1].output, function=DEPTHWISE_ACTIVATION),)
    ops += conv_norm_ops(f"{name}.project", ops[-1].output, spec.project)
    y = ops[-1].output
    if not spec.shared:
        return ops
    if spec.shared == spec.out_channels:
        return *ops, make_op(f"{name}.residual_add", "add", (y, x))
    first = make_op(f"{name}.shared", "slice", y, start=0, stop=spec.shared)
    add = make_op(f"{name}.residual_add", "add", (first.output, x))
    rest = make_op(f"{name}.new", "slice", y, start=spec.shared, stop=spec.out_channels)
    return *ops, first, add, rest, make_op(f"{name}.joined", "concat", (add.output, rest.output))


PARTIAL_BOTTLENECK = Brick(PartialBottleneck, partial_bottleneck_ops)
