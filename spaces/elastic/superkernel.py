"""Superkernels: kernel, expansion and presence of an inverted bottleneck as gates on one set of weights.

The largest depthwise convolution holds all choices. By linearity a larger kernel is the smaller one plus the ring
around it, and a larger expansion is the smaller one plus further channels, so that a share of every step up makes any
blend of the choices one convolution:

    w = w_3 + s_5 (w_5 - w_3) + s_7 (w_7 - w_5),   hidden channels x (1, s_e, ...),   y = x + p (block(x) - x)

Channels are scaled where the projection reads them, and presence where the block ends, so that no norm in between can
undo it: shares of 0 and 1 are exactly the architectures. (The published form scales the depthwise kernel alone.)

Source: Stamoulis et al., Single-Path NAS, ECML 2019, https://arxiv.org/abs/1904.02877 (section 3);
https://github.com/dstamoulis/single-path-nas, nas-search/superkernel.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor

from ..layers.inverted_bottleneck import InvertedBottleneckSpec
from .blocks import ElasticInvertedBottleneck

__all__ = ["Steps", "Superkernel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How far a superkernel goes up its steps; gradients reach all of it.

    Notation: K kernels, E expansions, ascending.

    Attributes:
        present: [] whether there is a block; without one the input passes. 1 where it cannot be left out.
        kernels: [K - 1] one for every kernel but the smallest.
        expansions: [E - 1] one for every expansion but the smallest.
    """

    present: Tensor
    kernels: Tensor
    expansions: Tensor


