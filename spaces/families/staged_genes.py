"""From a staged spec to its genes, and to the knobs through which every layer reads them.

A knob is a fixed value or the name of a gene. Layers are sized through knobs alone, so the genes a site depends on are
those of its knobs and cannot drift from what its layers read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ...errors import SpaceError
from ..architecture import Value
from ..gene import Gene, When
from .staged_spec import StagedSpec, StageSpec

__all__ = ["Knob", "Layout", "Slot", "lay_out", "with_task"]


@dataclass(frozen=True, slots=True)
class Knob:
    """A fixed value, or where `gene` is not "" the value of that gene."""

    gene: str
    value: Value = 0

    def read(self, choices: Mapping[str, Value]) -> Value:
        """Its value under these choices."""
        return choices[self.gene] if self.gene else self.value

    def integer(self, choices: Mapping[str, Value]) -> int:
        """Its value, which is an integer."""
        value = self.read(choices)
        assert isinstance(value, int)
        return value

    def number(self, choices: Mapping[str, Value]) -> float:
        """Its value, which is a number."""
        value = self.read(choices)
        assert isinstance(value, int | float)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One place for a block: the knobs it is made from."""

    stage: int
    index: int
    form: Knob
    kernel: Knob
    start: Knob
    expansion: Knob
    squeeze: Knob
    shortcut: Knob

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """All knobs of the block itself."""
        return self.form, self.kernel, self.start, self.expansion, self.squeeze, self.shortcut


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All genes and knobs of a staged space, by stage; `fixed` has single values, by the name a gene would have."""

    genes: tuple[Gene, ...]
    fixed: Mapping[str, Value]
    resolution: Knob
    width_multiplier: Knob
    depth_multiplier: Knob
    widths: tuple[Knob, ...]
    depths: tuple[Knob, ...]
    slots: tuple[tuple[Slot, ...], ...]


class _Genes:
    """Genes under construction."""

    def __init__(self) -> None:
        self.genes: dict[str, Gene] = {}
        self.fixed: dict[str, Value] = {}

    def knob(
        self,
        name: str,
        values: Sequence[Value],
        *,
        kind: Literal["categorical", "ordered"] = "ordered",
        when: tuple[When, ...] = (),
        default: int | None = None,
    ) -> Knob:
        """A gene where there are several values; asked for twice, it is the same gene."""
        if len(values) == 1:
            self.fixed[name] = values[0]
            return Knob("", values[0])
        if default is None:
            default = len(values) - 1 if kind == "ordered" else 0
        gene = Gene(name, tuple(values), kind=kind, when=when, default=default)
        if self.genes.setdefault(name, gene) != gene:
            raise SpaceError(f"gene {name!r} is described twice, differently: {self.genes[name]} and {gene}.")
        return Knob(name)


def lay_out(spec: StagedSpec) -> Layout:
    """The genes of a spec, in genome order, and the knobs of all its layers."""
    build = _Genes()
    width_multiplier = build.knob("width", spec.width_multipliers)
    depth_multiplier = build.knob("depth", spec.depth_multipliers)
    widths, depths, slots = [], [], []
    for number, stage in enumerate(spec.stages):
        depths.append(build.knob(f"stages.{number}.depth", stage.depths))
        widths.append(build.knob(f"stages.{number}.width", stage.widths))
        slots.append(tuple(_slot(build, stage, number, index) for index in range(spec.blocks(number))))
    resolution = build.knob("resolution", spec.resolutions)
    for name, values in spec.recipe:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        build.knob(f"recipe.{name}", values, kind="ordered" if numbers else "categorical")
    return Layout(
        genes=_ordered(tuple(build.genes.values()), spec.gene_order),
        fixed=MappingProxyType(build.fixed),
        resolution=resolution,
        width_multiplier=width_multiplier,
        depth_multiplier=depth_multiplier,
        widths=tuple(widths),
        depths=tuple(depths),
        slots=tuple(slots),
    )


def _slot(build: _Genes, stage: StageSpec, number: int, index: int) -> Slot:
    path, when = _place(stage, number, index)
    forms = stage.block_forms(index)
    form = build.knob(f"{path}.form", [form.name for form in forms], kind="categorical", when=when)

    def knob(
        choice: str,
        values: Sequence[Value],
        extra: tuple[When, ...] = (),
        kind: Literal["categorical", "ordered"] = "ordered",
    ) -> Knob:
        """The knob of one choice: active under the forms that take it."""
        taking = tuple(form.name for form in forms if choice in form.takes)
        if not taking:
            return Knob("", values[-1])
        some = (When(form.gene, taking),) if form.gene and len(taking) < len(forms) else ()
        return build.knob(f"{path}.{choice}", values, when=extra + some or when, kind=kind)

    expansions = stage.block_expansions(index)
    expansion = knob("expansion", expansions)
    # Without a block (expansion 0) nothing else of it matters.
    present = tuple(value for value in expansions if value > 0)
    extra: tuple[When, ...] = ()
    if len(present) < len(expansions):
        extra = (When(expansion.gene, present),)
    return Slot(
        stage=number,
        index=index,
        form=form,
        kernel=knob("kernel", stage.kernels, extra),
        start=knob("start", stage.starts),
        expansion=expansion,
        squeeze=knob("squeeze", stage.squeezes, extra),
        shortcut=knob("shortcut", stage.shortcuts, extra, "categorical"),
    )


def _place(stage: StageSpec, number: int, index: int) -> tuple[str, tuple[When, ...]]:
    """Prefix of the names of a block's genes, and when they are active."""
    path = f"stages.{number}"
    if stage.per == "stage":
        return path, ()
    if stage.per == "ends":
        path = f"{path}.rest" if index else f"{path}.first"
        index = min(index, 1)
    else:
        path = f"{path}.{index}"
    deep = tuple(depth for depth in stage.depths if depth > index)
    return path, (When(f"stages.{number}.depth", deep),) if len(deep) < len(stage.depths) else ()


def _ordered(genes: tuple[Gene, ...], order: tuple[str, ...]) -> tuple[Gene, ...]:
    """Genes grouped by the last part of their names, in the given order; the others before them."""
    rank = {name: position for position, name in enumerate(order)}
    return tuple(sorted(genes, key=lambda gene: rank.get(gene.name.rpartition(".")[2], -1)))


def with_task(spec: StagedSpec, options: Mapping[str, Value]) -> StagedSpec:
    """The spec adapted to a task: `in_channels`, `classes`, and `resolution`, which fixes the image's side."""
    changes = dict(options)
    if "resolution" in changes:
        changes["resolutions"] = (changes.pop("resolution"),)
    return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]  # the spec checks the values
