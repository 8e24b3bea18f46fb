"""The staged space: stem, stages of inverted residuals in all their forms, head, from one description.

A `StagedSpec` says what varies. `staged_genes` turns it into genes and knobs, `staged_plan` turns choices into layer
specs, and the network, its Ops, its sites, its keys and the supernet are all made from those specs.

Source: the common macro-architecture of MobileNetV2 (https://arxiv.org/abs/1801.04381), MnasNet
(https://arxiv.org/abs/1807.11626), FBNet (https://arxiv.org/abs/1812.03443), EfficientNet
(https://arxiv.org/abs/1905.11946), Once-for-All (https://arxiv.org/abs/1908.09791) and MobileNetV4
(https://arxiv.org/abs/2404.10518); each family's module has its own.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..architecture import Architecture, Value
from ..candidate import Candidate, variations
from ..gene import Population
from ..layers.conv_norm import conv_norm_ops
from ..layers.head import head_ops
from ..layers.inverted_bottleneck import InvertedBottleneckSpec
from ..layers.materialise import allocate, builder, initialise
from ..op import Op, Tensor
from ..site import Site
from ..space import SearchSpace
from .mixed_blocks import BlockSlot, MixedBlocks
from .staged_genes import Knob, Slot, lay_out
from .staged_network import LargestPlan, StagedNetwork, StagedSupernet, make_block
from .staged_plan import BlockSpec, Planner, StagedPlan, block_ops, kind_of, largest_of
from .staged_spec import StagedSpec

__all__ = ["StagedSpace"]

Choices = Mapping[str, Value]


class StagedSpace(SearchSpace):
    """All networks of one `StagedSpec`.

    Args:
        spec: what may vary and what is fixed.
        name: of the family.
        preset: the name `spec` goes by, "" if none.

    >>> from archsmith.spaces.families.ofa_mobilenetv3 import PRESETS
    >>> StagedSpace(PRESETS["w1.0"], name="ofa_mobilenetv3").size == 25 * (9**2 + 9**3 + 9**4) ** 5
    True
    """

    def __init__(self, spec: StagedSpec, *, name: str, preset: str = "") -> None:
        self.spec = spec
        self.layout = lay_out(spec)
        self.planner = Planner(spec, self.layout)
        sides = spec.resolutions
        resolution: Value = sides if len(sides) > 1 else max(sides)
        options: dict[str, Value] = {
            "in_channels": spec.in_channels,
            "resolution": resolution,
            "classes": spec.classes,
        }
        super().__init__(self.layout.genes, name=name, preset=preset, options=options)

    def __reduce__(self) -> tuple[Callable[..., StagedSpace], tuple[StagedSpec, str, str]]:
        """Travel to other processes as the spec alone: compiled tables are rebuilt there."""
        return _restore, (self.spec, self.name, self.preset)

    def description(self) -> dict[str, object]:
        """JSON-able description; all that the spec sets is part of the identity."""
        return super().description() | {"spec": _settings(self.spec)}

    @property
    def resizes(self) -> bool:
        """Whether the resolution is a choice; networks then resize their input to it."""
        return len(self.spec.resolutions) > 1

    # --- from an architecture to layers ---------------------------------------------------------------------------

    def plan(self, architecture: Architecture) -> StagedPlan:
        """The specs of the layers of `architecture`."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        return self.planner.plan(architecture.choices)

    def largest_plan(self) -> LargestPlan:
        """For every slot and kind of block the spec that all choices fit into."""
        planner, layout = self.planner, self.layout
        last = len(layout.slots) - 1
        return LargestPlan(
            stem=largest_of([planner.stem(choices) for choices in self._combinations((layout.width_multiplier,))]),
            stages=tuple(tuple(self._kinds(slot) for slot in slots) for slots in layout.slots),
            head=largest_of([planner.head(choices) for choices in self._combinations(self._head_knobs(last))]),
        )

    def kernels(self, slot: Slot) -> tuple[int, ...]:
        """Sides of the depthwise windows that a slot may have, ascending."""
        specs = [self.planner.block(choices, slot) for choices in self._combinations(self._block_knobs(slot))]
        found = {spec.kernel for spec in specs if isinstance(spec, InvertedBottleneckSpec) and not spec.fused}
        return tuple(sorted(found - {0}))

    def _kinds(self, slot: Slot) -> dict[str, BlockSpec]:
        """The kinds of block that a slot may hold, each as large as any choice needs."""
        found: dict[str, list[BlockSpec]] = {}
        for choices in self._combinations(self._block_knobs(slot)):
            spec = self.planner.block(choices, slot)
            if spec is not None:
                found.setdefault(kind_of(spec), []).append(spec)
        return {kind: largest_of(specs) for kind, specs in sorted(found.items())}  # type: ignore[misc]  # one kind each

    @functools.cached_property
    def _branched(self) -> tuple[tuple[bool, ...], ...]:
        return tuple(tuple(len(self._kinds(slot)) > 1 for slot in slots) for slots in self.layout.slots)

    def _combinations(self, knobs: Sequence[Knob]) -> Iterator[Choices]:
        """All joint values of the genes behind `knobs`."""
        genes = [self.genes[position] for position in self._positions(knobs)]
        for values in itertools.product(*(gene.values for gene in genes)):
            yield {gene.name: value for gene, value in zip(genes, values, strict=True)}

    def _positions(self, knobs: Sequence[Knob]) -> tuple[int, ...]:
        return tuple(sorted({self.table.find(knob.gene) for knob in knobs if knob.gene}))

    def _block_knobs(self, slot: Slot) -> tuple[Knob, ...]:
        layout = self.layout
        widths = layout.widths[max(slot.stage - 1, 0) if not slot.index else slot.stage : slot.stage + 1]
        return (*widths, *slot.knobs, layout.width_multiplier)

    def _head_knobs(self, last: int) -> tuple[Knob, ...]:
        return self.layout.widths[last], self.layout.width_multiplier

    # --- mixtures -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def choice_places(self) -> MixedBlocks | None:
        """One place per block that has a choice, where every gene belongs to one block; else None."""
        stages = [[self._block_slot(slot) for slot in slots] for slots in self.layout.slots]
        return MixedBlocks.of(self.name, self.table, stages)

    def _block_slot(self, slot: Slot) -> BlockSlot:
        def build(choices: Choices) -> BlockSpec | None:
            return self.planner.block(choices, slot)

        return BlockSlot(f"stages.{slot.stage}.{slot.index}", self._positions(slot.knobs), build)

    # --- costs and keys -------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        plan = self.plan(architecture)
        ops = conv_norm_ops("stem", self._image(plan.resolution), plan.stem)
        for stage, blocks in enumerate(plan.stages):
            for index, block in enumerate(blocks):
                if block is not None:
                    ops += block_ops(self._path(stage, index, block), ops[-1].output, block)
        return ops + head_ops("head", ops[-1].output, plan.head)

    def _image(self, resolution: int) -> Tensor:
        return Tensor("image", (self.spec.in_channels, resolution, resolution))

    def _path(self, stage: int, index: int, block: BlockSpec) -> str:
        path = f"stages.{stage}.{index}"
        return f"{path}.{kind_of(block)}" if self._branched[stage][index] else path

    def sites(self) -> tuple[Site, ...]:
        """Stem, every block that may exist, and head; named by their module paths."""
        layout, planner, last = self.layout, self.planner, len(self.layout.slots) - 1

        def stem(choices: Choices) -> tuple[Op, ...]:
            return conv_norm_ops("stem", self._image(layout.resolution.integer(choices)), planner.stem(choices))

        def head(choices: Choices) -> tuple[Op, ...]:
            side = self.spec.side(layout.resolution.integer(choices), last, 1)
            spec = planner.head(choices)
            return head_ops("head", Tensor("head.input", (spec.in_channels, side, side)), spec)

        return (
            self._site("stem", (layout.width_multiplier,), stem),
            *(self._block_site(slot) for slots in layout.slots for slot in slots),
            self._site("head", self._head_knobs(last), head),
        )

    def _block_site(self, slot: Slot) -> Site:
        layout, name = self.layout, f"stages.{slot.stage}.{slot.index}"

        def build(choices: Choices) -> tuple[Op, ...]:
            spec = self._spec_at(slot, choices)
            if spec is None:
                return ()
            side = self.spec.side(layout.resolution.integer(choices), slot.stage, slot.index)
            x = Tensor(f"{name}.input", (spec.in_channels, side, side))
            return block_ops(self._path(slot.stage, slot.index, spec), x, spec)

        return self._site(name, (*self._depth_knobs(slot), *self._block_knobs(slot)), build)

    def _depth_knobs(self, slot: Slot) -> tuple[Knob, ...]:
        """The knobs that decide whether the slot is used, () where it always is."""
        stage = self.spec.stages[slot.stage]
        if slot.index < min(stage.depths) * min(self.spec.depth_multipliers):
            return ()
        return self.layout.depths[slot.stage], self.layout.depth_multiplier

    def _spec_at(self, slot: Slot, choices: Choices) -> BlockSpec | None:
        """The block in a slot, None where there is none; reads depth only where it matters."""
        if self._depth_knobs(slot) and self.planner.depth(choices, slot.stage) <= slot.index:
            return None
        return self.planner.block(choices, slot)

    def _site(self, name: str, knobs: tuple[Knob, ...], build: Callable[[Choices], tuple[Op, ...]]) -> Site:
        """A site whose `build` reads values by gene name; all depend on the resolution."""
        positions = self._positions((*knobs, self.layout.resolution))
        genes = [self.genes[position] for position in positions]

        def indexed(choices: tuple[int, ...]) -> tuple[Op, ...]:
            return build({gene.name: gene.values[choice] for gene, choice in zip(genes, choices, strict=True)})

        return Site(name, positions, indexed)

    def key_form(self, genomes: Population) -> NDArray[np.integer]:
        """[B, S] the number of the layer that stands at every site, at its resolution.

        Two genomes with equal numbers build the same network from the same shared weights: choices that round to the
        same sizes, and recipes, are merged.
        """
        return self._layer_numbers[self.site_index.index(genomes)]

    @functools.cached_property
    def _layer_numbers(self) -> NDArray[np.int16]:
        """[T] for every configuration of every site, the number of its layer: the first configuration that has it."""
        index = self.site_index
        slots = {f"stages.{slot.stage}.{slot.index}": slot for slots in self.layout.slots for slot in slots}
        numbers = np.empty(index.size, dtype=np.int16)
        for position, site in enumerate(index.sites):
            genes = [self.genes[gene] for gene in site.genes]
            seen: dict[object, int] = {}
            for row, values in enumerate(itertools.product(*(gene.values for gene in genes))):
                choices = {gene.name: value for gene, value in zip(genes, values, strict=True)}
                layer = self._layer(site.name, slots.get(site.name), choices)
                numbers[index.offsets[position] + row] = seen.setdefault(layer, len(seen))
        return numbers

    def _layer(self, name: str, slot: Slot | None, choices: Choices) -> object:
        """What tells the layers of one site apart."""
        if slot is not None:
            # The image's side is told apart at the stem; here it would only split equal layers.
            return self._spec_at(slot, choices)
        if name == "stem":
            return self.planner.stem(choices), self.layout.resolution.integer(choices)
        return self.planner.head(choices)

    # --- networks -------------------------------------------------------------------------------------------------

    def blank(self, architecture: Architecture) -> StagedNetwork:
        """The standalone network of `architecture`, on torch's current device, initialised as torch does."""
        return StagedNetwork(self.plan(architecture), self._branched, resizes=self.resizes)

    def network(self, architecture: Architecture, seed: int | None = None) -> StagedNetwork:
        """A freshly initialised network."""
        network = allocate(lambda: self.blank(architecture))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None, *, transform_kernels: bool = False) -> StagedSupernet:
        """Shared weights of every architecture, freshly initialised.

        Args:
            seed: makes the initialisation repeatable.
            transform_kernels: give every depthwise convolution a learned map from each kernel size to the next smaller
                one, as Once-for-All does; else a smaller kernel is the centre of the larger.
        """
        supernet = allocate(lambda: StagedSupernet(self, transform_kernels=transform_kernels))
        initialise(supernet, seed)
        return supernet

    def candidates(self) -> tuple[Candidate, ...]:
        """Every block that a single gene's value makes of a place, the other genes at their defaults."""
        return tuple(found for slots in self.layout.slots for slot in slots for found in self._candidates(slot))

    def _candidates(self, slot: Slot) -> Iterator[Candidate]:
        path, genes = f"stages.{slot.stage}.{slot.index}", [knob.gene for knob in slot.knobs if knob.gene]
        side = self.spec.side(max(self.spec.resolutions), slot.stage, slot.index)
        for gene, value, choices in variations(self.table, genes):
            spec, own = self.planner.block(choices, slot), gene.name.startswith(f"{path}.")
            # A gene of several blocks may matter in one of them alone: whole networks tell about its values.
            choice = own and gene.kind == "categorical"
            width = self.planner.width(choices, slot.stage) if spec is None else spec.in_channels
            yield Candidate(
                place=gene.name if own else path,
                label=str(value) if choice else f"{gene.name.rpartition('.')[2]}={value}",
                choice=choice,
                shape=(width, side, side),
                build=builder(functools.partial(make_block, spec)),
                means="identity" if spec is None else "work",
                key=(spec, width, side),
            )

    def example_inputs(self, batch: int) -> tuple[torch.Tensor, ...]:
        """One image batch [batch, in_channels, side, side] of the largest side, standard normal, always the same."""
        side = max(self.spec.resolutions)
        shape = (batch, self.spec.in_channels, side, side)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


def _settings(value: object) -> object:
    """A spec as JSON-able settings without defaults, so that an identity outlives new fields."""
    if isinstance(value, tuple):
        return [_settings(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {field.name: _settings(found) for field, found in pairs if found != field.default}


def _restore(spec: StagedSpec, name: str, preset: str) -> StagedSpace:
    return StagedSpace(spec, name=name, preset=preset)
