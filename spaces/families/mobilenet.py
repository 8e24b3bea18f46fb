"""The elastic inverted-bottleneck family: depth and width per stage, kernel and expansion per block.

One description drives everything: `MobileNetSpace.plan` turns an architecture into the specs of its layers, and the
network, its Ops, its sites and the supernet are all made from those specs.

Source: Cai et al., Once-for-All, ICLR 2020, https://arxiv.org/abs/1908.09791 (its MobileNetV3 space; here the widths
are genes too, and resolution, activation and squeeze-excite are fixed by the preset).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor as TorchTensor
from torch import nn

from ..architecture import Architecture, Value
from ..candidate import Candidate, variations
from ..elastic.blocks import ElasticConvNorm, ElasticHead, ElasticInvertedBottleneck
from ..elastic.mixture import Mixture
from ..elastic.superkernel import Superkernel
from ..elastic.supernet import Supernet
from ..gene import Gene, When
from ..layers.channels import make_divisible
from ..layers.conv_norm import ConvNorm, ConvNormSpec, conv_norm_ops
from ..layers.head import Head, HeadSpec, head_ops
from ..layers.inverted_bottleneck import InvertedBottleneck, InvertedBottleneckSpec, inverted_bottleneck_ops
from ..layers.materialise import allocate, builder, initialise
from ..op import Op, Tensor
from ..site import Site
from ..space import SearchSpace
from .mixed_blocks import BlockSlot, MixedBlocks
from .mobilenet_spec import PRESETS, MobileNetSpec, StageSpec

__all__ = ["PRESETS", "MobileNet", "MobileNetPlan", "MobileNetSpace", "MobileNetSpec", "MobileNetSupernet", "StageSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileNetPlan:
    """One architecture as the specs of its layers."""

    stem: ConvNormSpec
    stages: tuple[tuple[InvertedBottleneckSpec, ...], ...]
    head: HeadSpec


class MobileNet(nn.Module):
    """The standalone network of a plan: `stem`, `stages.<stage>.<block>`, `head`."""

    def __init__(self, plan: MobileNetPlan) -> None:
        super().__init__()
        self.stem = ConvNorm(plan.stem)
        self.stages = nn.ModuleList(
            nn.Sequential(*(InvertedBottleneck(block) for block in stage)) for stage in plan.stages
        )
        self.head = Head(plan.head)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


class MobileNetSupernet(Supernet):
    """The family's supernet: same module paths as `MobileNet`, every layer as large as any choice needs."""

    def __init__(self, space: MobileNetSpace) -> None:
        super().__init__()
        self.space = space
        largest = space.largest_plan()
        self.stem = ElasticConvNorm(largest.stem)
        self.stages = nn.ModuleList(
            nn.ModuleList(ElasticInvertedBottleneck(block) for block in stage) for stage in largest.stages
        )
        self.head = ElasticHead(largest.head)

    def forward(self, x: TorchTensor, architecture: Architecture | Mixture) -> TorchTensor:
        """[N, in_channels, H, W] -> [N, classes] logits."""
        if isinstance(architecture, Mixture):
            return self._mix(x, architecture)
        plan = self.space.plan(architecture)
        x = self.stem(x, plan.stem)
        for blocks, specs in zip(self.stages, plan.stages, strict=True):
            for block, spec in zip(cast(nn.ModuleList, blocks), specs, strict=False):  # depth: the first blocks run
                x = block(x, spec)
        return self.head(x, plan.head)

    def _mix(self, x: TorchTensor, mixture: Mixture) -> TorchTensor:
        largest = self.space.largest_plan()  # all but the blocks is fixed where there are mixtures
        return self.head(self._blocks().run(self.stages, self.stem(x, largest.stem), mixture), largest.head)

    def superkernels(self) -> dict[str, tuple[Superkernel, ElasticInvertedBottleneck]]:
        """By mixed place, its superkernel and the block with its weights; places without one are left out."""
        return self._blocks().superkernels(self.stages)

    def _blocks(self) -> MixedBlocks:
        if self.space.choice_places is None:
            raise self.space.no_mixtures()
        return self.space.choice_places

    def blank_network(self, architecture: Architecture) -> MobileNet:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: MobileNet(self.space.plan(architecture)))