@dataclass(frozen=True, slots=True)
class Superkernel:
    """The choices of one place as steps of kernel and expansion.

    Attributes:
        specs: what each choice computes, in the order of a mixture's weights; None = no block. The others differ in
            their kernels and hidden channels alone.
    """

    specs: tuple[InvertedBottleneckSpec | None, ...]

    @classmethod
    def of(cls, specs: Sequence[object]) -> Superkernel | None:
        """The superkernel of a place's choices, None where they do not make one."""
        blocks = [spec for spec in specs if isinstance(spec, InvertedBottleneckSpec)]
        plain = all(
            spec.kernel and spec.widens and not (spec.fused or spec.start_kernel or spec.squeezed) and spec.groups == 1
            for spec in blocks
        )
        alike = len({replace(spec, kernel=1, hidden=1) for spec in blocks}) == 1
        if not plain or not alike or len(blocks) + list(specs).count(None) < len(specs):
            return None
        return cls(tuple(spec if isinstance(spec, InvertedBottleneckSpec) else None for spec in specs))

    @property
    def kernels(self) -> tuple[int, ...]:
        """Sides of the depthwise windows, ascending."""
        return tuple(sorted({spec.kernel for spec in self.specs if spec is not None}))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Hidden channels of the expansions, ascending."""
        return tuple(sorted({spec.hidden for spec in self.specs if spec is not None}))

    @property
    def optional(self) -> bool:
        """Whether no block is a choice."""
        return None in self.specs

    # --- between gates and weights --------------------------------------------------------------------------------

    def weights(self, gates: Steps) -> Tensor:
        """[choices] a mixture's weights from gates; each counts only where those of all smaller steps hold.

        Gates of 0 and 1 give a one-hot mixture; all others a product distribution, whose weights add up to 1.
        """
        kernels, expansions = _exactly(gates.kernels), _exactly(gates.expansions)
        weights = []
        for spec in self.specs:
            if spec is None:
                weights.append(1 - gates.present)
            else:
                kernel, expansion = self.kernels.index(spec.kernel), self.hidden.index(spec.hidden)
                weights.append(gates.present * kernels[kernel] * expansions[expansion])
        return torch.stack(weights)

    def shares(self, weights: Tensor) -> Steps:
        """The share of a mixture's weights [choices] that takes each step, kernels and expansions among the blocks."""
        blocks = self._share(weights, "kernel", 0)
        # Without a block its steps do not matter, but must not be 0 / 0.
        total = torch.where(blocks == 0, torch.ones_like(blocks), blocks)
        return Steps(
            present=blocks if self.optional else torch.ones_like(blocks),
            kernels=_stack([self._share(weights, "kernel", side) / total for side in self.kernels[1:]], weights),
            expansions=_stack([self._share(weights, "hidden", wide) / total for wide in self.hidden[1:]], weights),
        )

    def _share(self, weights: Tensor, size: str, least: int) -> Tensor:
        """[] the weight of all blocks that are at least so large."""
        enough = [spec is not None and getattr(spec, size) >= least for spec in self.specs]
        return torch.stack([weight for weight, counts in zip(weights.unbind(), enough, strict=True) if counts]).sum()

    # --- what gates are decided by --------------------------------------------------------------------------------

    def kernel_norms(self, block: ElasticInvertedBottleneck) -> Tensor:
        """[K - 1] squared norms of the rings that larger kernels add."""
        taps = self._taps(block)
        rings = [large - _padded(small, large) for small, large in itertools.pairwise(taps)]
        return _stack([ring.square().sum() for ring in rings], taps[0])

    def expansion_norms(self, block: ElasticInvertedBottleneck, kernels: Tensor) -> Tensor:
        """[E] squared norms of the smallest expansion's channels, and of those that each larger one adds.

        The first is what decides about presence.

        Args:
            block: whose depthwise convolution.
            kernels: [K - 1] gates of its kernels, each counting where those before it hold.
        """
        parts = self.blended(block, kernels.cumprod(0)).tensor_split(self.hidden[:-1])
        return torch.stack([part.square().sum() for part in parts])

    # --- running --------------------------------------------------------------------------------------------------

    def blended(self, block: ElasticInvertedBottleneck, kernels: Tensor) -> Tensor:
        """[hidden, 1, k, k] the depthwise weight with these shares [K - 1] of larger kernels."""
        taps = self._taps(block)
        total = taps[0]
        for small, large, share in zip(taps, taps[1:], kernels.to(total.dtype).unbind(), strict=False):
            total = _padded(total, large) + share * (large - _padded(small, large))
        return total

    def run(self, block: ElasticInvertedBottleneck, x: Tensor, shares: Steps) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)], by one pass of `block`."""
        spec = replace(next(filter(None, self.specs)), kernel=self.kernels[-1], hidden=self.hidden[-1])
        assert spec.expand is not None
        assert block.expand is not None
        assert block.depthwise is not None
        y = block.expand(x, spec.expand)
        taps = self.blended(block, shares.kernels)
        y = block.depthwise.norm(F.conv2d(y, taps, stride=spec.stride, padding=spec.kernel // 2, groups=spec.hidden))
        if block.depthwise.activation is not None:
            y = block.depthwise.activation(y)
        project = block.project.conv.chosen_weight((spec.out_channels, spec.hidden, 1, 1))
        y = block.project.norm(F.conv2d(y, project * self._channels(shares.expansions, project)))
        if block.layer_scale is not None:
            y = block.layer_scale(y)
        if spec.residual:
            y = x + y
        return torch.lerp(x, y, shares.present.to(y.dtype)) if self.optional else y

    def _channels(self, expansions: Tensor, like: Tensor) -> Tensor:
        """[hidden, 1, 1] the factor of every hidden channel."""
        sizes = [large - small for small, large in zip((0, *self.hidden), self.hidden, strict=False)]
        steps = (like.new_ones(()), *expansions.to(like.dtype).unbind())
        return torch.cat([step.expand(size) for step, size in zip(steps, sizes, strict=True)]).view(-1, 1, 1)

    def _taps(self, block: ElasticInvertedBottleneck) -> list[Tensor]:
        """The depthwise weights of all kernels at the largest expansion, ascending."""
        assert block.depthwise is not None
        return [block.depthwise.conv.chosen_weight((self.hidden[-1], 1, side, side)) for side in self.kernels]


def _exactly(gates: Tensor) -> Tensor:
    """[S] gates -> [S + 1] that exactly so many steps are taken.

    >>> _exactly(torch.tensor([0.5, 0.5])).tolist()
    [0.5, 0.25, 0.25]
    """
    one = gates.new_ones(1)
    return torch.cat([one, gates.cumprod(0)]) * torch.cat([1 - gates, one])


def _padded(small: Tensor, large: Tensor) -> Tensor:
    """`small` with zeros around it, as large as `large`."""
    return F.pad(small, ((large.shape[-1] - small.shape[-1]) // 2,) * 4)


def _stack(values: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(values)) if values else like.new_zeros(0)
