"""The conformance kit of strategies: inherit `StrategyKit` and say how to build one."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

import numpy as np

from archsmith.search.evaluators import CompositeEvaluator, Known, Measured
from archsmith.search.problem import Constraint, Objective, Problem
from archsmith.search.strategy import (
    FULL_FIDELITY,
    Proposals,
    Results,
    Strategy,
    StrategyState,
    TrialStatus,
)
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.space import GeneSpace, SearchSpace

__all__ = ["StrategyKit", "evaluate", "toy_problem", "toy_space"]


def toy_space(genes: int = 12) -> SearchSpace:
    """Genes of four choices, the last third active only when the first gene says so."""
    conditional = genes - genes // 3
    return GeneSpace(
        [
            Gene(f"g{index}", (0, 1, 2, 3), kind="ordered", when=(When("g0", (2, 3)),) if index >= conditional else ())
            for index in range(genes)
        ],
        name="toy",
    )


def toy_problem(space: SearchSpace, bound: float | None = None) -> Problem:
    """Quality against size, of which size is known and may be bounded."""

    def size(genomes):
        return genomes.sum(axis=1).astype(np.float64)

    def quality(genomes):
        return np.sqrt(genomes).sum(axis=1) - 0.3 * (genomes[:, 1:] != genomes[:, :-1]).sum(axis=1)

    return Problem(
        space=space,
        objectives=(Objective(name="quality", direction="max"), Objective(name="size", direction="min")),
        constraints=() if bound is None else (Constraint(name="size", bound=bound),),
        known={"size": size, "quality": quality},
    )


def evaluate(problem: Problem, proposals, failing=None) -> Results:
    """Evaluate by the problem's own quantities; `failing` [B] rows fail."""
    ok = np.ones(len(proposals), dtype=bool) if failing is None else ~failing
    first = problem.objectives[0].label

    def measure(proposals):
        values = problem.known[first](proposals.genomes)
        return Measured(values, np.zeros(len(values)), ok, "measured:test")

    columns = {item.label: Known(problem.known[item.label], "predicted:test") for item in problem.objectives}
    return CompositeEvaluator(problem, {**columns, first: measure}).evaluate(proposals)


def _bits(numbers: np.ndarray) -> np.ndarray:
    """Doubles as integers that are equal where the doubles are, to stand beside keys."""
    return np.ascontiguousarray(numbers, dtype=np.float64).view(np.uint64)


