"""Check a space before time is spent on it: what cannot be built, what does nothing, what is there twice, what harms.

The checks sample; a clean report says what was looked at, not that nothing can be wrong.

Source: for poisoned operations, Wu et al., Poisoning the Search Space in Neural Architecture Search, 2021,
https://arxiv.org/abs/2106.14406 (identity, noise, dropout, transposed and stretched convolutions, and many duplicates).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal

import numpy as np

from ..errors import SpaceError
from .gene import Gene, Population
from .op import Op, op_signature
from .space import SearchSpace
from .vetting import Trial, faults, outputs, same_function, try_candidate, unseen_taps

__all__ = ["CHECKS", "Finding", "Report", "check_space"]

CHECKS: Final = (
    "invalid", "disconnected", "never_active", "no_effect", "duplicate", "harmful", "unseen_window",
)  # fmt: skip
"""Names of the checks, in the order of the report."""

MAC_BUDGET: Final = 4_000_000_000
"""Multiply-accumulates that running sampled networks may take."""

CONTEXTS: Final = 12
"""Architectures in which two values of a gene must compute the same before they are called so; some matter in few."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: one of `CHECKS`.
        severity: `error` where a search would be misled or fail, `warning` where it only wastes time.
        place: gene, block or architecture.
        message: what is wrong and what to do.
    """

    check: str
    severity: Literal["error", "warning"]
    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at and what was found.

    Attributes:
        space: name of the space.
        identity: which space exactly.
        size: its number of architectures.
        architectures: sampled and listed as Ops.
        networks: of those, built and run.
        operations: vetted alone.
        findings: in the order of `CHECKS`.
    """

    space: str
    identity: str
    size: int
    architectures: int
    networks: int
    operations: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no error was found."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """A JSON-able form; the size is text, as it may exceed what JSON readers take."""
        return asdict(self) | {"size": str(self.size), "ok": self.ok}


def check_space(space: SearchSpace, *, samples: int = 48, seed: int = 0) -> Report:
    """Sample a space and report what is wrong with it.

    Args:
        space: any space that builds networks.
        samples: architectures whose Ops are listed; as many are built and run as `MAC_BUDGET` allows, at least two.
        seed: of the sample.
    """
    rng = np.random.default_rng(seed)
    genomes = np.concatenate([space.smallest()[None], space.largest()[None], space.sample(max(samples - 2, 0), rng)])
    findings: list[Finding] = []
    windows: dict[str, Finding] = {}
    networks, spent, listed = 0, 0, 0
    for genome in genomes:
        try:
            ops = space.ops(space.decode(genome))
        except SpaceError as error:
            findings.append(_invalid(space, genome, str(error)))
            continue
        listed += 1
        windows |= {finding.place: finding for finding in _windows(ops)}
        cost = 5 * sum(op.macs for op in ops)
        if networks < 2 or spent + cost <= MAC_BUDGET:
            spent, networks = spent + cost, networks + 1
            findings += _run(space, genome)
    findings += _never_active(space, rng)
    findings += _compare_values(space, rng)
    vetted = _vet(space)
    found = _once([*findings, *vetted[1], *windows.values()])
    return Report(space.name, space.identity, space.size, listed, networks, vetted[0], found)


def _once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in the order of the checks."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: CHECKS.index(finding.check)))


# --- architectures ------------------------------------------------------------------------------------------------


def _invalid(space: SearchSpace, genome: Population, problem: str) -> Finding:
    choices = dict(space.decode(genome).choices)
    return Finding("invalid", "error", space.decode(genome).key, f"cannot be built: {problem} Its choices: {choices}.")


def _run(space: SearchSpace, genome: Population) -> Iterator[Finding]:
    """Build and run one architecture: is it finite, does it depend on its input, do all weights learn?"""
    import torch

    architecture = space.decode(genome)
    inputs = space.example_inputs(4)
    choices = dict(architecture.choices)
    try:
        network = space.network(architecture, seed=0)
        output = network.train()(*inputs)
    except (SpaceError, RuntimeError) as error:
        yield _invalid(space, genome, f"{type(error).__name__}: {error}")
        return
    if not torch.isfinite(output).all():
        yield Finding("invalid", "error", architecture.key, f"its outputs are not finite. Its choices: {choices}.")
        return
    if output.requires_grad:
        weighting = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        (output * weighting).sum().backward()
        idle = [name for name, weight in network.named_parameters() if weight.grad is None]
        if idle:
            message = f"weights that no gradient reaches, {', '.join(idle[:3])}; its choices: {choices}."
            yield Finding("disconnected", "warning", architecture.key, message)
    evaluated = outputs(network, inputs, training=False)
    spread = float(evaluated.std(dim=0).mean())
    if spread <= 1e-6 * float(evaluated.abs().mean()):
        message = f"its output does not depend on its input: nothing connects them. Its choices: {choices}."
        yield Finding("disconnected", "error", architecture.key, message)


def _windows(ops: tuple[Op, ...]) -> Iterator[Finding]:
    """Convolutions most of whose window lies outside the image wherever it stands."""
    for op in ops:
        unseen, taps = unseen_taps(op)
        if 2 * unseen >= taps > 1:
            message = (
                f"{unseen} of {taps} taps of its window never meet the image {op.inputs[0].shape[1:]}: they see "
                "nothing but padding. Use a smaller kernel or dilation there."
            )
            yield Finding("unseen_window", "error" if op.attributes["dilation"] != 1 else "warning", op.name, message)
        if op.kind == "conv_transpose2d" and op.attributes["stride"] == 1:
            message = (
                "a transposed convolution at stride 1 computes what a plain one can; use conv, or a stride above 1."
            )
            yield Finding("duplicate", "error", op.name, message)


# --- genes --------------------------------------------------------------------------------------------------------


def _never_active(space: SearchSpace, rng: np.random.Generator, n: int = 8192) -> Iterator[Finding]:
    """Genes that no architecture uses: never seen in a large sample, nor when their conditions are forced."""
    seen = space.active(space.sample(n, rng)).any(axis=0)
    for index in np.flatnonzero(~seen):
        gene = space.genes[index]
        rows = space.table.uniform(512, rng)
        pending = [gene]
        while pending:
            for when in pending.pop().when:
                position = space.table.find(when.gene)
                parent = space.genes[position]
                rows[:, position] = rng.choice([parent.index(value) for value in when.values], len(rows))
                pending.append(parent)
        if not space.active(rows)[:, index].any():
            needs = " and ".join(f"{when.gene} in {list(when.values)}" for when in gene.when)
            message = f"no architecture uses it: {needs} never hold together. Remove it or mend its conditions."
            yield Finding("never_active", "error", gene.name, message)


def _compare_values(space: SearchSpace, rng: np.random.Generator) -> Iterator[Finding]:
    """Genes whose values all compute the same, or some of whose values do, in every architecture tried."""
    pool = space.sample(512, rng)
    active = space.active(pool)
    for index, gene in enumerate(space.genes):
        rows = pool[active[:, index]]
        if gene.cardinality < 2 or not len(rows) or gene.name.startswith("recipe."):
            continue
        pairs = itertools.combinations(range(gene.cardinality), 2)
        same = {pair for pair in pairs if _costs_agree(space, rows, index, pair)}
        for row in rows[:CONTEXTS]:
            same = {pair for pair in same if _same(space, row, index, pair)}
        groups = _groups(gene.cardinality, same)
        if len(groups) == 1:
            message = f"none of its values {list(gene.values)} changes what the network computes. Remove it."
            yield Finding("no_effect", "error", gene.name, message)
        else:
            for group in groups:
                yield from _duplicates(gene, [gene.values[choice] for choice in group])


def _duplicates(gene: Gene, values: list[object]) -> Iterator[Finding]:
    if len(values) > 1:
        message = (
            f"its values {values} compute the same, so a search meets that one operation {len(values)} times as often. "
            "Keep one of them."
        )
        yield Finding("duplicate", "error", gene.name, message)


def _groups(n: int, same: set[tuple[int, int]]) -> list[list[int]]:
    """Choices that are the same, transitively."""
    label = list(range(n))
    for a, b in sorted(same):
        label = [label[a] if each == label[b] else each for each in label]
    members = defaultdict(list)
    for choice, each in enumerate(label):
        members[each].append(choice)
    return list(members.values())


def _with_value(space: SearchSpace, rows: Population, gene: int, choice: int) -> Population:
    """[B, G] `rows` with one gene set; genes that this activates take defaults, or any two values would differ."""
    filled = np.where(space.active(rows), rows, space.table.defaults).astype(np.int16)
    filled[:, gene] = choice
    return space.canonical(filled)


def _costs_agree(space: SearchSpace, rows: Population, gene: int, pair: tuple[int, int]) -> bool:
    """Whether two values of a gene give equal MACs and parameters in every one of `rows`."""
    first, second = (_with_value(space, rows, gene, choice) for choice in pair)
    return all(np.array_equal(cost(first), cost(second)) for cost in (space.macs, space.params))


def _same(space: SearchSpace, row: Population, gene: int, pair: tuple[int, int]) -> bool:
    """Whether two values of a gene give one computation in the architecture of `row`."""
    first, second = (space.decode(_with_value(space, row[None], gene, choice)[0]) for choice in pair)
    try:
        if op_signature(space.ops(first)) != op_signature(space.ops(second)):
            return False
    except SpaceError:  # reported as invalid where it was sampled
        return False
    # Equal Ops leave what they cannot say: whatever differs in training only.
    import torch

    inputs = space.example_inputs(2)
    networks = [space.network(each, seed=0) for each in (first, second)]
    return all(
        torch.equal(*(outputs(network, inputs, training=training) for network in networks))
        for training in (True, False)
    )


# --- operations ---------------------------------------------------------------------------------------------------


def _vet(space: SearchSpace) -> tuple[int, list[Finding]]:
    """Try every candidate operation alone, once for each thing it does."""
    trials: dict[tuple[str, tuple[int, ...]], Trial] = {}
    options: dict[str, dict[str, Trial]] = defaultdict(dict)
    findings: list[Finding] = []
    for candidate in space.candidates():
        known = (candidate.label, candidate.shape)
        if candidate.choice:
            options[candidate.place][candidate.label] = try_candidate(candidate)
        elif known not in trials:
            trials[known] = try_candidate(candidate)
            for fault in faults(trials[known]):
                findings.append(Finding("harmful", "error", candidate.place, f"{candidate.label}: {fault}."))
    for place, by_label in options.items():
        labels = list(by_label)
        same = {
            (a, b)
            for a, b in itertools.combinations(range(len(labels)), 2)
            if same_function(by_label[labels[a]], by_label[labels[b]])
        }
        for group in _groups(len(labels), same):
            if len(group) > 1:
                names = [labels[member] for member in group]
                gene = Gene(place, tuple(labels))
                findings += _duplicates(gene, list(names))
    return len(trials) + sum(map(len, options.values())), findings
