"""What the 15,625 cells of NAS-Bench-201 compute: which of them are the same, with weights and without.

A cell is six choices on the edges 0→1, 0→2, 1→2, 0→3, 1→3, 2→3. All tables here have one row per cell, numbered by
its genome (first edge most significant), and are made once.

Source: Dong and Yang, NAS-Bench-201, ICLR 2020, https://arxiv.org/abs/2001.00326.
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..digest import mix64
from ..gene import Population

__all__ = ["CHOICES", "EDGES", "all_cells", "cell_number", "representatives", "topologies", "unread_removed"]

EDGES: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of every edge, in the order of the genes."""

CHOICES: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""Operations, in the order of the choice indices."""

NODES: Final = 4
_NONE, _SKIP, _POOL = CHOICES.index("none"), CHOICES.index("skip_connect"), CHOICES.index("avg_pool_3x3")
_RADIX: Final = len(CHOICES) ** np.arange(len(EDGES) - 1, -1, -1)


def _written(choice: int, node: str) -> str:
    """A term of the benchmark's strings."""
    if choice == _NONE or node == "#":
        return "#"
    return node if choice == _SKIP else f"({node})@{CHOICES[choice]}"


def all_cells() -> Population:
    """[15625, 6] every genome; row number = `cell_number`."""
    grids = np.indices((len(CHOICES),) * len(EDGES), dtype=np.int16)
    return np.stack([grid.ravel() for grid in grids], axis=1)


def cell_number(genomes: Population) -> NDArray[np.int64]:
    """[B, 6] genomes -> [B] row of the tables."""
    return genomes.astype(np.int64) @ _RADIX


def _outputs(cells: Population) -> NDArray[np.uint64]:
    """[N] a number for what each cell computes; 0 where no path leads from input to output.

    A node is a multiset of terms, and its number their wrapping sum: sums commute and nest, skips vanish, and what is
    unreachable adds nothing. A convolution's term also depends on its edge, where its weights live; a pooling's not.
    """
    zero = np.zeros(len(cells), dtype=np.uint64)
    nodes = [zero + np.uint64(1)]
    for target in range(1, NODES):
        total = zero.copy()
        for gene, (source, end) in enumerate(EDGES):
            if end != target:
                continue
            value, choice = nodes[source], cells[:, gene]
            with np.errstate(over="ignore"):
                total += np.where(choice == _SKIP, value, 0)
                for number in range(_SKIP + 1, len(CHOICES)):
                    tag = number if number == _POOL else number + len(CHOICES) * (gene + 1)
                    total += np.where((choice == number) & (value != 0), mix64(value, tag), 0)
        nodes.append(total)
    return nodes[-1]


@functools.cache
def representatives() -> Population:
    """[15625, 6] for every cell, the one that stands for all that compute the same with the same weights.

    It is the cell of its class with the fewest edges, and among those the first: nothing in it is dead.
    """
    cells = all_cells()
    outputs = _outputs(cells)
    order = np.lexsort((np.arange(len(cells)), (cells != _NONE).sum(axis=1)))
    _, first, number = np.unique(outputs[order], return_index=True, return_inverse=True)
    table = np.empty_like(cells)
    table[order] = cells[order[first]][number]
    return table


@functools.cache
def unread_removed() -> Population:
    """[15625, 6] every cell without the edges into nodes that no path leads on from."""
    cells = all_cells()
    for node in range(NODES - 2, 0, -1):
        leaving = [gene for gene, (source, _) in enumerate(EDGES) if source == node]
        entering = [gene for gene, (_, target) in enumerate(EDGES) if target == node]
        unread = (cells[:, leaving] == _NONE).all(axis=1)
        cells[np.ix_(unread, entering)] = _NONE
    return cells


@functools.cache
def topologies() -> NDArray[np.int16]:
    """[15625, 2] number of each cell's class under the benchmark's rule, as two digits to the base 2**14.

    The rule writes a cell as a string: a node is its sorted terms joined by "+"; `none`, and anything that reads a node
    written "#", is "#"; a skip is the node it reads; any other operation is "(node)@operation". Cells with equal
    strings are one topology; there are 6,466.

    Source: https://github.com/D-X-Y/AutoDL-Projects (`to_unique_str` of its cell structure, zeros considered).
    """
    numbers: dict[str, int] = {}
    out = np.empty((len(CHOICES) ** len(EDGES), 2), dtype=np.int16)
    for row, cell in enumerate(all_cells().tolist()):
        nodes = ["0"]
        for target in range(1, NODES):
            terms = [
                _written(choice, nodes[source])
                for choice, (source, end) in zip(cell, EDGES, strict=True)
                if end == target
            ]
            nodes.append("+".join(sorted(terms)))
        out[row] = divmod(numbers.setdefault(nodes[-1], len(numbers)), 1 << 14)
    return out
