"""Warm start: what earlier searches of the same space and task found is knowledge, not trials of the new search.

The members of the earlier fronts become the first trials: their evaluations are remembered, so they cost nothing, and
the new front starts with them. Everything else is told to the strategy before it proposes, and never counted. Only
values that had to be evaluated are taken over; costs are those of the new search, which may be for another device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ..pareto import nondominated_mask
from ..problem import Objective, Problem
from ..strategies.base import BaseStrategy
from ..strategy import Results, Strategy, TrialStatus

__all__ = ["EarlierSearch", "Knowledge", "gather", "teach"]

MOST_FIRST: Final = 32
"""Members of earlier fronts that become first trials, at most."""

SOURCE: Final = "predicted:earlier-search"
"""Source of knowledge; it is never recorded, as knowledge is no trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierSearch:
    """A search whose trials are to be known.

    Attributes:
        name: how errors and the report call it.
        space: identity of its space.
        evaluator: identity of what evaluated its trials; None where it was not recorded.
        objectives: of its values, in order.
        results: its trials, values minimised.
    """

    name: str
    space: str
    evaluator: str | None
    objectives: tuple[Objective, ...]
    results: Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What is known before the first trial.

    Attributes:
        first: [F, G] members of the earlier fronts, to be the first trials.
        rest: all other successful results of full fidelity, in the new problem's objectives.
        section: what the report says of it.
    """

    first: NDArray[np.int16]
    rest: Results
    section: dict[str, object]


def gather(problem: Problem, evaluator: str, earlier: Sequence[EarlierSearch]) -> Knowledge:
    """The knowledge of earlier searches, in terms of this problem; of equal genomes the first one counts.

    Args:
        problem: of the new search.
        evaluator: identity of what evaluates its trials.
        earlier: at least one search.

    Raises:
        ConfigError: a search of another space, evaluator or recipe, or without a quantity that must be evaluated.
    """
    told = Results.concatenate([_in_terms_of(problem, evaluator, search) for search in earlier])
    _, rows = np.unique(told.genomes, axis=0, return_index=True)
    told = told.rows(np.sort(rows).astype(np.int64))
    feasible = np.flatnonzero(told.feasible)
    front = feasible[nondominated_mask(told.values[feasible])][:MOST_FIRST]
    rest = np.setdiff1d(np.arange(len(told)), front)
    section = {
        "searches": [search.name for search in earlier],
        "results": len(told),
        "first_trials": len(front),
    }
    return Knowledge(first=told.genomes[front], rest=told.rows(rest), section=section)


def teach(strategy: Strategy, knowledge: Knowledge) -> None:
    """Tell a new strategy what is known, apart from the first trials, which it is told as such.

    Raises:
        ConfigError: the strategy learns from results of its own rungs only.
    """
    if not isinstance(strategy, BaseStrategy):
        raise ConfigError(
            "warm_start",
            f"searches for strategy {getattr(strategy, 'name', type(strategy).__name__)!r}",
            "a strategy that evaluates with full effort only",
            "Strategies of several fidelities learn from their own rungs.",
        )
    if len(knowledge.rest):
        strategy.know(knowledge.rest)


def _in_terms_of(problem: Problem, evaluator: str, search: EarlierSearch) -> Results:
    _check(problem, evaluator, search)
    results = search.results.rows(search.results.ok & (search.results.fidelity >= 1.0))
    natural = {
        objective.label: objective.sign * results.values[:, column]
        for column, objective in enumerate(search.objectives)
    }
    for item in (*problem.objectives, *problem.constraints):
        if item.label in problem.known:
            natural[item.label] = problem.known[item.label](results.genomes)
        elif item.label not in natural:
            raise ConfigError(
                "warm_start", search.name, f"searches with the objective {item.label}, which has to be evaluated"
            )
    values = np.stack([item.sign * natural[item.label] for item in problem.objectives], axis=1)
    violations = [item.violation(natural[item.label]) for item in problem.constraints]
    return Results(
        genomes=results.genomes,
        values=values,
        violations=np.stack(violations, axis=1) if violations else np.zeros((len(results), 0)),
        fidelity=results.fidelity,
        cost_s=np.zeros(len(results)),
        status=np.full(len(results), TrialStatus.OK, dtype=np.int8),
        sources=(SOURCE,) * len(problem.objectives),
    )


def _check(problem: Problem, evaluator: str, search: EarlierSearch) -> None:
    if search.space != problem.space.identity:
        raise ConfigError(
            "warm_start", search.name, f"searches of the same space, {problem.space.identity}",
            f"That one's is {search.space}: another family, preset or option.",
        )  # fmt: skip
    if search.evaluator != evaluator:
        told = "was not recorded" if search.evaluator is None else f"is {search.evaluator}"
        raise ConfigError(
            "warm_start", search.name, f"searches evaluated by the same task, recipe and seed, {evaluator}",
            f"That one's {told}; values of different evaluations are not comparable.",
        )  # fmt: skip
