"""Small directed acyclic graphs, a population at a time: pruning, counting and canonical forms of labelled graphs.

A graph over vertices 0 … V - 1 is one integer: bit ``x + y * (y - 1) / 2`` says that there is an edge from x to y, for
x < y. Vertex 0 is the input, V - 1 the output.

Notation: B graphs, V vertices, E = V (V - 1) / 2 possible edges, I = V - 2 inner vertices.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "all_codes",
    "canonical_dags",
    "count_edges",
    "edge_pairs",
    "has_edge",
    "predecessors",
    "prune",
    "used_vertices",
]

Codes = NDArray[np.int64]

CHUNK = 4096
"""Graphs worked on at once, so that 120 candidate codes for each stay in cache."""


def edge_pairs(vertices: int) -> tuple[tuple[int, int], ...]:
    """(x, y) of every possible edge, in the order of the bits.

    >>> edge_pairs(3)
    ((0, 1), (0, 2), (1, 2))
    """
    return tuple((x, y) for y in range(1, vertices) for x in range(y))


def _bit(x: int, y: int) -> int:
    return x + y * (y - 1) // 2


def predecessors(codes: Codes, vertex: int) -> Codes:
    """[B] bit set of the vertices with an edge to `vertex`."""
    return (codes >> _bit(0, vertex)) & ((1 << vertex) - 1)


def has_edge(codes: Codes, x: int, y: int) -> NDArray[np.bool_]:
    """[B] whether there is an edge from x to y."""
    return ((codes >> _bit(x, y)) & 1).astype(np.bool_)


def count_edges(codes: Codes) -> NDArray[np.int64]:
    """[B] number of edges."""
    return np.bitwise_count(codes).astype(np.int64)


def prune(codes: Codes, vertices: int) -> Codes:
    """[B] the graphs without edges that no path from input to output uses; 0 where there is no path."""
    ahead = np.ones_like(codes)  # bit set of the vertices that the input reaches
    for y in range(1, vertices):
        ahead |= ((predecessors(codes, y) & ahead) != 0).astype(np.int64) << y
    behind = np.full_like(codes, 1 << (vertices - 1))  # … and of those that reach the output
    for y in range(vertices - 1, 0, -1):
        behind |= np.where(behind >> y & 1, predecessors(codes, y), 0)
    alive = ahead & behind
    out = np.zeros_like(codes)
    for y in range(1, vertices):
        out |= np.where(alive >> y & 1, predecessors(codes, y) & alive, 0) << _bit(0, y)
    return out


def used_vertices(codes: Codes, vertices: int) -> NDArray[np.bool_]:
    """[B, V] whether a vertex has an edge to or from it."""
    used = np.zeros((len(codes), vertices), dtype=np.bool_)
    for x, y in edge_pairs(vertices):
        present = has_edge(codes, x, y)
        used[:, x] |= present
        used[:, y] |= present
    return used


def canonical_dags(
    codes: Codes, labels: NDArray[np.integer], vertices: int, kinds: int
) -> tuple[Codes, NDArray[np.int16]]:
    """The first of all graphs that differ only in the order of their inner vertices.

    "First" is the smallest code, then the smallest labels read from vertex 1 on, so that unused vertices come last:
    two pruned graphs are isomorphic exactly where their canonical forms are equal.

    Args:
        codes: [B] graphs, pruned.
        labels: [B, I] kind of each inner vertex, 0 <= kind < `kinds`; those of unused vertices do not matter.
        vertices: V, at most 8.
        kinds: number of kinds.

    Returns:
        [B] codes and [B, I] labels, 0 for unused vertices.
    """
    inner = vertices - 2
    weights = _order_weights(vertices, kinds)
    pairs = np.arange(len(edge_pairs(vertices)))
    out_codes, out_labels = np.empty_like(codes), np.empty((len(codes), inner), dtype=np.int16)
    radix = kinds ** np.arange(inner - 1, -1, -1)
    for start in range(0, len(codes), CHUNK):
        rows = slice(start, start + CHUNK)
        bits = (codes[rows, None] >> pairs) & 1
        live = np.where(used_vertices(codes[rows], vertices)[:, 1:-1], labels[rows], 0)
        # Exact: the sums stay below 2**53, edges that an order would turn backwards included.
        first = (np.hstack([bits, live]).astype(np.float64) @ weights).min(axis=1).astype(np.int64)
        out_codes[rows], packed = np.divmod(first, kinds**inner)
        out_labels[rows] = packed[:, None] // radix % kinds
    return out_codes, out_labels


@functools.cache
def _order_weights(vertices: int, kinds: int) -> NDArray[np.float64]:
    """[E + I, I!] what each edge bit and each label adds to a graph's number under each order of the inner vertices."""
    pairs, inner = edge_pairs(vertices), vertices - 2
    backwards = float(1 << len(pairs)) * kinds**inner  # more than any graph that respects the order
    columns = []
    for order in itertools.permutations(range(1, vertices - 1)):
        place = (0, *order, vertices - 1)
        edges = [
            float(1 << _bit(place[x], place[y])) * kinds**inner if place[x] < place[y] else backwards for x, y in pairs
        ]
        columns.append(edges + [float(kinds ** (inner - place[vertex])) for vertex in range(1, vertices - 1)])
    return np.array(columns).T


def all_codes(vertices: int) -> Iterator[Codes]:
    """Every graph, in chunks."""
    total = 1 << len(edge_pairs(vertices))
    for start in range(0, total, 1 << 16):
        yield np.arange(start, min(start + (1 << 16), total), dtype=np.int64)
