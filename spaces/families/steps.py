"""Spaces described as steps: one list of steps gives both the Ops of an architecture and the sites of the space.

A step is a piece of a network that depends on few genes. Chained, the steps are `ops`; each on its own, with stand-ins
for what it reads, they are `sites`. So the two cannot drift apart. Networks and supernets are built from plans, the
layers' specs, which the steps read as well.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from torch import nn

from ..architecture import Architecture, Value
from ..elastic.supernet import Supernet
from ..gene import Gene, When
from ..layers.materialise import allocate, initialise
from ..op import Op, Shape, Tensor
from ..site import Site
from ..space import SearchSpace

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["LAST", "Choices", "Read", "Step", "StepSpace", "integer", "layer_genes"]

Choices = Mapping[str, Value]
"""Value by gene name."""

LAST: Final = ""
"""What a step reads by default: the output of the step before it."""


class Read(Protocol):
    """How a step gets at what an earlier step wrote."""

    def __call__(self, shape: Shape, source: str = LAST) -> Tensor:
        """The last output of step `source`, which has this shape."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One piece of a network.

    Attributes:
        name: unique in its space; the name of its site.
        genes: names of the genes it depends on.
        build: (choices, read) -> its Ops, () where these choices leave it out.
    """

    name: str
    build: Callable[[Choices, Read], tuple[Op, ...]]
    genes: tuple[str, ...] = ()


class StepSpace(SearchSpace):
    """A space whose family gives `steps`, `blank` and `blank_supernet`.

    Args:
        spec: a dataclass of numbers and names; all that the family varies and fixes.
        genes: what `spec` leaves open.
        name: the family's name in the catalog.
        preset: the name `spec` goes by, "" if none.
        options: fields of `spec` that adapt it to a task.
    """

    def __init__(
        self, spec: DataclassInstance, genes: Sequence[Gene], *, name: str, preset: str, options: Sequence[str]
    ) -> None:
        super().__init__(genes, name=name, preset=preset, options={key: getattr(spec, key) for key in options})
        self._spec = spec

    def __reduce__(self) -> tuple[Callable[..., SearchSpace], tuple[Any, ...]]:
        """Travel to other processes as the spec alone: compiled tables are rebuilt there."""
        return _restore, (type(self), self._spec, self.preset)

    def description(self) -> dict[str, object]:
        """JSON-able description; the whole spec is part of the identity."""
        return super().description() | {"spec": dataclasses.asdict(self._spec)}

    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """The pieces of the networks, in execution order."""

    @abstractmethod
    def blank(self, choices: Choices) -> nn.Module:
        """The network of these choices, not yet filled; called where tensors have no memory."""

    @abstractmethod
    def blank_supernet(self) -> Supernet:
        """The supernet, not yet filled; called where tensors have no memory."""

    def choices(self, architecture: Architecture) -> Choices:
        """Values of the active genes; raises SpaceError for an architecture of another space."""
        self.encode(architecture)
        return architecture.choices

    def largest_choices(self) -> Choices:
        """Values of the largest architecture."""
        return self.decode(self.largest()).choices

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        choices, ops = self.choices(architecture), ()
        written: dict[str, Tensor] = {}

        def read(shape: Shape, source: str = LAST) -> Tensor:
            assert written[source].shape == shape, (source, written[source].shape, shape)
            return written[source]

        for step in self.steps():
            if part := step.build(choices, read):
                ops += part
                written[LAST] = written[step.name] = part[-1].output
        return ops

    def sites(self) -> tuple[Site, ...]:
        """One site per step; named by module paths."""
        return tuple(self._site(step) for step in self.steps())

    def _site(self, step: Step) -> Site:
        positions = tuple(sorted(self.table.find(gene) for gene in step.genes))
        genes = [self.genes[position] for position in positions]

        def read(shape: Shape, source: str = LAST) -> Tensor:
            return Tensor(f"{step.name}.{source or 'input'}", shape)

        def build(choices: tuple[int, ...]) -> tuple[Op, ...]:
            values = {gene.name: gene.values[choice] for gene, choice in zip(genes, choices, strict=True)}
            return step.build(values, read)

        return Site(step.name, positions, build)

    def network(self, architecture: Architecture, seed: int | None = None) -> nn.Module:
        """A freshly initialised network of this architecture."""
        choices = self.choices(architecture)
        network = allocate(lambda: self.blank(choices))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None) -> Supernet:
        """Shared weights of every architecture, freshly initialised."""
        supernet = allocate(self.blank_supernet)
        initialise(supernet, seed)
        return supernet


def _restore(kind: Callable[..., SearchSpace], spec: object, preset: str) -> SearchSpace:
    return kind(spec, preset=preset)


def layer_genes(
    depth: str, depths: Sequence[int], path: str, genes: Sequence[tuple[str, Sequence[Value]]]
) -> list[Gene]:
    """Ordered genes of every layer that may exist, ``<path>.<layer>.<name>``, active where gene `depth` reaches it."""
    out = []
    for layer in range(max(depths)):
        deep = tuple(value for value in depths if value > layer)
        when = (When(depth, deep),) if len(deep) < len(depths) else ()
        for name, values in genes:
            out.append(
                Gene(f"{path}.{layer}.{name}", tuple(values), kind="ordered", when=when, default=len(values) - 1)
            )
    return out


def integer(choices: Choices, name: str) -> int:
    """The value of an integer gene."""
    value = choices[name]
    assert isinstance(value, int), (name, value)
    return value
