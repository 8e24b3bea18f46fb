"""Spaces of chains: networks whose layers stand in a row of slots, each of which few genes decide.

A family describes its genes and slots; everything else (networks, Ops, sites, keys, the supernet) is made here from
that one description.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ...errors import SpaceError
from ..architecture import Architecture, Value
from ..candidate import Candidate, variations
from ..elastic.supernet import Supernet
from ..gene import Gene, Population, When
from ..layers.chain import Layer, assemble, chain_ops
from ..layers.materialise import allocate, builder, initialise
from ..op import Op, Tensor
from ..site import Site
from ..space import SearchSpace

__all__ = [
    "ChainDescription",
    "ChainSpace",
    "ChainSupernet",
    "Choices",
    "ImageDescription",
    "Slot",
    "blank_chain",
    "block_genes",
    "check_image",
    "image_batch",
    "number",
    "resized",
    "whole",
]

Choices = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place in the row.

    Attributes:
        name: unique in the space.
        genes: names of the genes that decide what stands here.
        side: of the square image read.
        build: values by gene name -> the layer, None where there is none. Reads no gene but those named, and reads one
            that is inactive only where its value does not matter.
    """

    name: str
    genes: tuple[str, ...]
    side: int
    build: Callable[[Choices], Layer | None]


class ImageDescription(Protocol):
    """What every family of image classifiers says of itself; a frozen dataclass."""

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        ...

    @property
    def resolution(self) -> int:
        """Side of the square image."""
        ...

    @property
    def classes(self) -> int:
        """Logits."""
        ...


class ChainDescription(ImageDescription, Protocol):
    """What a family of chains says of itself; a frozen dataclass."""

    def genes(self) -> tuple[Gene, ...]:
        """All choices; those with one value only become constants."""
        ...

    def slots(self) -> tuple[Slot, ...]:
        """The row, in execution order."""
        ...

    @property
    def elastic(self) -> bool:
        """Whether weights can be shared."""
        ...


