"""The convolution of the gene language with shared weights: every attribute may be a choice."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor as TorchTensor
from torch import nn

from ..layers.activation import make_activation
from ..layers.window import WindowSpec
from .layers import ElasticBatchNorm2d, ElasticConv2d, shared_slice

__all__ = ["ElasticWindow"]


class ElasticWindow(nn.Module):
    """`Window` with shared weights: each of `specs` takes prefixes of the channels, the centre of the kernel."""

    def __init__(self, specs: Sequence[WindowSpec]) -> None:
        super().__init__()
        first = specs[0]
        wide, kernel = max(spec.out_channels for spec in specs), max(spec.kernel for spec in specs)
        read = max(spec.in_channels // spec.groups for spec in specs)
        bias = any(not spec.norm for spec in specs)
        if first.transposed:
            self.conv: nn.Module = nn.ConvTranspose2d(read, wide, kernel, bias=bias)
        else:
            # Depthwise throughout: say so, for the initialisation's fan; otherwise groups decide only at the call.
            groups = wide if read == 1 and all(spec.out_channels == spec.in_channels for spec in specs) else 1
            self.conv = ElasticConv2d(read * groups, wide, kernel, groups=groups, bias=bias)
        self.norm = ElasticBatchNorm2d(wide) if any(spec.norm for spec in specs) else None

    def forward(self, x: TorchTensor, spec: WindowSpec) -> TorchTensor:
        """[N, spec.in_channels, H, W] -> [N, spec.out_channels, H', W']."""
        weight, bias = self.conv.weight, None if spec.norm else self.conv.bias
        bias = None if bias is None else bias[: spec.out_channels]  # type: ignore[index]  # a parameter, not a module
        if spec.transposed:
            shape = (spec.in_channels, spec.out_channels, spec.kernel, spec.kernel)
            x = F.conv_transpose2d(x, shared_slice(weight, shape), bias, spec.stride, spec.padding, spec.stride - 1)  # type: ignore[arg-type]  # as above
        else:
            shape = (spec.out_channels, spec.in_channels // spec.groups, spec.kernel, spec.kernel)
            taps = shared_slice(weight, shape)  # type: ignore[arg-type]  # as above
            x = F.conv2d(x, taps, bias, spec.stride, spec.padding, spec.dilation, spec.groups)
        if spec.norm:
            assert self.norm is not None
            x = self.norm(x)
        return make_activation(spec.activation)(x) if spec.activation else x
