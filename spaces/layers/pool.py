"""Global average pooling as one module, so that its Op has a module to be named after."""

from __future__ import annotations

from torch import Tensor as TorchTensor
from torch import nn

__all__ = ["GlobalAvgPool"]


class GlobalAvgPool(nn.Module):
    """Mean over all positions; its cost twin is the Op kind `global_avg_pool`.

    Args:
        keep_dims: keep the spatial axes, with size 1.
    """

    def __init__(self, *, keep_dims: bool = False) -> None:
        super().__init__()
        self.keep_dims = keep_dims

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, C, H, W] or [N, C, T] -> [N, C], or [N, C, 1, 1] and [N, C, 1] where dimensions are kept."""
        return x.mean(tuple(range(2, x.ndim)), keepdim=self.keep_dims)
