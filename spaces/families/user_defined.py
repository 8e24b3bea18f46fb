"""Spaces that users describe in the gene language: nested, conditional and repeated choices of building blocks.

A definition is compiled once (`user_plan.py`). An architecture then resolves to a program of steps, and the standalone
network, its Ops and the supernet all run that program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as TorchTensor
from torch import nn

from ..architecture import Architecture
from ..candidate import Candidate
from ..definition import definition_text, read_definition
from ..elastic.supernet import Supernet
from ..gene import Population
from ..language import Definition
from ..layers.materialise import allocate, initialise
from ..op import Op, Shape, Tensor, make_op
from ..site import Site
from ..space import SearchSpace
from .user_blocks import BlockSpec, block_ops, elastic_block, make_block, run_elastic
from .user_keys import KeyForm
from .user_plan import Leaf, Loop, Merge, MergeSpec, Part, Series, Switch, compile_definition

__all__ = ["UserNetwork", "UserSpace", "UserSupernet"]


@dataclass(frozen=True, slots=True)
class LeafStep:
    """Run the block at a module path."""

    path: str
    spec: BlockSpec


@dataclass(frozen=True, slots=True)
class MergeStep:
    """Run branches on one input and let them meet; `branches` are those that are not zero."""

    path: str
    how: str
    read: Shape
    branches: tuple[Program, ...]


Program = tuple["LeafStep | MergeStep", ...]


NOTHING = BlockSpec("nothing", (), ())
"""The pseudo-block of a meeting where every branch is zero."""


class Nothing(nn.Module):
    """All zeros, of the shape that comes in: where every branch chose zero."""

    def forward(self, x: TorchTensor) -> TorchTensor:
        """Any shape -> zeros of that shape."""
        return x * 0.0


class PartModule(nn.Module):
    """A named level of the module tree; programs say what runs."""


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` at a dotted path, making the levels above it."""
    *levels, last = path.split(".")
    for level in levels:
        if level not in root._modules:
            root.add_module(level, PartModule())
        root = cast(nn.Module, root._modules[level])
    root.add_module(last, module)


def _run(program: Program, x: TorchTensor, block: Callable[[LeafStep, TorchTensor], TorchTensor]) -> TorchTensor:
    """Run a program; `block` runs one block."""
    for step in program:
        if isinstance(step, LeafStep):
            x = block(step, x)
            continue
        made = [_run(branch, x, block) for branch in step.branches]
        if not made:
            x = block(LeafStep(f"{step.path}.nothing", NOTHING), x)
        elif step.how == "concat":
            x = torch.cat(made, 1) if len(made) > 1 else made[0]
        else:
            x = made[0]
            for other in made[1:]:
                x = x + other
    return x


