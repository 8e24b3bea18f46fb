"""Mixtures in cells whose nodes are sums: every edge carries the weighted sum of its candidates.

With partial channels only the first 1/K of an edge's channels pass through its candidates; the others bypass them, made
smaller by a 2x2 maximum where the edge strides, and a shuffle brings both together.

Source: Liu et al., DARTS, ICLR 2019, https://arxiv.org/abs/1806.09055 (equation 2); Xu et al., PC-DARTS, ICLR 2020,
https://arxiv.org/abs/1907.05737 (section 3), https://github.com/yuhuixu1993/PC-DARTS, model_search.py.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own idiom
from torch import Tensor, nn

from ...errors import SpaceError
from ..layers.cell import SumCell
from .mixture import MixedPlace, Mixture, Term, added, combined

__all__ = ["MixedEdge", "MixedEdges", "check_partial", "mix_cell", "mixed_edges", "no_network"]


@dataclass(frozen=True, slots=True)
class MixedEdge:
    """An edge of a cell under a mixture.

    Attributes:
        source: node that it reads.
        target: node that it adds to.
        choices: names of its candidates.
        terms: those that run; where there are none the edge does not exist.
        factor: of the edge as a whole, None for 1.
    """

    source: int
    target: int
    choices: tuple[str, ...]
    terms: tuple[Term, ...]
    factor: Term | None


@dataclass(frozen=True, slots=True)
class MixedEdges:
    """What a cell runs under a mixture.

    Attributes:
        edges: in order of their targets.
        partial: K, where the cell's candidates have 1/K of its channels.
    """

    edges: tuple[MixedEdge, ...]
    partial: int = 1


def mixed_edges(mixture: Mixture, places: Sequence[MixedPlace], partial: int = 1) -> dict[str, MixedEdges]:
    """What runs, by the first part of the places' names ``<cell>.<source>-<target>``.

    Raises:
        SpaceError: the mixture does not fit the places, or blends.
    """
    if mixture.blended:
        raise SpaceError("mixture: edges of cells cannot be blended; use a mixture that sums outputs.")
    terms, factors = mixture.terms(places), mixture.factors(places)
    found: dict[str, list[MixedEdge]] = {}
    for place in places:
        cell, _, ends = place.name.rpartition(".")
        source, target = (int(node) for node in ends.split("-"))
        factor = factors.get(place.name)
        unread = factor is not None and factor.silent and not factor.weight.requires_grad
        edges = found.setdefault(cell, [])
        if terms[place.name] and not unread:
            edges.append(MixedEdge(source, target, place.choices, terms[place.name], factor))
    return {cell: MixedEdges(tuple(edges), partial) for cell, edges in found.items()}


def mix_cell(cell: SumCell, inputs: Sequence[Tensor], mixed: MixedEdges) -> dict[int, Tensor]:
    """Every node that edges reach from `inputs` (nodes 0, 1, ...), by number.

    Args:
        cell: holds the candidates; one without a module is the identity.
        inputs: [N, C, H, W] each.
        mixed: what runs; an edge that reads an unreached node reaches nothing.
    """
    nodes = dict(enumerate(inputs))
    for edge in mixed.edges:
        if edge.source not in nodes:
            continue
        run = functools.partial(_run_edge, cell, nodes[edge.source], edge, mixed.partial)
        total = nodes.get(edge.target)
        if edge.factor is not None:
            nodes[edge.target] = added(total, edge.factor, run)
        else:
            nodes[edge.target] = run() if total is None else total + run()
    return nodes


def _run_edge(cell: SumCell, x: Tensor, edge: MixedEdge, partial: int) -> Tensor:
    """[N, C, H, W] -> [N, C, H', W'], before the edge's factor."""
    mixed = x if partial == 1 else x[:, : x.shape[1] // partial]
    place = f"{edge.source}-{edge.target}"
    candidates = cast(nn.ModuleDict, cell.edges[place]) if place in cell.edges else nn.ModuleDict()

    def run(index: int) -> Tensor:
        choice = edge.choices[index]
        return candidates[choice](mixed) if choice in candidates else mixed

    y = combined(edge.terms, run)
    assert y is not None
    if partial == 1:
        return y
    rest, stride = x[:, mixed.shape[1] :], x.shape[-1] // y.shape[-1]
    return F.channel_shuffle(torch.cat([y, F.max_pool2d(rest, stride) if stride > 1 else rest], dim=1), partial)


def check_partial(space: str, channels: int, partial: int) -> int:
    """The channels that pass through the candidates, 1/`partial` of a node's; raises SpaceError where that is none."""
    if partial < 1 or channels % partial:
        raise SpaceError(
            f"space {space!r}: 1/{partial} of the {channels} channels of a node cannot pass through a mixture; partial "
            f"must be a divisor of {channels}."
        )
    return channels // partial


def no_network(space: str, partial: int) -> SpaceError:
    """What to raise where a supernet with partial channels is asked for a standalone network."""
    return SpaceError(
        f"space {space!r}: a supernet whose operations have 1/{partial} of the channels holds the weights of no "
        "standalone network; build the architecture with space.network and train it alone."
    )
