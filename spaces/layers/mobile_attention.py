"""Mobile multi-query attention: many query heads, one shared key and value head, and its cost twin.

Keys and values may be read from a map that a strided depthwise convolution has made smaller.

Source: Qin et al., MobileNetV4, ECCV 2024, https://arxiv.org/abs/2404.10518 (section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .channel_mix import ChannelScale
from .conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops

__all__ = ["MobileAttention", "MobileAttentionSpec", "attend", "mobile_attention_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileAttentionSpec:
    """What a mobile attention block computes; it keeps the shape of its input and adds it.

    Attributes:
        channels: channels read and written.
        heads: query heads.
        head_channels: channels of a query, of the key and of the value.
        kernel: side of the depthwise window in front of key and value, where they are strided.
        stride: by which key and value are made smaller, 1 for not at all.
        layer_scale: a learned factor per output channel.
    """

    channels: int
    heads: int
    head_channels: int
    kernel: int = 3
    stride: int = 1
    layer_scale: bool = False

    @property
    def in_channels(self) -> int:
        """Channels read, under the name that other blocks use."""
        return self.channels

    @property
    def down(self) -> ConvNormSpec | None:
        """What makes the input of key and value smaller."""
        if self.stride == 1:
            return None
        return ConvNormSpec(
            in_channels=self.channels,
            out_channels=self.channels,
            kernel=self.kernel,
            stride=self.stride,
            depthwise=True,
        )


def attend(query: TorchTensor, key: TorchTensor, value: TorchTensor, heads: int) -> TorchTensor:
    """Attention of every position of `query` over all positions of `key` and `value`.

    Args:
        query: [N, heads * D, H, W].
        key: [N, D, h, w].
        value: [N, D, h, w].
        heads: how many.

    Returns:
        [N, heads * D, H, W].
    """
    n, depth = key.shape[:2]
    height, width = query.shape[2:]
    # One key for all heads: heads and positions are one axis, and two plain matrix products remain.
    rows = query.reshape(n, heads, depth, height * width).transpose(2, 3).reshape(n, heads * height * width, depth)
    scores = rows.matmul(key.reshape(n, depth, -1)) * depth**-0.5
    found = scores.softmax(-1).matmul(value.reshape(n, depth, -1).transpose(1, 2))
    return found.reshape(n, heads, height * width, depth).transpose(2, 3).reshape(n, heads * depth, height, width)


class MobileAttention(nn.Module):
    """A mobile attention block with the sizes of `spec`."""

    def __init__(self, spec: MobileAttentionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.norm = nn.BatchNorm2d(spec.channels)
        self.query = nn.Conv2d(spec.channels, spec.heads * spec.head_channels, 1, bias=False)
        self.key_down = ConvNorm(spec.down) if spec.down else None
        self.key = nn.Conv2d(spec.channels, spec.head_channels, 1, bias=False)
        self.value_down = ConvNorm(spec.down) if spec.down else None
        self.value = nn.Conv2d(spec.channels, spec.head_channels, 1, bias=False)
        self.project = nn.Conv2d(spec.heads * spec.head_channels, spec.channels, 1, bias=False)
        self.layer_scale = ChannelScale(spec.channels) if spec.layer_scale else None

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, H, W] -> the same shape."""
        y = self.norm(x)
        key = self.key(y if self.key_down is None else self.key_down(y))
        value = self.value(y if self.value_down is None else self.value_down(y))
        y = self.project(attend(self.query(y), key, value, self.spec.heads))
        return x + (y if self.layer_scale is None else self.layer_scale(y))


def mobile_attention_ops(name: str, x: Tensor, spec: MobileAttentionSpec) -> tuple[Op, ...]:
    """The Ops of a `MobileAttention` at module path `name` that reads `x` (C, H, W)."""
    heads, depth, (_, height, width) = spec.heads, spec.head_channels, x.shape
    ops = [make_op(f"{name}.norm", "batch_norm", x)]
    y = ops[0].output

    def append(part: str, kind: str, *inputs: Tensor, **attributes: int | float | bool | tuple[int, ...]) -> Tensor:
        ops.append(make_op(f"{name}.{part}", kind, inputs, **attributes))
        return ops[-1].output

    def projected(part: str) -> Tensor:
        if spec.down is not None:
            ops.extend(conv_norm_ops(f"{name}.{part}_down", y, spec.down))
        head = append(part, "conv2d", y if spec.down is None else ops[-1].output, out_channels=depth, kernel=1)
        return append(f"{part}_flat", "reshape", head, shape=(depth, head.shape[1] * head.shape[2]))

    key, value = projected("key"), projected("value")
    query = append("query", "conv2d", y, out_channels=heads * depth, kernel=1)
    query = append("query_heads", "reshape", query, shape=(heads, depth, height * width))
    query = append("query_rows", "transpose", query, order=(0, 2, 1))
    query = append("query_flat", "reshape", query, shape=(heads * height * width, depth))
    scores = append("scores", "matmul", query, key)
    scores = append("weights", "softmax", append("scaled", "scale", scores, factor=depth**-0.5))
    found = append("attended", "matmul", scores, append("value_rows", "transpose", value, order=(1, 0)))
    found = append("attended_heads", "reshape", found, shape=(heads, height * width, depth))
    found = append("attended_columns", "transpose", found, order=(0, 2, 1))
    found = append("attended_map", "reshape", found, shape=(heads * depth, height, width))
    y = append("project", "conv2d", found, out_channels=spec.channels, kernel=1)
    if spec.layer_scale:
        y = append("layer_scale", "channel_scale", y)
    append("residual_add", "add", x, y)
    return tuple(ops)
