"""Infeasible constraints are named, with the tightest value reachable."""

from __future__ import annotations

import numpy as np
import pytest
from contracts.strategy_kit import toy_problem, toy_space

from archsmith.errors import InfeasibleError
from archsmith.search.enumeration import every_genome
from archsmith.search.feasibility import check_feasible
from archsmith.search.problem import Constraint, Objective, Problem


def problem_with(*constraints, genes=40):
    space = toy_space(genes)
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.5, 2.0, genes)
    known = {
        "size": lambda genomes: 3.0 + genomes @ weights,
        "strength": lambda genomes: (genomes * weights).sum(axis=1) ** 0.9,
    }
    return Problem(
        space=space, objectives=(Objective(name="size", direction="min"),), constraints=constraints, known=known
    )


def test_feasible_and_unknown_constraints_pass():
    check_feasible(problem_with(Constraint(name="size", bound=3.0)), np.random.default_rng(0))
    check_feasible(problem_with(Constraint(name="accuracy", bound=2.0, operator=">=")), np.random.default_rng(0))


@pytest.mark.parametrize("genes", [6, 40])
def test_infeasible_constraint_is_named_with_the_tightest_value(genes):
    with pytest.raises(InfeasibleError, match=r"size <= 2 \(the tightest value reachable is 3\)"):
        check_feasible(problem_with(Constraint(name="size", bound=2.0), genes=genes), np.random.default_rng(0))


def test_constraints_that_exclude_each_other_are_named_together():
    low, high = Constraint(name="size", bound=10.0), Constraint(name="strength", bound=30.0, operator=">=")
    with pytest.raises(InfeasibleError, match="size <= 10 and strength >= 30 together"):
        check_feasible(problem_with(low, high), np.random.default_rng(0))


def test_rare_feasible_genomes_are_found():
    low, high = Constraint(name="size", bound=20.0), Constraint(name="strength", bound=11.0, operator=">=")
    check_feasible(problem_with(low, high), np.random.default_rng(0))


def test_every_genome_lists_the_space_once():
    space = toy_problem(toy_space(6)).space
    genomes = every_genome(space)
    assert len(genomes) == space.size
    np.testing.assert_array_equal(space.canonical(genomes), genomes)
    assert len(np.unique(genomes, axis=0)) == space.size
