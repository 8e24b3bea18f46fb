"""Row-wise sparse weights: of every row, the same number of entries of largest magnitude is kept.

A row is what makes one output: ``weight[i]``, flattened. Sparser choices keep a subset of what denser ones keep, so one
list of entries per row, the most important first, holds all of them: a choice is a prefix.

Source: Gao et al., DRESS: Dynamic REal-time Sparse Subnets, 2022, https://arxiv.org/abs/2207.00670.

Notation: R rows, C entries per row, K kept ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["kept_entries", "pack_rows", "row_mask", "row_ranks", "unpack_rows"]


def kept_entries(entries: int, density: float) -> int:
    """How many of a row's entries a density keeps; at least one.

    >>> kept_entries(9, 0.25), kept_entries(9, 1.0), kept_entries(9, 0.01)
    (2, 9, 1)
    """
    return max(1, round(density * entries))


def row_ranks(weight: Tensor) -> Tensor:
    """[R, ...] int32, the rank of every entry in its row by magnitude: 0 is the largest; equal ones by position.

    >>> row_ranks(torch.tensor([[0.1, -3.0, 2.0]])).tolist()
    [[2, 0, 1]]
    """
    order = weight.detach().flatten(1).abs().argsort(dim=1, descending=True, stable=True)
    numbers = torch.arange(order.shape[1], dtype=torch.int32, device=weight.device).expand(order.shape)
    return numbers.new_empty(order.shape).scatter_(1, order, numbers).view(weight.shape)


def row_mask(ranks: Tensor, density: float) -> Tensor:
    """[R, ...] bool, what a density keeps of rows with these `ranks` [R, ...]."""
    return ranks < kept_entries(ranks[0].numel(), density)


def pack_rows(weight: Tensor, density: float) -> tuple[Tensor, Tensor]:
    """The entries of the densest choice, the most important of each row first.

    Args:
        weight: [R, ...].
        density: of the densest choice that is stored.

    Returns:
        Values [R, K] and their places [R, K] int32 in the flattened rows.
    """
    rows = weight.detach().flatten(1)
    kept = kept_entries(rows.shape[1], density)
    order = rows.abs().argsort(dim=1, descending=True, stable=True)[:, :kept]
    return rows.gather(1, order), order.int()


def unpack_rows(values: Tensor, places: Tensor, shape: Sequence[int], density: float) -> Tensor:
    """The weight of a choice no denser than what was packed: the prefix of every row, zeros elsewhere.

    >>> weight = torch.tensor([[0.1, -3.0, 2.0]])
    >>> unpack_rows(*pack_rows(weight, 1.0), weight.shape, 0.4).tolist()
    [[0.0, -3.0, 0.0]]
    """
    weight = values.new_zeros(tuple(shape))
    kept = kept_entries(weight[0].numel(), density)
    weight.view(len(weight), -1).scatter_(1, places[:, :kept].long(), values[:, :kept])
    return weight
