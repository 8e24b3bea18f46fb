"""Bounded repair: move infeasible genomes towards the known constraints, a few mutations at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..pareto import total_violation
from ..problem import Population, Problem

__all__ = ["repair"]


def repair(
    problem: Problem, genomes: Population, rng: np.random.Generator, *, rounds: int = 12, brood: int = 8
) -> tuple[Population, NDArray[np.float64]]:
    """Replace infeasible genomes by mutants that violate the known constraints less.

    Each round draws `brood` mutants of every genome that is still infeasible and keeps the best of them where it is
    better than its parent. A feasible genome is returned as it is.

    Args:
        problem: its known quantities decide; other constraints cannot be repaired before evaluation.
        genomes: [B, G] canonical.
        rng: source of randomness; not touched where all genomes are feasible.
        rounds: rounds at most.
        brood: mutants per genome and round.

    Returns:
        [B, G] canonical genomes and [B] their total violation of known constraints, 0 = feasible.
    """
    total = total_violation(problem.known_violations(genomes))
    bad = np.flatnonzero(~(total <= 0))
    if not len(bad):
        return genomes, total
    genomes, total = genomes.copy(), total.copy()
    for _ in range(rounds):
        mutants = problem.space.mutate(np.repeat(genomes[bad], brood, axis=0), rng)
        violation = total_violation(problem.known_violations(mutants)).reshape(len(bad), brood)
        best = violation.argmin(axis=1)
        row = np.arange(len(bad))
        better = violation[row, best] < total[bad]
        genomes[bad[better]] = mutants.reshape(len(bad), brood, -1)[row[better], best[better]]
        total[bad[better]] = violation[row[better], best[better]]
        bad = bad[total[bad] > 0]
        if not len(bad):
            break
    return genomes, total
