"""From a definition in the gene language to genes and a tree of places whose choices are tabled.

Compilation walks the definition once, in execution order, and carries along the shape that reaches each place as a
`ChoiceTable`. A place outside the choices made (its option not chosen, its repetition not there) has no spec: None.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import ConfigError, SpaceError
from ..choice_table import ChoiceTable, combine
from ..gene import Gene, When
from ..language import (
    Block,
    Branches,
    Choose,
    Definition,
    Node,
    OneOf,
    Parameter,
    Repeat,
    Residual,
    Sequence,
    Shared,
    check_name,
    check_parameter,
)  # fmt: skip
from ..op import Shape, Tensor
from .user_blocks import NO_OPS, BlockSpec, block_ops

__all__ = ["Leaf", "Loop", "Merge", "MergeSpec", "Part", "Plan", "Series", "Switch", "compile_definition"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One block: module path, and `BlockSpec` or None by choices; `site` is its number among the sites."""

    path: str
    specs: ChoiceTable
    site: int


@dataclass(frozen=True, slots=True)
class Series:
    """Parts one after the other."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Switch:
    """One part per choice of a gene."""

    gene: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """The first so many parts, by choices."""

    times: ChoiceTable
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class MergeSpec:
    """How branches meet: which are not zero, the shape each of those has, and whether it is the input itself."""

    live: tuple[int, ...]
    shapes: tuple[Shape, ...]
    same: tuple[bool, ...]
    read: Shape


@dataclass(frozen=True, slots=True)
class Merge:
    """Branches that read one input; `MergeSpec` or None by choices."""

    path: str
    how: str
    parts: tuple[Part, ...]
    specs: ChoiceTable
    site: int


Part = Leaf | Series | Switch | Loop | Merge


@dataclass(slots=True)
class Plan:
    """A compiled definition: genes, the tree of places, and the places with Ops in execution order."""

    genes: list[Gene]
    root: Part = field(default_factory=lambda: Series(()))
    places: list[Leaf | Merge] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Here:
    """Where the walk is.

    Attributes:
        path: module path.
        genes: prefix of gene names; within tied repetitions it does not count them.
        when: conditions of a gene created here.
        tests: (gene, its choices) that must all hold for this place to be there.
    """

    path: str
    genes: str
    when: tuple[When, ...] = ()
    tests: tuple[tuple[int, frozenset[int]], ...] = ()

    def below(self, name: str) -> _Here:
        """A part called `name`."""
        return _Here(f"{self.path}.{name}", f"{self.genes}.{name}".lstrip("."), self.when, self.tests)


@dataclass(frozen=True, slots=True)
class _Flow:
    """What reaches a place: its shape (None where nothing does), whether it is zeros, or what enters the branch."""

    shape: ChoiceTable
    zero: ChoiceTable
    same: ChoiceTable


NO = ChoiceTable.constant(False)


def compile_definition(definition: Definition) -> Plan:
    """Compile a definition.

    Raises:
        ConfigError: a name, a reference or a value that is not allowed.
        SpaceError: choices under which parts do not fit together; it names place and choices.
    """
    compiler = _Compiler(definition)
    shape = (definition.channels, definition.resolution, definition.resolution)
    flow = _Flow(ChoiceTable.constant(shape), NO, NO)
    compiler.plan.root, flow = compiler.walk(definition.body, _Here("body", ""), flow)
    compiler.forbid_zero("the end of the space", flow)
    if unused := sorted(set(definition.genes) - compiler.used):
        raise ConfigError("genes", unused[0], "genes that some place refers to", "Remove it, or refer to it.")
    return compiler.plan


class _Compiler:
    def __init__(self, definition: Definition) -> None:
        self.plan = Plan([choice.gene(check_name(f"genes.{n}", n)) for n, choice in definition.genes.items()])
        self.shared = {name: position for position, name in enumerate(definition.genes)}
        self.used: set[str] = set()
        self.position = dict(self.shared)

    # --- genes ----------------------------------------------------------------------------------------------------

    def gene(self, gene: Gene) -> int:
        """Position of a gene, created where it does not exist (tied repetitions meet the same one again)."""
        if gene.name not in self.position:
            self.position[gene.name] = len(self.plan.genes)
            self.plan.genes.append(gene)
        return self.position[gene.name]

    def declared(self, place: str, name: str) -> int:
        """Position of a declared gene."""
        if name not in self.shared:
            raise ConfigError(place, name, f"one of the declared genes: {', '.join(self.shared) or 'there are none'}")
        self.used.add(name)
        return self.shared[name]

    def parameter(self, here: _Here, key: str, value: Parameter) -> ChoiceTable:
        """The value of a parameter by choices."""
        if isinstance(value, OneOf):
            plain = value.gene(f"{here.genes}.{key}".lstrip("."))
            gene = Gene(plain.name, plain.values, kind=plain.kind, when=here.when, default=plain.default)
            return ChoiceTable.of_gene(self.gene(gene), gene.values)
        if isinstance(value, Shared):
            place = f"{here.genes}.{key}"
            position = self.declared(place, value.gene)
            values = [value.value(each) for each in self.plan.genes[position].values]
            if key != "depth":
                for each in values:
                    check_parameter(place, key, each)
            return ChoiceTable.of_gene(position, values)
        return ChoiceTable.constant(value)

    def presence(self, here: _Here) -> list[ChoiceTable]:
        """For each condition of the place, whether it holds."""
        return [
            ChoiceTable.of_gene(gene, [index in allowed for index in range(self.plan.genes[gene].cardinality)])
            for gene, allowed in here.tests
        ]

    # --- the walk ---------------------------------------------------------------------------------------------------

    def walk(self, node: Node, here: _Here, flow: _Flow) -> tuple[Part, _Flow]:
        """Compile `node`, which `flow` reaches; also what leaves it."""
        if isinstance(node, Block):
            return self.leaf(node, here, flow)
        if isinstance(node, Sequence):
            return self.series(node, here, flow)
        if isinstance(node, Residual):
            return self.merge([("shortcut", Block(kind="identity")), ("body", node.body)], "add", here, flow)
        if isinstance(node, Branches):
            return self.merge(_named(node.parts, here.genes), node.merge, here, flow)
        if isinstance(node, Choose):
            return self.switch(node, here, flow)
        return self.loop(node, here, flow)

    def series(self, node: Sequence, here: _Here, flow: _Flow) -> tuple[Part, _Flow]:
        parts = []
        for name, part in _named(node.parts, here.genes):
            made, flow = self.walk(part, here.below(name), flow)
            parts.append(made)
        return Series(tuple(parts)), flow

    def leaf(self, node: Block, here: _Here, flow: _Flow) -> tuple[Part, _Flow]:
        keys, kind = tuple(node.parameters), node.kind
        if kind not in NO_OPS | {"zero"}:
            self.forbid_zero(f"{here.genes} ({kind})", flow)
        parameters = [self.parameter(here, key, value) for key, value in node.parameters.items()]
        tests = self.presence(here)
        made: dict[BlockSpec, Shape] = {}

        def spec(shape: Shape | None, *rest: object) -> BlockSpec | None:
            if shape is None or not all(rest[: len(tests)]):
                return None
            chosen = BlockSpec(kind, shape, tuple(zip(keys, rest[len(tests) :], strict=True)))  # type: ignore[arg-type]  # checked values
            if chosen not in made:
                ops = block_ops(here.path, Tensor("x", shape), chosen)
                made[chosen] = ops[-1].output.shape if ops else shape
            return chosen

        place = here.genes or kind
        specs = combine(self.plan.genes, place, spec, [flow.shape, *tests, *parameters]).reduced()
        leaf = Leaf(here.path, specs, len(self.plan.places))
        self.plan.places.append(leaf)
        shape = combine(self.plan.genes, place, lambda s: None if s is None else made[s], [specs]).reduced()
        zero = flow.zero
        if kind == "zero":
            zero = combine(self.plan.genes, place, lambda s: s is not None, [specs]).reduced()
        return leaf, _Flow(shape, zero, flow.same if kind in NO_OPS else NO)

    def switch(self, node: Choose, here: _Here, flow: _Flow) -> tuple[Part, _Flow]:
        labels = tuple(check_name(f"{here.genes}.choose", label) for label in node.options)
        if node.by:
            position = self.declared(f"{here.genes}.by", node.by)
            values = self.plan.genes[position].values
            if {str(value) for value in values} != set(labels):
                raise ConfigError(f"{here.genes}.choose", list(labels), f"exactly the values of {node.by}: {values}")
            order, own = {str(value): value for value in values}, ()
        else:
            if node.default and node.default not in labels:
                raise ConfigError(f"{here.genes}.default", node.default, f"one of {', '.join(labels)}")
            default = labels.index(node.default) if node.default else 0
            gene = Gene(f"{here.genes}.choice".lstrip("."), labels, when=here.when, default=default)
            position, order, own = self.gene(gene), {label: label for label in labels}, None
        parts, flows = [], []
        for index, (label, value) in enumerate(order.items()):
            condition = When(self.plan.genes[position].name, (value,))
            when = (condition,) if own is None else (*here.when, condition)
            below = here.below(label)
            inside = _Here(below.path, below.genes, when, (*here.tests, (position, frozenset({index}))))
            part, left = self.walk(node.options[label], inside, flow)
            parts.append(part)
            flows.append(left)
        pick = ChoiceTable.of_gene(position, range(len(parts)))
        return Switch(position, tuple(parts)), self.either(here, pick, flows)

    def loop(self, node: Repeat, here: _Here, flow: _Flow) -> tuple[Part, _Flow]:
        times = self.parameter(here, "depth", node.times)
        counts = list(times.cells.flat)
        if not all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= 256 for count in counts):
            raise ConfigError(f"{here.genes}.times", counts, "whole numbers from 0 to 256")
        parts, flows = [], [flow]
        for number in range(max(counts)):
            below = here.below(str(number))
            names = here.genes if node.tied else below.genes
            inside = _Here(below.path, names, here.when, here.tests)
            if times.genes and number >= min(counts):
                inside = self.deeper(inside, times, 0 if node.tied else number, number)
            part, flow = self.walk(node.body, inside, flow)
            parts.append(part)
            flows.append(flow)
        return Loop(times, tuple(parts)), self.either(here, times, flows)

    def deeper(self, here: _Here, times: ChoiceTable, needed: int, number: int) -> _Here:
        """Inside repetition `number`, there when more are made; its genes are active from `needed` on."""
        (position,) = times.genes
        gene = self.plan.genes[position]
        deep = [index for index, count in enumerate(times.cells) if count > number]
        active = tuple(value for value, count in zip(gene.values, times.cells, strict=True) if count > needed)
        condition = When(gene.name, active)
        if len(active) == gene.cardinality:
            when = here.when
        elif position in self.shared.values():
            when = (*here.when, condition)
        else:
            when = (condition,)  # the gene carries the conditions around it
        return _Here(here.path, here.genes, when, (*here.tests, (position, frozenset(deep))))

    def either(self, here: _Here, pick: ChoiceTable, flows: list[_Flow]) -> _Flow:
        """What leaves one of several ways."""
        place = here.genes or "body"
        shape = combine(self.plan.genes, place, lambda at, *each: each[at], [pick, *(f.shape for f in flows)])
        zero = combine(self.plan.genes, place, lambda at, *each: each[at], [pick, *(f.zero for f in flows)])
        same = combine(self.plan.genes, place, lambda at, *each: each[at], [pick, *(f.same for f in flows)])
        return _Flow(shape.reduced(), zero.reduced(), same.reduced())

    def merge(self, named: list[tuple[str, Node]], how: str, here: _Here, flow: _Flow) -> tuple[Part, _Flow]:
        if how not in {"add", "concat"}:
            raise ConfigError(f"{here.genes}.merge", how, "add or concat")
        self.forbid_zero(f"{here.genes} (branches)", flow)
        inside = _Flow(flow.shape, flow.zero, ChoiceTable.constant(True))
        made = [self.walk(part, here.below(name), inside) for name, part in named]
        flows = [left for _, left in made]
        tests = self.presence(here)

        def spec(read: Shape | None, *rest: object) -> MergeSpec | None:
            if read is None or not all(rest[: len(tests)]):
                return None
            each = rest[len(tests) :]
            shapes, zeros, sames = (each[start : start + len(made)] for start in range(0, len(each), len(made)))
            live = tuple(index for index, zero in enumerate(zeros) if not zero)
            kept: tuple[Shape, ...] = tuple(shapes[index] for index in live)  # type: ignore[misc]  # shapes where present
            _check_meeting(how, [name for name, _ in named], live, kept)
            return MergeSpec(live, kept, tuple(bool(sames[index]) for index in live), read)

        inputs = [flow.shape, *tests, *(f.shape for f in flows), *(f.zero for f in flows), *(f.same for f in flows)]
        specs = combine(self.plan.genes, here.genes or "branches", spec, inputs).reduced()
        merge = Merge(here.path, how, tuple(part for part, _ in made), specs, len(self.plan.places))
        self.plan.places.append(merge)
        shape = combine(self.plan.genes, here.genes, lambda s: _merged(how, s), [specs]).reduced()
        kept = combine(
            self.plan.genes, here.genes, lambda s, same: bool(s and s.same == (True,) and same), [specs, flow.same]
        )
        return merge, _Flow(shape, NO, kept.reduced())

    def forbid_zero(self, place: str, flow: _Flow) -> None:
        """Zeros may only meet other branches."""

        def check(shape: Shape | None, zero: bool) -> None:
            if shape is not None and zero:
                raise SpaceError(
                    "reads nothing but zeros; a `zero` block must end a branch of `branches` or `residual`."
                )

        combine(self.plan.genes, place, check, [flow.shape, flow.zero])


def _named(parts: tuple[Node, ...], place: str) -> list[tuple[str, Node]]:
    """Parts with the names they go by: their own, or their number."""
    if not parts:
        raise ConfigError(place or "body", [], "at least one part")
    named = [(check_name(f"{place}.name", part.name or str(index)), part) for index, part in enumerate(parts)]
    names = [name for name, _ in named]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{place or 'body'}.{repeated[0]}", repeated[0], "names that differ")
    return named


def _check_meeting(how: str, names: list[str], live: tuple[int, ...], shapes: tuple[Shape, ...]) -> None:
    """Raise SpaceError unless these shapes can be added or concatenated."""
    compare = shapes if how == "add" else tuple(shape[1:] for shape in shapes)
    if len({(len(shape), rest) for shape, rest in zip(shapes, compare, strict=True)}) > 1:
        found = ", ".join(f"{names[index]} {shape}" for index, shape in zip(live, shapes, strict=True))
        need = "one shape" if how == "add" else "one height and width"
        raise SpaceError(f"branches to {how} must have {need}; got {found}.")


def _merged(how: str, spec: MergeSpec | None) -> Shape | None:
    if spec is None:
        return None
    if not spec.live:
        return spec.read
    if how == "add" or len(spec.live) == 1:
        return spec.shapes[0]
    return (sum(shape[0] for shape in spec.shapes), *spec.shapes[0][1:])