class UserNetwork(nn.Module):
    """The standalone network of a program; every block's layer is at its path in the definition."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.body = PartModule()
        self._fill(program)

    def _fill(self, program: Program) -> None:
        for step in program:
            if isinstance(step, MergeStep):
                for branch in step.branches:
                    self._fill(branch)
                if not step.branches:
                    _place(self, f"{step.path}.nothing", Nothing())
            elif (layer := make_block(step.spec)) is not None:
                _place(self, step.path, layer)

    def forward(self, x: TorchTensor) -> TorchTensor:
        """[N, channels, H, W] -> what the last block makes."""
        layers = dict(self.named_modules())

        def block(step: LeafStep, x: TorchTensor) -> TorchTensor:
            layer = layers.get(step.path)
            return x if layer is None else layer(x)

        return _run(self.program, x, block)


class UserSupernet(Supernet):
    """Shared weights: per block one layer that holds all its choices, and every option has layers of its own."""

    def __init__(self, space: UserSpace) -> None:
        super().__init__()
        self.space = space
        self.body = PartModule()
        for place in space.plan.places:
            specs = [spec for spec in dict.fromkeys(place.specs.cells.flat) if isinstance(spec, BlockSpec)]
            if specs and (layer := elastic_block(specs)) is not None:
                _place(self, place.path, layer)

    def forward(self, x: TorchTensor, architecture: Architecture) -> TorchTensor:
        """[N, channels, H, W] -> what the last block of `architecture` makes."""
        layers = dict(self.named_modules())

        def block(step: LeafStep, x: TorchTensor) -> TorchTensor:
            if step.spec is NOTHING:
                return x * 0.0
            return run_elastic(layers.get(step.path), x, step.spec, training=self.training)

        return _run(self.space.program(architecture), x, block)

    def blank_network(self, architecture: Architecture) -> UserNetwork:
        """The standalone network of `architecture`, allocated but not filled."""
        return allocate(lambda: UserNetwork(self.space.program(architecture)))


class UserSpace(SearchSpace):
    """The space of a definition in the gene language.

    Args:
        definition: what may be built.
        preset: the name it goes by in the catalog, "" for a user's own.
    """

    def __init__(self, definition: Definition, *, preset: str = "") -> None:
        self.definition = definition
        self.plan = compile_definition(definition)
        text = definition_text(definition)
        super().__init__(self.plan.genes, name="custom", preset=preset, options={} if preset else {"definition": text})
        self._text = text
        self._keys = KeyForm(self.plan, block_signature)

    def __reduce__(self) -> tuple[Callable[..., UserSpace], tuple[str, str]]:
        """Travel to other processes as the definition alone."""
        return _restore, (self._text, self.preset)

    def description(self) -> dict[str, object]:
        """JSON-able description; the whole definition is part of the identity."""
        return super().description() | {"definition": json.loads(self._text)}

    # --- programs and costs ----------------------------------------------------------------------------------------

    def program(self, architecture: Architecture) -> Program:
        """The steps of `architecture`."""
        if architecture.space != self.identity:
            self.encode(architecture)  # raises, saying what to do
        return _resolve(self.plan.root, dict(enumerate(architecture.genome)))

    def ops(self, architecture: Architecture) -> tuple[Op, ...]:
        """Every Op of the network, in execution order."""
        side = self.definition.resolution
        return _program_ops(self.program(architecture), Tensor("image", (self.definition.channels, side, side)))[0]

    def sites(self) -> tuple[Site, ...]:
        """One per block and per meeting of branches, named by their module paths."""
        return tuple(Site(place.path, place.specs.genes, _site_ops(place)) for place in self.plan.places)

    def key_form(self, genomes: Population) -> NDArray[np.integer]:
        """[B, 8] digests of what is computed: unused genes, equal options, the order of a sum do not count."""
        return self._keys(genomes, self.site_index)

    # --- networks ---------------------------------------------------------------------------------------------------

    def network(self, architecture: Architecture, seed: int | None = None) -> UserNetwork:
        """A freshly initialised network."""
        network = allocate(lambda: UserNetwork(self.program(architecture)))
        initialise(network, seed)
        return network

    def supernet(self, seed: int | None = None) -> UserSupernet:
        """Shared weights of every architecture, freshly initialised."""
        supernet = allocate(lambda: UserSupernet(self))
        initialise(supernet, seed)
        return supernet

    def candidates(self) -> tuple[Candidate, ...]:
        """Every option of every choice, and every block that is not plain identity or zero."""
        return tuple(_candidates(self.plan.root, {index: gene.default for index, gene in enumerate(self.genes)}, self))

    def example_inputs(self, batch: int) -> tuple[TorchTensor, ...]:
        """One image batch [batch, channels, resolution, resolution], standard normal, always the same."""
        side = self.definition.resolution
        shape = (batch, self.definition.channels, side, side)
        return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)


def _restore(text: str, preset: str) -> UserSpace:
    return UserSpace(read_definition(text + "\n"), preset=preset)


def _resolve(part: Part, choices: Mapping[int, int]) -> Program:
    """The steps that a part is under choice indices by gene position."""
    if isinstance(part, Leaf):
        return (LeafStep(part.path, part.specs.at(choices)),)
    if isinstance(part, Series):
        return tuple(step for each in part.parts for step in _resolve(each, choices))
    if isinstance(part, Switch):
        return _resolve(part.parts[choices[part.gene]], choices)
    if isinstance(part, Loop):
        made = part.parts[: part.times.at(choices)]
        return tuple(step for each in made for step in _resolve(each, choices))
    spec: MergeSpec = part.specs.at(choices)
    branches = tuple(_resolve(part.parts[index], choices) for index in spec.live)
    return (MergeStep(part.path, part.how, spec.read, branches),)


def _candidates(part: Part, choices: dict[int, int], space: SearchSpace) -> Iterator[Candidate]:
    """The options and blocks inside `part`, as the other choices have them."""
    if isinstance(part, Leaf):
        specs = [spec for spec in part.specs.cells.flat if spec is not None and spec.kind not in {"identity", "zero"}]
        for spec in dict.fromkeys(specs):
            given = ", ".join(f"{key}={value!r}" for key, value in spec.values)
            label = f"{spec.kind}({given})"
            yield _candidate(part.path.removeprefix("body."), label, (LeafStep(part.path, spec),), choice=False)
    elif isinstance(part, Switch):
        gene = space.genes[part.gene]
        for index, (value, option) in enumerate(zip(gene.values, part.parts, strict=True)):
            inside = choices | {part.gene: index}
            program = _resolve(option, inside)
            if program and not _is_zero(program):
                yield _candidate(gene.name, str(value), program, choice=True)
            yield from _candidates(option, inside, space)
    else:
        inside = choices
        if isinstance(part, Loop) and part.times.genes:
            counts = list(part.times.cells.flat)
            inside = choices | {part.times.genes[0]: counts.index(max(counts))}
        for each in part.parts:
            yield from _candidates(each, inside, space)


def _candidate(place: str, label: str, program: Program, *, choice: bool) -> Candidate:
    def build(seed: int) -> UserNetwork:
        network = allocate(lambda: UserNetwork(program))
        initialise(network, seed)
        return network

    return Candidate(place=place, label=label, choice=choice, shape=_reads(program), build=build)


def _reads(program: Program) -> Shape:
    """What the first block of a program reads."""
    first = program[0]
    return first.spec.shape if isinstance(first, LeafStep) else first.read


def _is_zero(program: Program) -> bool:
    return all(isinstance(step, LeafStep) and step.spec.kind in {"zero", "identity"} for step in program) and any(
        isinstance(step, LeafStep) and step.spec.kind == "zero" for step in program
    )


def _program_ops(program: Program, x: Tensor) -> tuple[tuple[Op, ...], Tensor]:
    """The Ops of a program that reads `x`, and the tensor it makes."""
    ops: tuple[Op, ...] = ()
    for step in program:
        if isinstance(step, LeafStep):
            made = block_ops(step.path, x, step.spec)
        else:
            each = [_program_ops(branch, x) for branch in step.branches]
            made = _meeting_ops(step.path, step.how, x, tuple(out for _, out in each))
            if len(each) == 1:
                x = each[0][1]
            ops += tuple(op for inner, _ in each for op in inner)
        ops += made
        x = made[-1].output if made else x
    return ops, x


def _meeting_ops(path: str, how: str, read: Tensor, branches: tuple[Tensor, ...]) -> tuple[Op, ...]:
    """The Ops where branches meet; none where there is a single one."""
    if not branches:
        return (make_op(f"{path}.nothing", "scale", read, factor=0.0),)
    if how == "concat":
        return (make_op(f"{path}.concat", "concat", branches),) if len(branches) > 1 else ()
    ops: tuple[Op, ...] = ()
    total = branches[0]
    for number, other in enumerate(branches[1:], start=1):
        ops += (make_op(f"{path}.add-{number}", "add", (total, other)),)
        total = ops[-1].output
    return ops


def _site_ops(place: Leaf | Merge) -> Callable[[tuple[int, ...]], tuple[Op, ...]]:
    """What stands at a place under the choice indices of its genes."""

    def build(choices: tuple[int, ...]) -> tuple[Op, ...]:
        spec: BlockSpec | MergeSpec | None = place.specs.cells[choices]
        if spec is None:
            return ()
        if isinstance(spec, BlockSpec):
            return block_ops(place.path, Tensor(f"{place.path}.input", spec.shape), spec)
        assert isinstance(place, Merge)
        tensors = tuple(
            Tensor(f"{place.path}.{'input' if same else index}", shape)
            for index, (shape, same) in enumerate(zip(spec.shapes, spec.same, strict=True))
        )
        return _meeting_ops(place.path, place.how, Tensor(f"{place.path}.input", spec.read), tensors)

    return build


def block_signature(path: str, spec: BlockSpec) -> str:
    """What a block computes: equal texts compute the same with the same weights; "" for the identity."""
    ops = block_ops(path, Tensor("x", spec.shape), spec)
    if not ops:
        return "" if spec.kind in {"identity", "zero"} else repr((spec.kind, spec.values))
    weighted = any(op.weights for op in ops)
    parts = [(op.kind, sorted(op.attributes.items()), op.weights) for op in ops]
    return repr((path if weighted else "", parts))