class ChainSpace(SearchSpace):
    """All networks that a description allows.

    Args:
        spec: the family's description.
        name: the family's name in the catalog.
        preset: the name `spec` goes by, "" if none.

    >>> from archsmith.spaces.families.resnet import PRESETS
    >>> space = ChainSpace(PRESETS["tiny"], name="resnet", preset="tiny")
    >>> space.size, [layer.path for layer in space.plan(space.decode(space.smallest()))]
    (1152, ['stem.first', 'stem.last', 'pool', 'stages.0.0', 'stages.1.0', 'head'])
    """

    def __init__(self, spec: ChainDescription, *, name: str, preset: str = "") -> None:
        self.spec = spec
        genes, self.constants = _split(spec.genes())
        options = {"in_channels": spec.in_channels, "resolution": spec.resolution, "classes": spec.classes}
        super().__init__(genes, name=name, preset=preset, options=options)

    def __reduce__(self) -> tuple[Callable[..., ChainSpace], tuple[ChainDescription, str, str]]:
        """Travel to other processes as the description alone: compiled tables are rebuilt there."""
        return _restore, (self.spec, self.name, self.preset)

    def description(self) -> dict[str, object]:
        """JSON-able description; the whole specification is part of the identity."""
        return super().description() | {"spec": dataclasses.asdict(cast(Any, self.spec))}

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The row."""
        return self.spec.slots()

    def plan(self, architecture: Architecture) -> tuple[Layer, ...]:
        """The layers of `architecture`, in execution order."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        choices = {**self.constants, **architecture.choices}
        layers = (slot.build(choices) for slot in self.slots)
        return tuple(layer for layer in layers if layer is not None)

    # --- costs ----------------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        return chain_ops(self.plan(architecture), _image(self.spec))

    def sites(self) -> tuple[Site, ...]:
        """One site per slot, of the slot's name."""
        return tuple(self._site(slot) for slot in self.slots)

    def _site(self, slot: Slot) -> Site:
        positions = self._positions(slot)

        def build(indices: tuple[int, ...]) -> tuple[Op, ...]:
            layer = slot.build(self._values(positions, indices))
            if layer is None:
                return ()
            name = "image" if slot is self.slots[0] else f"{slot.name}.input"
            return layer.ops(Tensor(name, (layer.spec.in_channels, slot.side, slot.side)))

        return Site(slot.name, positions, build)

    def _positions(self, slot: Slot) -> tuple[int, ...]:
        return tuple(sorted(self.table.find(name) for name in set(slot.genes) - set(self.constants)))

    def _values(self, positions: Sequence[int], indices: Sequence[int]) -> dict[str, Value]:
        genes = (self.genes[position] for position in positions)
        return {**self.constants, **{g.name: g.values[index] for g, index in zip(genes, indices, strict=True)}}

    def _layers(self) -> list[list[Layer | None]]:
        """Per site, the layer of each of its configurations, in table order."""
        index, found = self.site_index, []
        for number_, slot in enumerate(self.slots):
            positions = self._positions(slot)
            rows = index.configurations(number_)
            found.append([slot.build(self._values(positions, [int(i) for i in row])) for row in rows])
        return found

    @functools.cached_property
    def _classes(self) -> NDArray[np.int16]:
        """[T] per site configuration, the number of the site's first configuration with an equal layer."""
        classes: list[int] = []
        for layers in self._layers():
            first: dict[Layer | None, int] = {}
            classes += [first.setdefault(layer, len(first)) for layer in layers]
        if max(classes) > np.iinfo(np.int16).max:
            raise SpaceError(
                f"space {self.name!r}: a slot has {max(classes)} different layers; at most 32767 have keys."
            )
        return np.array(classes, dtype=np.int16)

    def key_form(self, genomes: Population) -> NDArray[np.integer]:
        """[B, S] the layer at every slot: genomes with equal layers are one computation on the same weights."""
        return self._classes[self.site_index.index(genomes)]

    # --- networks -------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> nn.Module:
        """A freshly initialised network of this architecture."""
        network = blank_chain(self.plan(architecture))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None) -> ChainSupernet:
        """Shared weights of every architecture, freshly initialised."""
        if not self.spec.elastic:
            return super().supernet(seed)  # type: ignore[return-value]  # raises, saying what to do
        supernet = allocate(lambda: ChainSupernet(self))
        initialise(supernet, seed)
        return supernet

    def largest_layers(self) -> tuple[Layer, ...]:
        """Every path that any architecture has, with the largest value of every size that occurs there."""
        largest: dict[str, Layer] = {}
        for layer in (layer for layers in self._layers() for layer in layers if layer is not None):
            known = largest.get(layer.path, layer)
            largest[layer.path] = dataclasses.replace(layer, spec=_largest(known.spec, layer.spec))
        return tuple(largest.values())

    def candidates(self) -> tuple[Candidate, ...]:
        """Every layer that a single gene's value makes of a slot, the other genes at their defaults."""
        return tuple(found for slot in self.slots for found in self._candidates(slot))

    def _candidates(self, slot: Slot) -> Iterator[Candidate]:
        genes = [name for name in slot.genes if name not in self.constants]
        made = [
            (gene, value, slot.build({**self.constants, **choices}))
            for gene, value, choices in variations(self.table, genes)
        ]
        channels = next((layer.spec.in_channels for _, _, layer in made if layer is not None), 0)
        for gene, value, layer in made:
            # A gene of several slots may matter in one of them alone: whole networks tell about its values.
            own = gene.name.startswith(slot.name)
            choice = own and gene.kind == "categorical"
            if layer is None and not (choice and channels):
                continue  # too shallow for this slot
            width = channels if layer is None else layer.spec.in_channels
            yield Candidate(
                place=gene.name if own else slot.name,
                label=str(value) if choice else f"{gene.name.rpartition('.')[2]}={value}",
                choice=choice,
                shape=(width, slot.side, slot.side),
                build=builder(nn.Identity if layer is None else functools.partial(layer.brick.module, layer.spec)),
                means="identity" if layer is None else "work",
                key=(None if layer is None else (layer.brick, layer.spec), width, slot.side),
            )

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        return (image_batch(self.spec, batch),)


