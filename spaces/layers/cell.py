"""Cells whose nodes are sums of operations on earlier nodes: the module, and its cost twin node by node.

Node numbers start with the cell's inputs. An edge without operation simply does not exist; the identity exists and has
neither module nor Op. The same module serves a standalone network, which holds the edges it runs, and a supernet, which
holds every candidate of every edge and is told which ones to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor as TorchTensor
from torch import nn

from ..op import Op, Tensor, make_op
from .cell_ops import CandidateSpec, candidate_ops, make_candidate

__all__ = ["Edge", "SumCell", "node_ops", "sum_cell_ops"]


@dataclass(frozen=True, slots=True)
class Edge:
    """One operation of a cell: the node it reads, the node it adds to, the choice's name and what that means there."""

    source: int
    target: int
    choice: str
    spec: CandidateSpec

    @property
    def path(self) -> str:
        """Module path inside the cell."""
        return f"edges.{self.source}-{self.target}.{self.choice}"


class SumCell(nn.Module):
    """The operations of `edges`, as ``edges.<source>-<target>.<choice>``."""

    def __init__(self, edges: Iterable[Edge]) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for edge in edges:
            if edge.spec is None:
                continue
            place = f"{edge.source}-{edge.target}"
            if place not in self.edges:
                self.edges[place] = nn.ModuleDict()
            cast(nn.ModuleDict, self.edges[place])[edge.choice] = make_candidate(edge.spec)

    def walk(self, inputs: Sequence[TorchTensor], edges: Iterable[Edge]) -> dict[int, TorchTensor]:
        """Every node that `edges` reach from `inputs` (nodes 0, 1, …), by number; edges in order of their targets."""
        nodes = dict(enumerate(inputs))
        for edge in edges:
            y = nodes[edge.source]
            if edge.spec is not None:
                place = cast(nn.ModuleDict, self.edges[f"{edge.source}-{edge.target}"])
                y = place[edge.choice](y)
            nodes[edge.target] = nodes[edge.target] + y if edge.target in nodes else y
        return nodes


def node_ops(name: str, nodes: Mapping[int, Tensor], edges: Sequence[Edge]) -> tuple[tuple[Op, ...], Tensor]:
    """The Ops of one node of the cell at module path `name`, and the tensor it is.

    Args:
        name: module path of the cell.
        nodes: tensors of earlier nodes.
        edges: those that end in the node, at least one, in the order they are added.
    """
    ops: tuple[Op, ...] = ()
    total: Tensor | None = None
    for position, edge in enumerate(edges):
        made = candidate_ops(f"{name}.{edge.path}", nodes[edge.source], edge.spec)
        term = made[-1].output if made else nodes[edge.source]
        ops += made
        if total is not None:
            ops += (make_op(f"{name}.sums.{edge.target}.{position}", "add", (total, term)),)
            term = ops[-1].output
        total = term
    assert total is not None
    return ops, total


def sum_cell_ops(
    name: str, inputs: Sequence[Tensor], edges: Sequence[Edge]
) -> tuple[tuple[Op, ...], dict[int, Tensor]]:
    """The Ops of a `SumCell` at module path `name` that runs `edges`, and the tensor of every node it reaches."""
    nodes = dict(enumerate(inputs))
    ops: tuple[Op, ...] = ()
    for target in dict.fromkeys(edge.target for edge in edges):
        made, nodes[target] = node_ops(name, nodes, [edge for edge in edges if edge.target == target])
        ops += made
    return ops, nodes
