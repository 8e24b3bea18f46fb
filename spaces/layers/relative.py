"""Two-dimensional relative positions: features of the distance between two patches, in what attention asks and gives.

Tokens are a class token and then the patches of a square, row by row. The distance of two patches has a vertical and a
horizontal part, each with a table of features; pairs with the class token have an entry of their own. All heads share
the tables.

Source: Shaw et al., Self-Attention with Relative Position Representations, NAACL 2018,
https://arxiv.org/abs/1803.02155 (equations 3 and 4); Chen et al., AutoFormer, ICCV 2021,
https://arxiv.org/abs/2107.00651, in the two-dimensional form of its released code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor as TorchTensor
from torch import nn

__all__ = ["RelativePositions", "RelativeScores", "RelativeValues"]


class _RelativePosition(nn.Module):
    """The tables of all distances up to `reach` rows and columns; farther patches count as that far."""

    def __init__(self, features: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.vertical = nn.Parameter(torch.empty(2 * reach + 2, features))
        self.horizontal = nn.Parameter(torch.empty(2 * reach + 2, features))

    def fill(self, generator: torch.Generator) -> None:
        """Normal with standard deviation 0.02."""
        self.vertical.normal_(0.0, 0.02, generator=generator)
        self.horizontal.normal_(0.0, 0.02, generator=generator)

    def pairs(self, tokens: int) -> TorchTensor:
        """[tokens, tokens, features] of every pair (who asks, who is asked); rows as in `position.relative_rows`."""
        numbers, side = torch.arange(tokens - 1, device=self.vertical.device), math.isqrt(tokens - 1)
        total = torch.zeros((), device=self.vertical.device)
        for table, place in ((self.vertical, numbers // side), (self.horizontal, numbers % side)):
            rows = (place[None] - place[:, None]).clamp(-self.reach, self.reach) + self.reach + 1
            total = total + table[nn.functional.pad(rows, (1, 0, 1, 0))]
        return total


class RelativeScores(_RelativePosition):
    """What the distances add to the scores of attention: queries times their features, scaled as the scores are."""

    def forward(self, q: TorchTensor) -> TorchTensor:
        """[N, heads, T, features] -> [N, heads, T, T]."""
        tokens, features = q.shape[2:]
        flat = q.permute(2, 0, 1, 3).reshape(tokens, -1, features)
        scores = flat @ (self.pairs(tokens) * features**-0.5).transpose(1, 2)
        return scores.view(tokens, *q.shape[:2], tokens).permute(1, 2, 0, 3)


class RelativeValues(_RelativePosition):
    """What the distances add to the values that attention mixes: their features, weighted by the attention."""

    def forward(self, weights: TorchTensor) -> TorchTensor:
        """[N, heads, T, T] -> [N, heads, T, features]."""
        tokens = weights.shape[2]
        flat = weights.permute(2, 0, 1, 3).reshape(tokens, -1, tokens)
        values = flat @ self.pairs(tokens)
        return values.view(tokens, *weights.shape[:2], -1).permute(1, 2, 0, 3)


class RelativePositions(nn.Module):
    """What attention with `features` per head needs: `scores` and `values`, the same for any number of heads."""

    def __init__(self, features: int, reach: int) -> None:
        super().__init__()
        self.scores = RelativeScores(features, reach)
        self.values = RelativeValues(features, reach)
