"""What turns images and token numbers into sequences, and sequences into logits; the Op of each is one `make_op`."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from ..position import FIRST_POSITION

__all__ = [
    "ClassToken",
    "LearnedPosition",
    "ScaledEmbedding",
    "SinusoidalPosition",
    "TiedEmbedding",
    "TiedLinear",
    "patch_ops",
    "sequence_ops",
]


class ScaledEmbedding(nn.Embedding):
    """A table of token features, of which the first are given, multiplied by `scale`.

    Args:
        vocabulary: tokens.
        features: of a token.
        scale: what they are multiplied by.
        columns: of the table, where others read more of it; 0 = as many as features.
    """

    def __init__(self, vocabulary: int, features: int, scale: float = 1.0, *, columns: int = 0) -> None:
        super().__init__(vocabulary, columns or features)
        self.features = features
        self.scale = scale

    def forward(self, input: TorchTensor) -> TorchTensor:  # noqa: A002  # torch's own name
        """[N, T] int64 -> [N, T, features]."""
        y = F.embedding(input, self.weight[:, : self.features])
        return y if self.scale == 1.0 else y * self.scale


class TiedEmbedding(nn.Module):
    """An embedding that borrows another one's table, and multiplies what it gives by `scale`; it owns no weight."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, tokens: TorchTensor, table: TorchTensor) -> TorchTensor:
        """[N, T] int64 and [vocabulary, features] -> [N, T, features]."""
        return F.embedding(tokens, table) * self.scale


class TiedLinear(nn.Module):
    """A linear layer that borrows the embedding's table: one logit per token; it owns no weight."""

    def forward(self, x: TorchTensor, table: TorchTensor) -> TorchTensor:
        """[..., features] and [vocabulary, features] -> [..., vocabulary]."""
        return F.linear(x, table)


class ClassToken(nn.Module):
    """Puts one learned token before the sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, width))

    def fill(self, generator: torch.Generator) -> None:
        """Normal with standard deviation 0.02."""
        self.weight.normal_(0.0, 0.02, generator=generator)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, T, C] -> [N, T + 1, C], C up to `width`."""
        return torch.cat((self.weight[:, : x.shape[2]].expand(x.shape[0], 1, x.shape[2]), x), dim=1)


class LearnedPosition(nn.Module):
    """Adds a learned vector to every position."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))

    def fill(self, generator: torch.Generator) -> None:
        """Normal with standard deviation 0.02."""
        self.weight.normal_(0.0, 0.02, generator=generator)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, length, C] -> the same shape, C up to `width`."""
        return x + self.weight[:, : x.shape[2]]


class SinusoidalPosition(nn.Module):
    """Adds sines and cosines of the position; `position.sinusoid_table` is its twin in numpy.

    Args:
        columns: of the table of which the first are added, even; 0 = as many as there are features.
    """

    def __init__(self, columns: int = 0) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, T, C] -> the same shape."""
        length, features = x.shape[1:]
        half = (self.columns or features) // 2
        exponents = torch.arange(half, device=x.device, dtype=torch.float32) / -max(half - 1, 1)
        numbers = torch.arange(FIRST_POSITION, length + FIRST_POSITION, device=x.device, dtype=torch.float32)
        angles = numbers[:, None] * 10000.0**exponents
        return x + torch.cat((angles.sin(), angles.cos()), dim=1)[:, :features].to(x.dtype)


def patch_ops(name: str, image: Tensor, width: int, patch: int) -> tuple[Op, ...]:
    """A convolution `name` that turns each patch of (C, H, W) into a token: (H W / patch**2, width)."""
    conv = make_op(name, "conv2d", image, out_channels=width, kernel=patch, stride=patch, bias=True)
    return (conv, *sequence_ops(name, conv.output))


def sequence_ops(name: str, x: Tensor) -> tuple[Op, ...]:
    """(C, H, W) -> (H W, C), as two Ops that no module performs."""
    channels, *space = x.shape
    flat = make_op(f"{name}_flat", "reshape", x, shape=(channels, space[0] * space[1]))
    return flat, make_op(f"{name}_tokens", "transpose", flat.output, order=(1, 0))