class MobileNetSpace(SearchSpace):
    """All networks of one `MobileNetSpec`.

    Args:
        spec: what may vary and what is fixed.
        preset: the name `spec` goes by, "" if none.

    >>> space = MobileNetSpace(PRESETS["tiny"], preset="tiny")
    >>> space.size
    2400
    """

    def __init__(self, spec: MobileNetSpec, *, preset: str = "") -> None:
        self.spec = spec
        options = {"in_channels": spec.in_channels, "resolution": spec.resolution, "classes": spec.classes}
        super().__init__(_genes(spec), name="mobilenet", preset=preset, options=options)

    def __reduce__(self) -> tuple[Callable[..., MobileNetSpace], tuple[MobileNetSpec, str]]:
        """Travel to other processes as the spec alone: compiled tables are rebuilt there."""
        return _restore, (self.spec, self.preset)

    def description(self) -> dict[str, object]:
        """JSON-able description; the whole spec is part of the identity."""
        return super().description() | {"spec": dataclasses.asdict(self.spec)}

    # --- from an architecture to layers ---------------------------------------------------------------------------

    def plan(self, architecture: Architecture) -> MobileNetPlan:
        """The specs of the layers of `architecture`."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        choices = architecture.choices
        return MobileNetPlan(
            stem=self._stem(),
            stages=tuple(
                tuple(self._block(choices, stage, block) for block in range(_int(choices, f"stages.{stage}.depth")))
                for stage in range(len(self.spec.stages))
            ),
            head=self._head(choices),
        )

    def largest_plan(self) -> MobileNetPlan:
        """The specs of the largest layers; every choice fits into them."""
        return self.plan(self.decode(self.largest()))

    def _stem(self) -> ConvNormSpec:
        return ConvNormSpec(
            in_channels=self.spec.in_channels,
            out_channels=self.spec.stem_channels,
            kernel=3,
            stride=self.spec.stem_stride,
            activation=self.spec.stages[0].activation,
        )

    def _block(self, choices: Mapping[str, Value], stage: int, block: int) -> InvertedBottleneckSpec:
        fixed, divisor = self.spec.stages[stage], self.spec.divisor
        width = _int(choices, f"stages.{stage}.width")
        channels = width if block else self._entry(choices, stage)
        hidden = make_divisible(channels * cast(float, choices[f"stages.{stage}.{block}.expansion"]), divisor)
        return InvertedBottleneckSpec(
            in_channels=channels,
            hidden=hidden,
            out_channels=width,
            kernel=_int(choices, f"stages.{stage}.{block}.kernel"),
            stride=1 if block else fixed.stride,
            activation=fixed.activation,
            squeezed=make_divisible(hidden / 4, divisor) if fixed.squeeze else 0,
        )

    def _entry(self, choices: Mapping[str, Value], stage: int) -> int:
        return _int(choices, f"stages.{stage - 1}.width") if stage else self.spec.stem_channels

    def _head(self, choices: Mapping[str, Value]) -> HeadSpec:
        return HeadSpec(
            in_channels=_int(choices, f"stages.{len(self.spec.stages) - 1}.width"),
            channels=self.spec.head_channels,
            classes=self.spec.classes,
            activation=self.spec.stages[-1].activation,
        )

    # --- mixtures -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def choice_places(self) -> MixedBlocks | None:
        """One place per block that has a choice, where depths and widths are fixed; else None."""
        stages = enumerate(self.spec.stages)
        slots = [[self._block_slot(stage, block) for block in range(max(fixed.depths))] for stage, fixed in stages]
        return MixedBlocks.of(self.name, self.table, slots)

    def _block_slot(self, stage: int, block: int) -> BlockSlot:
        name = f"stages.{stage}.{block}"

        def build(choices: Mapping[str, Value]) -> InvertedBottleneckSpec:
            return self._block(choices, stage, block)

        return BlockSlot(name, tuple(self.table.find(f"{name}.{what}") for what in ("kernel", "expansion")), build)

    # --- costs ----------------------------------------------------------------------------------------------------

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        plan, side = self.plan(architecture), self.spec.resolution
        ops = conv_norm_ops("stem", Tensor("image", (self.spec.in_channels, side, side)), plan.stem)
        for stage, blocks in enumerate(plan.stages):
            for index, block in enumerate(blocks):
                ops += inverted_bottleneck_ops(f"stages.{stage}.{index}", ops[-1].output, block)
        return ops + head_ops("head", ops[-1].output, plan.head)

    def sites(self) -> tuple[Site, ...]:
        """Stem, every block that may exist, and head; named by their module paths."""
        stages = range(len(self.spec.stages))
        blocks = [
            self._block_site(stage, block) for stage in stages for block in range(max(self.spec.stages[stage].depths))
        ]
        side = self.spec.resolution
        image = Tensor("image", (self.spec.in_channels, side, side))
        last = len(stages) - 1
        out = self.spec.resolutions(last)[1]

        def head(choices: Mapping[str, Value]) -> tuple[Op, ...]:
            spec = self._head(choices)
            return head_ops("head", Tensor("head.input", (spec.in_channels, out, out)), spec)

        return (
            self._site("stem", (), lambda _: conv_norm_ops("stem", image, self._stem())),
            *blocks,
            self._site("head", (f"stages.{last}.width",), head),
        )

    def _block_site(self, stage: int, block: int) -> Site:
        name = f"stages.{stage}.{block}"
        entry = (f"stages.{stage - 1}.width",) if stage and not block else ()
        depth = (f"stages.{stage}.depth",) if block >= min(self.spec.stages[stage].depths) else ()
        side = self.spec.resolutions(stage)[bool(block)]

        def build(choices: Mapping[str, Value]) -> tuple[Op, ...]:
            if depth and _int(choices, depth[0]) <= block:
                return ()
            spec = self._block(choices, stage, block)
            return inverted_bottleneck_ops(name, Tensor(f"{name}.input", (spec.in_channels, side, side)), spec)

        genes = (*entry, *depth, f"stages.{stage}.width", f"{name}.kernel", f"{name}.expansion")
        return self._site(name, genes, build)

    def _site(self, name: str, names: tuple[str, ...], build: Callable[[Mapping[str, Value]], tuple[Op, ...]]) -> Site:
        """A site whose `build` reads values by gene name."""
        positions = tuple(self.table.find(gene) for gene in names)
        genes = [self.genes[position] for position in positions]

        def indexed(choices: tuple[int, ...]) -> tuple[Op, ...]:
            return build({gene.name: gene.values[choice] for gene, choice in zip(genes, choices, strict=True)})

        return Site(name, positions, indexed)

    # --- networks -------------------------------------------------------------------------------------------------

    def network(
        self, architecture: Architecture, seed: int | None = None, *, zero_init_residual: bool = False
    ) -> MobileNet:
        """A freshly initialised network; residual blocks start as the identity if `zero_init_residual`."""
        network = allocate(lambda: MobileNet(self.plan(architecture)))
        initialise(network, seed)
        if zero_init_residual:
            _zero_residuals(network, self.plan(architecture))
        return network

    def supernet(self, seed: int | None = None, *, zero_init_residual: bool = False) -> MobileNetSupernet:
        """Shared weights of every architecture, freshly initialised."""
        supernet = allocate(lambda: MobileNetSupernet(self))
        initialise(supernet, seed)
        if zero_init_residual:
            _zero_residuals(supernet, self.largest_plan())
        return supernet

    def candidates(self) -> tuple[Candidate, ...]:
        """Every block that a single value of its kernel or expansion makes, the other genes at their defaults."""
        stages = enumerate(self.spec.stages)
        places = [(stage, block) for stage, fixed in stages for block in range(max(fixed.depths))]
        return tuple(found for stage, block in places for found in self._candidates(stage, block))

    def _candidates(self, stage: int, block: int) -> Iterator[Candidate]:
        path, side = f"stages.{stage}.{block}", self.spec.resolutions(stage)[bool(block)]
        for gene, value, choices in variations(self.table, [f"{path}.kernel", f"{path}.expansion"]):
            spec = self._block(choices, stage, block)
            yield Candidate(
                place=gene.name,
                label=f"{gene.name.rpartition('.')[2]}={value}",
                choice=False,
                shape=(spec.in_channels, side, side),
                build=builder(functools.partial(InvertedBottleneck, spec)),
                means="work",
                key=(spec, side),
            )

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, in_channels, resolution, resolution], standard normal, always the same."""
        shape = (batch, self.spec.in_channels, self.spec.resolution, self.spec.resolution)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


