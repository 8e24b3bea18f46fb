"""Edge factors: how much of each incoming edge a node takes.

Notation: b, logits of the edges of a node; k, how many of them a network keeps.

Source: Xu et al., PC-DARTS, ICLR 2020, https://arxiv.org/abs/1907.05737 (softmax); Wang et al., ROME, ICCV 2023,
https://arxiv.org/abs/2011.11233 (Gumbel-top-2, version 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import torch
from torch import Tensor

from ...spaces.elastic.mixture import MixedPlace
from .relaxation import Moment, gumbel_noise

__all__ = ["EDGES", "EdgeDraw", "kept_count", "kept_edges", "sampled_edges", "softmax_edges"]


class EdgeDraw(NamedTuple):
    """The edges of a node in one forward pass.

    Attributes:
        factors: [edges].
        kept: [edges] probabilities that a network keeps the edge, which add up to k.
        running: edges whose candidates run; None = all.
    """

    factors: Tensor
    kept: Tensor
    running: frozenset[int] | None = None


def softmax_edges(logits: Tensor, edges: tuple[MixedPlace, ...], moment: Moment) -> EdgeDraw:
    """Factors softmax(b), of which every edge runs."""
    del moment
    factors = torch.softmax(logits, dim=0)
    return EdgeDraw(factors, kept_edges(factors, edges))


def sampled_edges(logits: Tensor, edges: tuple[MixedPlace, ...], moment: Moment) -> EdgeDraw:
    """Exactly k edges with factor 1: the largest of log softmax(b) plus Gumbel noise, k draws without replacement.

    Backward they have the gradient of softmax(b + noise) at the moment's temperature.
    """
    count = kept_count(edges)
    noisy = torch.log_softmax(logits, dim=0) + gumbel_noise(logits, moment.generator)
    top = noisy.topk(count).indices
    hard = torch.zeros_like(logits).scatter(0, top, 1.0)
    soft = torch.softmax(noisy / moment.temperature, dim=0)
    running = frozenset(top.tolist())
    return EdgeDraw(hard + soft - soft.detach(), kept_edges(torch.softmax(logits, dim=0), edges), running)


def kept_count(edges: tuple[MixedPlace, ...]) -> int:
    """How many edges of a node a network keeps: all where each decides for itself."""
    return edges[0].kept or len(edges)


def kept_edges(shares: Tensor, edges: tuple[MixedPlace, ...]) -> Tensor:
    """[edges] probabilities that an edge is kept, from shares [edges] of 1; none above 1, so that they add up to k.

    The excess over 1 goes to the other edges in proportion to their shares.

    >>> edges = tuple(MixedPlace(name=name, choices=("a",), node="n", kept=2) for name in "xyz")
    >>> [round(value, 3) for value in kept_edges(torch.tensor([0.8, 0.1, 0.1]), edges).tolist()]
    [1.0, 0.5, 0.5]
    """
    count = kept_count(edges)
    full = torch.zeros_like(shares, dtype=torch.bool)
    out = shares
    for _ in range(count):
        rest = torch.where(full, torch.zeros_like(shares), shares)
        left = count - int(full.sum())
        out = torch.where(full, torch.ones_like(shares), left * rest / rest.sum().clamp_min(1e-12))
        over = (out > 1) & ~full
        if not over.any():
            break
        full = full | over
    return out.clamp(max=1.0)


EDGES: Final[Mapping[str, Callable[[Tensor, tuple[MixedPlace, ...], Moment], EdgeDraw] | None]] = MappingProxyType({
    "equal": None,
    "sampled": sampled_edges,
    "softmax": softmax_edges,
})  # fmt: skip
"""By name, from the logits [edges] of a node to its edges in a forward pass; None: all count 1, nothing is learned."""
