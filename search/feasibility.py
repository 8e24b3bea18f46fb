"""Can the constraints be met at all? Answered within seconds, before anything is trained.

Only known quantities take part: what needs an evaluation cannot be promised. Small spaces are answered exactly; larger
ones by steepest descent over single-gene changes from several starts, all starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import InfeasibleError
from ..spaces.space import SearchSpace
from .enumeration import every_genome
from .problem import Constraint, Population, Problem

__all__ = ["check_feasible"]

ENUMERABLE: Final = 1 << 16
SAMPLE: Final = 2048
STARTS: Final = 8
STEPS: Final = 200
KICKS: Final = 4
"""How often descents are started anew from mutants of where they ended, in case that was a local minimum."""

Score = Callable[[Population], NDArray[np.float64]]
"""[B, G] genomes -> [B], smaller is better."""


def check_feasible(problem: Problem, rng: np.random.Generator) -> None:
    """Return where the known constraints can all hold; else say which cannot, and how close one gets.

    Raises:
        InfeasibleError: names each constraint that no architecture meets with the tightest value found, or, where each
            can be met alone, all of them with the values of the best compromise.
    """
    constraints = [constraint for constraint in problem.constraints if constraint.label in problem.known]
    if not constraints:
        return
    joint = _total(problem, constraints)
    best = _minimise(problem.space, joint, rng, target=0.0)
    if joint(best[None])[0] <= 0:
        return
    impossible = []
    for constraint in constraints:
        tightest = _tightest(problem, constraint, rng)
        if constraint.violation(np.array([tightest]))[0] > 0:
            impossible.append(f"{constraint} (the tightest value reachable is {tightest:g})")
    if impossible:
        raise InfeasibleError(
            f"No architecture of space {problem.space.name!r} satisfies {' nor '.join(impossible)}. "
            "Loosen the bound to at least that value, or choose a space with such architectures."
        )
    reached = ", ".join(f"{item.label} = {problem.known[item.label](best[None])[0]:g}" for item in constraints)
    wanted = " and ".join(str(constraint) for constraint in constraints)
    raise InfeasibleError(
        f"No architecture of space {problem.space.name!r} was found that satisfies {wanted} together, though each can "
        f"be met alone; the closest has {reached}. Loosen one of the bounds."
    )


def _total(problem: Problem, constraints: Sequence[Constraint]) -> Score:
    def score(genomes: Population) -> NDArray[np.float64]:
        return np.sum([item.violation(problem.known[item.label](genomes)) for item in constraints], axis=0)

    return score


def _tightest(problem: Problem, constraint: Constraint, rng: np.random.Generator) -> float:
    """The lowest (for ``<=``) or highest value of the constrained quantity that is found."""
    sign = 1.0 if constraint.operator == "<=" else -1.0
    quantity = problem.known[constraint.label]

    def score(genomes: Population) -> NDArray[np.float64]:
        values = sign * quantity(genomes)
        return np.where(np.isnan(values), np.inf, values)

    return float(quantity(_minimise(problem.space, score, rng, target=-np.inf)[None])[0])


def _minimise(space: SearchSpace, score: Score, rng: np.random.Generator, target: float) -> NDArray[np.int16]:
    """[G] the genome of the lowest score found; stops early at `target`."""
    if space.size <= ENUMERABLE:
        genomes = every_genome(space)
        return genomes[score(genomes).argmin()]
    pool = np.concatenate([np.stack([space.smallest(), space.largest()]), space.sample(SAMPLE, rng)])
    values = score(pool)
    order = np.argsort(values, kind="stable")[:STARTS]
    genomes, values = pool[order], values[order]
    for kick in range(KICKS):
        if values.min() <= target:
            break
        if kick:
            starts = space.mutate(genomes, rng, 0.3)
            ends, reached = _descend(space, score, starts, target)
            better = reached < values
            genomes[better], values[better] = ends[better], reached[better]
        else:
            genomes, values = _descend(space, score, genomes, target)
    return genomes[values.argmin()]


def _descend(
    space: SearchSpace, score: Score, genomes: Population, target: float
) -> tuple[Population, NDArray[np.float64]]:
    """Steepest descent over single-gene changes from every row of `genomes` at once."""
    genomes = genomes.copy()
    values = score(genomes)
    moving = np.arange(len(genomes))
    for _ in range(STEPS):
        if not len(moving) or values.min() <= target:
            break
        around = [space.neighbors(genomes[row]) for row in moving]
        scores = score(np.concatenate(around))
        moved = []
        first = 0
        for row, part in zip(moving, around, strict=True):
            near = scores[first : first + len(part)]
            first += len(part)
            if len(part) and near.min() < values[row]:
                genomes[row], values[row] = part[near.argmin()], near.min()
                moved.append(row)
        moving = np.array(moved, dtype=np.intp)
    return genomes, values
