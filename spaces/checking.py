"""Check a space before time is spent on it: what cannot be built, what does nothing, what is there twice, what harms.

The checks sample; a clean report says what was looked at, not that nothing can be wrong.

Source: for poisoned operations, Wu et al., Poisoning the Search Space in Neural Architecture Search, 2021,
https://arxiv.org/abs/2106.14406 (identity, noise, dropout, transposed and stretched convolutions, and many duplicates).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from ..errors import SpaceError
from .candidate import Candidate
from .gene import Gene, Population
from .op import Op, op_signature
from .space import SearchSpace
from .vetting import (
    Trial,
    broken_promise,
    faults,
    outputs,
    same_function,
    try_candidate,
    unseen_taps,
    wasted_windows,
)

if TYPE_CHECKING:
    import torch

__all__ = ["CHECKS", "Finding", "Report", "Severity", "check_space", "vet_operations"]

Severity = Literal["error", "warning", "note"]

CHECKS: Final = (
    "invalid", "disconnected", "never_active", "no_effect", "duplicate", "harmful", "unseen_window", "absent",
)  # fmt: skip
"""Names of the checks, in the order of the report."""

MAC_BUDGET: Final = 4_000_000_000
"""Multiply-accumulates that running sampled networks may take."""

SEEDS: Final = 4
"""Initialisations under which an output must not depend on its input before it is said not to."""

CONTEXTS: Final = 12
"""Architectures in which two values of a gene must compute the same before they are called so; some matter in few."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        check: one of `CHECKS`.
        severity: `error` where a search would be misled or fail, `warning` where it only wastes time, `note` where
            the space means it so.
        place: gene, block or architecture.
        message: what is wrong and what to do.
    """

    check: str
    severity: Severity
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
        samples: architectures whose Ops are listed; as many are built and run as `MAC_BUDGET` allows, the cheapest
            first and at least two.
        seed: of the sample.
    """
    rng = np.random.default_rng(seed)
    genomes = np.concatenate([space.smallest()[None], space.largest()[None], space.sample(max(samples - 2, 0), rng)])
    findings: list[Finding] = []
    windows: dict[str, Finding] = {}
    costs: list[tuple[int, int]] = []
    for number, genome in enumerate(genomes):
        try:
            ops = space.ops(space.decode(genome))
        except SpaceError as error:
            findings.append(_invalid(space, genome, str(error)))
            continue
        windows |= {finding.place: finding for finding in _windows(ops)}
        costs.append((5 * sum(op.macs for op in ops), number))
    costs.sort()
    spent = np.cumsum([cost for cost, _ in costs])
    networks = max(int((spent <= MAC_BUDGET).sum()), min(len(costs), 2))
    for _, number in costs[:networks]:
        findings += _run(space, genomes[number])
    findings += _never_active(space, rng)
    findings += _compare_values(space, rng)
    vetted = vet_operations(space)
    found = _once([*findings, *vetted[1], *windows.values()])
    return Report(space.name, space.identity, space.size, len(costs), networks, vetted[0], found)


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
    # Narrow layers may all be cut off by their activations at first: that is luck, where another seed does better.
    networks = itertools.chain([network], (space.network(architecture, seed=seed) for seed in range(1, SEEDS)))
    if not any(_depends(outputs(each, inputs, training=False)) for each in networks):
        message = f"its output does not depend on its input: nothing connects them. Its choices: {choices}."
        yield Finding("disconnected", "error", architecture.key, message)


def _depends(y: torch.Tensor) -> bool:
    """Whether outputs differ from input to input."""
    return float(y.std(dim=0).mean()) > 1e-6 * float(y.abs().mean())


def _windows(ops: tuple[Op, ...]) -> Iterator[Finding]:
    """Convolutions most of whose window lies outside the image wherever it stands."""
    for op in ops:
        unseen, taps = unseen_taps(op)
        if 2 * unseen >= taps > 1:
            message = (
                f"{unseen} of {taps} taps of its window never meet the image {op.inputs[0].shape[1:]}: they see "
                "nothing but padding. Use a smaller kernel or dilation there."
            )
            # With the centre alone left, a spread window computes what a 1x1 one can.
            left = op.attributes["dilation"] == 1 or taps - unseen > 1
            yield Finding("unseen_window", "warning" if left else "error", op.name, message)
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
    if first.key == second.key:
        return True
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


def vet_operations(space: SearchSpace) -> tuple[int, list[Finding]]:
    """Try every operation that the space lists alone, once for each thing it does; seconds, without whole networks.

    Returns:
        How many were tried, and what is wrong with them.
    """
    trials: dict[Hashable, Trial] = {}
    options: dict[str, dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    findings: list[Finding] = []
    for candidate in space.candidates():
        key = candidate.key or (candidate.label, candidate.shape, candidate.choice and candidate.place)
        first = key not in trials
        if first:
            try:
                trials[key] = try_candidate(candidate)
            except (SpaceError, RuntimeError) as error:
                message = f"{candidate.label}: cannot be run on an input {candidate.shape}: {error}"
                findings.append(Finding("invalid", "error", candidate.place, message))
                continue
        if candidate.choice:
            options[candidate.place][candidate.label].append(trials[key])
        if first and (candidate.means or not candidate.choice):  # else its parts are candidates themselves
            findings += _judge(candidate, trials[key])
    for place, tried in options.items():
        findings += _alike(place, tried)
    return len(trials), findings


def _judge(candidate: Candidate, trial: Trial) -> Iterator[Finding]:
    """What is wrong with one operation, against what it is offered as."""

    def finding(check: str, message: str, severity: Severity = "error") -> Finding:
        return Finding(check, severity, candidate.place, f"{candidate.label}: {message}.")

    if broken := broken_promise(trial, candidate.means):
        yield finding("harmful", broken)
    if broken or candidate.means in {"", "work"}:
        for fault in faults(trial):
            yield finding("harmful", fault)
    elif candidate.means == "nothing":
        yield finding("absent", "passes nothing on, which is what the space offers it as: an edge left out", "note")
    if candidate.means:  # else its Ops have told
        for check, message, total in wasted_windows(trial):
            yield finding(check, message, "error" if total else "warning")


def _alike(place: str, tried: Mapping[str, Sequence[Trial]]) -> Iterator[Finding]:
    """Options of one choice that do the same wherever they stand."""
    labels = list(tried)
    same = {
        (a, b)
        for a, b in itertools.combinations(range(len(labels)), 2)
        if all(itertools.starmap(same_function, zip(tried[labels[a]], tried[labels[b]], strict=False)))
    }
    for group in _groups(len(labels), same):
        yield from _duplicates(Gene(place, tuple(labels)), [labels[member] for member in group])