class ChainSupernet(Supernet):
    """The supernet of a chain space: same module paths as its networks, every layer as large as any choice needs."""

    def __init__(self, space: ChainSpace) -> None:
        super().__init__()
        self.space = space
        layers = space.largest_layers()
        modules = [(layer.path, layer.brick.elastic(layer.spec)) for layer in layers if layer.brick.elastic]
        assert len(modules) == len(layers), f"space {space.name!r} calls itself elastic but has a layer that is not"
        for name, module in assemble(modules).named_children():
            self.add_module(name, module)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        for layer in self.space.plan(architecture):
            x = self.get_submodule(layer.path)(x, layer.spec)
        return x

    def blank_network(self, architecture: Architecture) -> nn.Module:
        """The standalone network of `architecture`, allocated but not filled."""
        return blank_chain(self.space.plan(architecture))


@functools.lru_cache(maxsize=32)
def resized(spec: ChainDescription, resolution: int | None, *, name: str, preset: str) -> ChainSpace:
    """The space of `spec` at another resolution (None = its own); asked again, the same space with its tables."""
    if resolution is not None:
        spec = dataclasses.replace(cast(Any, spec), resolution=resolution)
    return ChainSpace(spec, name=name, preset=preset)


def blank_chain(layers: Sequence[Layer]) -> nn.Module:
    """The network of `layers`, allocated but not filled."""
    return allocate(lambda: assemble((layer.path, layer.brick.module(layer.spec)) for layer in layers))


def image_batch(spec: ImageDescription, batch: int) -> TorchTensor:
    """[batch, in_channels, resolution, resolution] standard normal, always the same."""
    shape = (batch, spec.in_channels, spec.resolution, spec.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def check_image(spec: ImageDescription, family: str, stride: int) -> None:
    """Refuse sizes that are no positive integers, and an image smaller than the total `stride`."""
    for name in ("in_channels", "resolution", "classes"):
        value = getattr(spec, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SpaceError(f"{family}: {name} is {value!r}; it must be an integer of at least 1.")
    if spec.resolution < stride:
        raise SpaceError(
            f"{family}: resolution {spec.resolution} is too small for a total stride of {stride}; "
            f"use at least {stride}."
        )


def block_genes(
    path: str, depths: Sequence[int], make: Callable[[str, tuple[When, ...]], tuple[Gene, ...]]
) -> list[Gene]:
    """A stage's depth gene, and for every block that may exist the genes that `make(block path, condition)` returns."""
    genes = [Gene(f"{path}.depth", tuple(depths), kind="ordered", default=len(depths) - 1)]
    for block in range(max(depths)):
        deep = tuple(depth for depth in depths if depth > block)
        when = (When(f"{path}.depth", deep),) if len(deep) < len(depths) else ()
        genes += make(f"{path}.{block}", when)
    return genes


def whole(choices: Choices, name: str) -> int:
    """The value of an integer gene."""
    value = choices[name]
    assert isinstance(value, int)
    return value


def number(choices: Choices, name: str) -> float:
    """The value of a numeric gene."""
    value = choices[name]
    assert isinstance(value, int | float)
    return value


def _image(spec: ImageDescription) -> Tensor:
    return Tensor("image", (spec.in_channels, spec.resolution, spec.resolution))


def _restore(spec: ChainDescription, name: str, preset: str) -> ChainSpace:
    return ChainSpace(spec, name=name, preset=preset)


def _split(genes: Sequence[Gene]) -> tuple[tuple[Gene, ...], dict[str, Value]]:
    """The genes with a choice, and the values of the others by name."""
    constants = {gene.name: gene.values[0] for gene in genes if gene.cardinality == 1}
    kept = []
    for gene in genes:
        if gene.cardinality > 1:
            when = tuple(condition for condition in gene.when if condition.gene not in constants)
            kept.append(dataclasses.replace(gene, when=when))
    return tuple(kept), constants


def _largest(a: Any, b: Any) -> Any:
    """The specification with the larger of both values in every size."""
    sizes = {
        field.name: max(getattr(a, field.name), getattr(b, field.name))
        for field in dataclasses.fields(a)
        if isinstance(getattr(a, field.name), int)
    }
    return dataclasses.replace(a, **sizes)