def _restore(spec: MobileNetSpec, preset: str) -> MobileNetSpace:
    return MobileNetSpace(spec, preset=preset)


def _genes(spec: MobileNetSpec) -> tuple[Gene, ...]:
    genes: list[Gene] = []
    for index, stage in enumerate(spec.stages):
        path = f"stages.{index}"
        genes.append(Gene(f"{path}.depth", stage.depths, kind="ordered", default=len(stage.depths) - 1))
        genes.append(Gene(f"{path}.width", stage.widths, kind="ordered", default=len(stage.widths) - 1))
        for block in range(max(stage.depths)):
            deep = tuple(depth for depth in stage.depths if depth > block)
            when = (When(f"{path}.depth", deep),) if len(deep) < len(stage.depths) else ()
            genes.append(Gene(f"{path}.{block}.kernel", stage.kernels, kind="ordered", when=when))
            genes.append(Gene(f"{path}.{block}.expansion", stage.expansions, kind="ordered", when=when))
    return tuple(genes)


def _int(choices: Mapping[str, Value], name: str) -> int:
    value = choices[name]
    assert isinstance(value, int)
    return value


@torch.no_grad()
def _zero_residuals(module: MobileNet | MobileNetSupernet, plan: MobileNetPlan) -> None:
    """Set the last batch norm's weight to 0 in every block of `plan` that adds its input."""
    for (stage, specs), index in itertools.product(enumerate(plan.stages), range(max(map(len, plan.stages)))):
        if index < len(specs) and specs[index].residual:
            norm = module.get_submodule(f"stages.{stage}.{index}.project.norm")
            assert isinstance(norm, nn.BatchNorm2d)
            norm.weight.zero_()