class StrategyKit(ABC):
    """What the contract promises. Subclasses provide `build(problem, seed)`.

    Where `multi_fidelity` is true, a genome may come back, but never at the same fidelity.
    """

    multi_fidelity = False

    @abstractmethod
    def build(self, problem: Problem, seed: int) -> Strategy:
        """A new strategy."""

    def drive(self, strategy: Strategy, problem: Problem, sizes: list[int]) -> np.ndarray:
        return self.proposals(strategy, problem, sizes).genomes

    def proposals(self, strategy: Strategy, problem: Problem, sizes: list[int]) -> Proposals:
        """Everything proposed in batches of these sizes, each told before the next."""
        parts = []
        for size in sizes:
            parts.append(strategy.ask(size))
            strategy.tell(evaluate(problem, parts[-1]))
        return Proposals(
            genomes=np.concatenate([part.genomes for part in parts]),
            fidelity=np.concatenate([part.fidelity for part in parts]),
            parents=np.concatenate([part.parents for part in parts]),
        )

    def test_proposals_are_canonical_and_new(self):
        problem = toy_problem(toy_space())
        strategy = self.build(problem, 1)
        proposals = self.proposals(strategy, problem, [16, 1, 7] * 30)
        genomes, keys = proposals.genomes, problem.space.keys(proposals.genomes)
        assert genomes.dtype == np.int16
        assert len(genomes) == 24 * 30
        np.testing.assert_array_equal(problem.space.canonical(genomes), genomes)
        assert ((proposals.fidelity > 0) & (proposals.fidelity <= FULL_FIDELITY)).all()
        assert (proposals.fidelity == FULL_FIDELITY).any()
        assert (proposals.fidelity < FULL_FIDELITY).any() == self.multi_fidelity
        assert len(np.unique(np.column_stack([keys, _bits(proposals.fidelity)]), axis=0)) == len(genomes)

    def test_resume_through_json_gives_the_same_sequence(self):
        problem = toy_problem(toy_space(), bound=14.0)
        whole, stopped = self.build(problem, 2), self.build(problem, 2)
        self.drive(whole, problem, [16] * 8)
        self.drive(stopped, problem, [16] * 8)
        state = stopped.state()
        self.drive(stopped, problem, [5])  # what happens after the checkpoint is lost with the process
        arrays = {name: array.copy() for name, array in state.arrays.items()}
        resumed = self.build(problem, 99)
        resumed.restore(StrategyState(scalars=json.loads(json.dumps(state.scalars)), arrays=arrays))
        for size in (16, 3, 40):
            expected, got = whole.ask(size), resumed.ask(size)
            np.testing.assert_array_equal(got.genomes, expected.genomes)
            np.testing.assert_array_equal(got.fidelity, expected.fidelity)
            np.testing.assert_array_equal(got.parents, expected.parents)
            whole.tell(evaluate(problem, expected))
            resumed.tell(evaluate(problem, got))

    def test_taking_the_state_changes_nothing(self):
        problem = toy_problem(toy_space())
        quiet, watched = self.build(problem, 3), self.build(problem, 3)
        for _ in range(12):
            expected, got = quiet.ask(10), watched.ask(10)
            watched.state()
            np.testing.assert_array_equal(got.genomes, expected.genomes)
            for part in (slice(0, 4), slice(4, 10)):
                quiet.tell(evaluate(problem, expected).rows(part))
                watched.tell(evaluate(problem, got).rows(part))
                watched.state()

    def test_known_constraints_hold_for_every_proposal(self):
        problem = toy_problem(toy_space(), bound=6.0)
        genomes = self.drive(self.build(problem, 4), problem, [20] * 10)
        assert len(genomes) == 200
        assert (problem.known["size"](genomes) <= 6.0).all()

    def test_seed_decides(self):
        problem = toy_problem(toy_space())
        one, same, other = (self.drive(self.build(problem, seed), problem, [16] * 4) for seed in (5, 5, 6))
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)

    def test_failed_results_do_not_poison(self):
        problem = toy_problem(toy_space())
        strategy = self.build(problem, 7)
        rng = np.random.default_rng(0)
        for round_number in range(20):
            proposals = strategy.ask(16)
            assert len(proposals) == 16
            failing = np.ones(16, dtype=bool) if round_number < 2 else rng.random(16) < 0.5
            results = evaluate(problem, proposals, failing)
            assert (results.status == np.where(failing, TrialStatus.FAILED, TrialStatus.OK)).all()
            strategy.tell(results)
        arrays = strategy.state().arrays
        assert all(np.isfinite(array.astype(float)).all() for name, array in arrays.items() if "values" in name)

    def test_tiny_space_is_exhausted_then_nothing(self):
        space = GeneSpace([Gene("a", (0, 1, 2)), Gene("b", (0, 1), when=(When("a", (1, 2)),))], name="tiny")
        problem = toy_problem(space)
        strategy = self.build(problem, 8)
        proposals = self.proposals(strategy, problem, [2] * (20 if self.multi_fidelity else 4))
        assert space.size == 5
        for fidelity in np.unique(proposals.fidelity):
            at = proposals.genomes[proposals.fidelity == fidelity]
            assert len(np.unique(at, axis=0)) == len(at)
        assert (proposals.fidelity == FULL_FIDELITY).sum() == 5
        assert len(strategy.ask(4)) == 0

    def test_pending_genomes_are_not_proposed(self):
        space = GeneSpace([Gene("a", tuple(range(6)))], name="six")
        problem = toy_problem(space)
        strategy = self.build(problem, 9)
        pending = np.array([[1], [4]], dtype=np.int16)
        assert sorted(strategy.ask(6, pending).genomes[:, 0]) == [0, 2, 3, 5]
