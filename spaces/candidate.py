"""Candidates: operations of a space that can be tried alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .architecture import Value
from .gene import Gene, GeneTable
from .op import Shape

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Candidate", "Meaning", "variations"]

Meaning = Literal["", "identity", "nothing", "work"]
"""What an operation is openly offered as; "" where the space does not say, or says it of its parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An operation that can be built and run alone.

    Attributes:
        place: the gene (or genes) whose options it belongs to, or the block that always does it. A gene of several
            blocks has each of its options once for every kind of block, in the same order.
        label: the option, or the block with its parameters.
        choice: whether it is one option of a choice.
        shape: what it reads, without the batch.
        build: a network that does it, freshly initialised from a seed.
        means: its input as it is, zeros (an edge that is not there), or something computed; it is held to that.
        key: candidates with equal keys are the same operation, so that one trial tells about all; None = none is.
    """

    place: str
    label: str
    choice: bool
    shape: Shape
    build: Callable[[int], nn.Module]
    means: Meaning = ""
    key: Hashable = None


def variations(table: GeneTable, names: Sequence[str]) -> Iterator[tuple[Gene, Value, dict[str, Value]]]:
    """Every value of each gene of `names`, with a value of every gene of the table.

    The other genes have their defaults, but for those that must have another value for the gene to be active.

    >>> from .gene import When
    >>> table = GeneTable([Gene("kind", ("pool", "conv")), Gene("kernel", (3, 5), when=(When("kind", ("conv",)),))])
    >>> [choices for _, _, choices in variations(table, ["kernel"])]
    [{'kind': 'conv', 'kernel': 3}, {'kind': 'conv', 'kernel': 5}]
    """
    defaults = {gene.name: gene.values[gene.default] for gene in table.genes}
    for name in names:
        gene = table.genes[table.find(name)]
        needed: dict[str, Value] = {}
        pending = [gene]
        while pending:
            for when in pending.pop().when:
                default = defaults[when.gene]
                needed[when.gene] = default if default in when.values else when.values[0]
                pending.append(table.genes[table.find(when.gene)])
        for value in gene.values:
            yield gene, value, defaults | needed | {name: value}
