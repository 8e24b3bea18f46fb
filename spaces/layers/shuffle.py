"""ShuffleNetV2 blocks: half of the channels passes by, the other half is convolved, and the halves are interleaved.

Source: Ma et al., ShuffleNet V2, ECCV 2018, https://arxiv.org/abs/1807.11164; the Xception form and the order shuffle,
split, convolve, concatenate of Guo et al., Single Path One-Shot NAS, ECCV 2020, https://arxiv.org/abs/1904.00420.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import cat, nn

from ..op import Op, Tensor, make_op
from .channel_mix import ChannelShuffle
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops

__all__ = ["ShuffleBlock", "ShuffleBlockSpec", "shuffle_block_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleBlockSpec:
    """What a ShuffleNetV2 block computes.

    Attributes:
        in_channels: channels read, even where the stride is 1.
        out_channels: channels written, even; equal to `in_channels` where the stride is 1.
        kernel: side of the depthwise windows.
        stride: 1 splits the input, 2 convolves all of it in both branches.
        depthwise: number of depthwise convolutions of the main branch: 1 (1x1, depthwise, 1x1) or 3 (the Xception form,
            three depthwise separable convolutions).
    """

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    depthwise: int = 1

    @property
    def convolved(self) -> int:
        """Channels that the main branch reads."""
        return self.in_channels if self.stride > 1 else self.in_channels // 2

    @property
    def passed(self) -> int:
        """Channels of the other branch."""
        return self.in_channels - self.convolved if self.stride == 1 else self.in_channels

    @property
    def main(self) -> tuple[ConvNormSpec, ...]:
        """The convolutions of the main branch."""
        middle, out = self.out_channels // 2, self.out_channels - self.passed
        if self.depthwise == 1:
            return (
                _pointwise(self.convolved, middle),
                self._depthwise(middle, self.stride),
                _pointwise(middle, out),
            )
        convolutions: tuple[ConvNormSpec, ...] = ()
        channels = self.convolved
        for number in range(self.depthwise):
            target = out if number == self.depthwise - 1 else middle
            stride = 1 if number else self.stride
            convolutions += self._depthwise(channels, stride), _pointwise(channels, target)
            channels = target
        return convolutions

    @property
    def bypass(self) -> tuple[ConvNormSpec, ...]:
        """The convolutions of the other branch, () where its channels pass unchanged."""
        if self.stride == 1:
            return ()
        return self._depthwise(self.in_channels, self.stride), _pointwise(self.in_channels, self.in_channels)

    def _depthwise(self, channels: int, stride: int) -> ConvNormSpec:
        return ConvNormSpec(
            in_channels=channels, out_channels=channels, kernel=self.kernel, stride=stride, depthwise=True
        )


def _pointwise(channels: int, out: int) -> ConvNormSpec:
    return ConvNormSpec(in_channels=channels, out_channels=out, activation="relu")


class ShuffleBlock(nn.Module):
    """A block with the branches of `spec`: `shuffle` and `main`, or `bypass` and `main`."""

    def __init__(self, spec: ShuffleBlockSpec) -> None:
        super().__init__()
        self.passed = spec.passed
        self.shuffle = None if spec.bypass else ChannelShuffle(spec.in_channels // 2)
        self.bypass = nn.Sequential(*(ConvNorm(conv) for conv in spec.bypass)) if spec.bypass else None
        self.main = nn.Sequential(*(ConvNorm(conv) for conv in spec.main))

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        if self.shuffle is None:
            assert self.bypass is not None
            return cat((self.bypass(x), self.main(x)), dim=1)
        x = self.shuffle(x)
        return cat((x[:, : self.passed], self.main(x[:, self.passed :])), dim=1)


def shuffle_block_ops(name: str, x: Tensor, spec: ShuffleBlockSpec) -> tuple[Op, ...]:
    """The Ops of a `ShuffleBlock` at module path `name` that reads `x` (C, H, W)."""
    ops: tuple[Op, ...] = ()
    passed, convolved = x, x
    if spec.bypass:
        for number, conv in enumerate(spec.bypass):
            ops += conv_norm_ops(f"{name}.bypass.{number}", passed, conv)
            passed = ops[-1].output
    else:
        shuffle = make_op(f"{name}.shuffle", "channel_shuffle", x, groups=spec.in_channels // 2)
        first = make_op(f"{name}.passed", "slice", shuffle.output, start=0, stop=spec.passed)
        second = make_op(f"{name}.convolved", "slice", shuffle.output, start=spec.passed, stop=spec.in_channels)
        ops += shuffle, first, second
        passed, convolved = first.output, second.output
    for number, conv in enumerate(spec.main):
        ops += conv_norm_ops(f"{name}.main.{number}", convolved, conv)
        convolved = ops[-1].output
    return *ops, make_op(f"{name}.joined", "concat", (passed, convolved))
