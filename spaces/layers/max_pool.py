"""Max pooling as a layer of a chain, and its cost twin."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor as TorchTensor
from torch import nn
from torch.nn.functional import max_pool2d

from ..op import Op, Tensor, make_op
from .chain import Brick

__all__ = ["MAX_POOL", "MaxPool", "MaxPoolSpec", "max_pool_ops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPoolSpec:
    """What a `MaxPool` computes: windows of side `kernel`, `stride` apart, padded by kernel // 2."""

    in_channels: int
    kernel: int = 3
    stride: int = 2


class MaxPool(nn.MaxPool2d):
    """Max pooling; holds no weights, so that it is its own elastic form."""

    def __init__(self, spec: MaxPoolSpec) -> None:
        super().__init__(spec.kernel, spec.stride, spec.kernel // 2)

    def forward(self, input: TorchTensor, spec: MaxPoolSpec | None = None) -> TorchTensor:  # noqa: A002  # torch's name
        """[N, C, H, W] -> [N, C, ceil(H / stride), ceil(W / stride)]; a supernet also passes `spec`."""
        return max_pool2d(input, self.kernel_size, self.stride, self.padding)


def max_pool_ops(name: str, x: Tensor, spec: MaxPoolSpec) -> tuple[Op, ...]:
    """The Op of a `MaxPool` at module path `name` that reads `x` (C, H, W)."""
    return (make_op(name, "max_pool2d", x, kernel=spec.kernel, stride=spec.stride, padding=spec.kernel // 2),)


MAX_POOL = Brick(MaxPool, max_pool_ops, MaxPool)
