"""Mixtures in networks that are rows of blocks: every slot's choices, as specs that its elastic block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

import numpy as np
from torch import Tensor, nn

from ...errors import SpaceError
from ..architecture import Value
from ..elastic.blocks import ElasticInvertedBottleneck
from ..elastic.mixture import MixedPlace, Mixture, Term, combined
from ..elastic.superkernel import Superkernel
from ..gene import Gene, GeneTable
from .gene_places import GenePlace, GenePlaces, covers, joint_choices
from .staged_plan import BlockSpec, kind_of

__all__ = ["BlockSlot", "MixedBlocks", "run_block"]

_SHORT: Final = MappingProxyType({"kernel": "k", "expansion": "e", "squeeze": "se"})


@dataclass(frozen=True, slots=True)
class BlockSlot:
    """A place for a block.

    Attributes:
        name: module path.
        genes: positions of the genes of this block itself.
        build: values by gene name -> what the block computes; None = the identity.
    """

    name: str
    genes: tuple[int, ...]
    build: Callable[[Mapping[str, Value]], BlockSpec | None]


@dataclass(frozen=True, slots=True)
class _Mixed:
    """A slot with all its choices; `place` is None where there is but one."""

    place: GenePlace | None
    specs: tuple[BlockSpec | None, ...]
    superkernel: Superkernel | None


def run_block(block: nn.Module, x: Tensor, spec: BlockSpec | None) -> Tensor:
    """[N, C, H, W] -> [N, C', H', W'] by the elastic block of `spec`, which a slot holds by kind if it has several."""
    if spec is None:
        return x
    return (block[kind_of(spec)] if isinstance(block, nn.ModuleDict) else block)(x, spec)


class MixedBlocks(GenePlaces):
    """The slots of a space in which every gene belongs to one block.

    Args:
        space: its name, for messages.
        table: its genes.
        stages: slots, by stage.
    """

    def __init__(self, space: str, table: GeneTable, stages: Iterable[Iterable[BlockSlot]]) -> None:
        self.stages = tuple(tuple(_mixed(table, slot) for slot in slots) for slots in stages)
        super().__init__(
            space, table, [slot.place for slots in self.stages for slot in slots if slot.place is not None]
        )

    @classmethod
    def of(cls, space: str, table: GeneTable, stages: Sequence[Sequence[BlockSlot]]) -> MixedBlocks | None:
        """The mixed blocks of a space, None where a gene belongs to several blocks or to none."""
        groups = [slot.genes for slots in stages for slot in slots]
        return cls(space, table, stages) if covers(table, groups) else None

    def run(self, stages: nn.ModuleList, x: Tensor, mixture: Mixture) -> Tensor:
        """[N, C, H, W] -> [N, C', H', W'] by all elastic blocks, held by stage.

        Raises:
            SpaceError: the mixture does not fit, leaves a place empty, or blends what is no superkernel.
        """
        terms = mixture.terms(self.places)
        for blocks, slots in zip(stages, self.stages, strict=True):
            for block, slot in zip(cast(nn.ModuleList, blocks), slots, strict=True):
                if slot.place is None:
                    x = run_block(block, x, slot.specs[0])
                elif mixture.blended:
                    x = _blended(block, x, slot, mixture)
                else:
                    x = _summed(block, x, slot, terms[slot.place.place.name])
        return x

    def superkernels(self, stages: nn.ModuleList) -> dict[str, tuple[Superkernel, ElasticInvertedBottleneck]]:
        """By place, its superkernel and the block that holds its weights; places that have none are left out."""
        found = {}
        for blocks, slots in zip(stages, self.stages, strict=True):
            for block, slot in zip(cast(nn.ModuleList, blocks), slots, strict=True):
                if slot.place is not None and slot.superkernel is not None:
                    found[slot.place.place.name] = slot.superkernel, cast(ElasticInvertedBottleneck, block)
        return found


def _summed(block: nn.Module, x: Tensor, slot: _Mixed, terms: Sequence[Term]) -> Tensor:
    total = combined(terms, lambda index: run_block(block, x, slot.specs[index]))
    if total is None:
        assert slot.place is not None
        raise SpaceError(
            f"mixture: nothing runs at place {slot.place.place.name!r}, as all its weights are 0; give one of "
            f"{list(slot.place.place.choices)} a weight."
        )
    return total


def _blended(block: nn.Module, x: Tensor, slot: _Mixed, mixture: Mixture) -> Tensor:
    assert slot.place is not None
    place = slot.place.place
    if slot.superkernel is None:
        raise SpaceError(
            f"mixture: the choices {list(place.choices)} of place {place.name!r} cannot be blended, because they "
            "differ in more than kernel and expansion; use a mixture that sums outputs."
        )
    shares = slot.superkernel.shares(mixture.weights[place.name])
    return slot.superkernel.run(cast(ElasticInvertedBottleneck, block), x, shares)


def _mixed(table: GeneTable, slot: BlockSlot) -> _Mixed:
    constants = {gene.name: gene.values[0] for gene in table.genes if gene.cardinality == 1}
    genomes = joint_choices(table, slot.genes) if slot.genes else np.zeros((1, len(table.genes)), dtype=np.int16)
    active = table.active(genomes)
    specs, names = [], []
    for genome, used in zip(genomes.tolist(), active.tolist(), strict=True):
        values = {table.names[gene]: table.genes[gene].values[genome[gene]] for gene in slot.genes}
        specs.append(slot.build(constants | values))
        names.append("_".join(_label(table.genes[gene], genome[gene]) for gene in slot.genes if used[gene]))
    if len(specs) == 1:
        return _Mixed(None, tuple(specs), None)
    place = GenePlace(MixedPlace(name=slot.name, choices=tuple(names)), slot.genes, genomes[:, list(slot.genes)])
    return _Mixed(place, tuple(specs), Superkernel.of(specs))


def _label(gene: Gene, index: int) -> str:
    """The value of a gene as part of a choice's name."""
    value, what = gene.values[index], gene.name.rpartition(".")[2]
    if isinstance(value, str):
        return value
    return "skip" if what == "expansion" and not value else f"{_SHORT.get(what, what)}{value}"
