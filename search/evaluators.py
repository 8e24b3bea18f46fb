"""Evaluators: from proposals to results, each column from a known quantity or from an expensive function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, StrategyError
from .problem import Population, Problem, Quantity
from .strategy import Proposals, Results, TrialStatus

__all__ = ["CompositeEvaluator", "Evaluator", "Known", "Measured", "Measurer"]


class Evaluator(Protocol):
    """Turns proposals into results, one row each, in order. What cannot be evaluated is a row with status FAILED."""

    def evaluate(self, proposals: Proposals) -> Results:
        """Evaluate every proposal."""
        ...


class Measured(NamedTuple):
    """What an expensive function returns for B proposals.

    Attributes:
        values: [B] in natural direction; anything where `ok` is False.
        seconds: [B] the evaluations took.
        ok: [B] whether they succeeded.
        source: ``measured:<instrument>`` or ``predicted:<method>``.
        errors: B causes of failure, None for a row without one; empty where no cause is known.
    """

    values: NDArray[np.float64]
    seconds: NDArray[np.float64]
    ok: NDArray[np.bool_]
    source: str
    errors: tuple[str | None, ...] = ()


Measurer = Callable[[Proposals], Measured]
"""B proposals -> `Measured`; for instance a pool that trains each genome at the share of effort its fidelity says."""


@dataclass(frozen=True, slots=True)
class Known:
    """A vectorised quantity that needs no evaluation, and the source its values are stored with."""

    quantity: Quantity
    source: str


class CompositeEvaluator:
    """Builds results column by column.

    Args:
        problem: objectives and constraints.
        columns: by label, how each objective (and each constrained quantity that is neither an objective nor known to
            the problem) is obtained. Each column is computed once, though both an objective and constraints may use it.

    Raises:
        ConfigError: an objective or a constraint has no column, or a column belongs to neither.
    """

    def __init__(self, problem: Problem, columns: Mapping[str, Known | Measurer]) -> None:
        self.problem = problem
        self.columns = dict(columns)
        objectives = [objective.label for objective in problem.objectives]
        constrained = [constraint.label for constraint in problem.constraints]
        for label in objectives:
            if label not in self.columns:
                raise ConfigError(f"objective {label}", label, f"a column for it; there are {sorted(self.columns)}")
        for label in constrained:
            if label not in self.columns and label not in problem.known:
                available = sorted({*self.columns, *problem.known})
                raise ConfigError(f"constraint on {label}", label, f"a known or evaluated quantity: {available}")
        if unused := sorted(set(self.columns) - {*objectives, *constrained}):
            raise ConfigError("columns", unused, f"labels of objectives and constraints: {objectives + constrained}")

    def evaluate(self, proposals: Proposals) -> Results:
        """Evaluate every proposal; a row fails where any of its columns fails or is not finite."""
        genomes = proposals.genomes
        count = len(genomes)
        natural: dict[str, NDArray[np.float64]] = {}
        sources: dict[str, str] = {}
        ok = np.ones(count, dtype=np.bool_)
        cost_s = np.zeros(count)
        causes: list[str | None] = [None] * count
        for label, column in self.columns.items():
            if isinstance(column, Known):
                values, sources[label] = column.quantity(genomes), column.source
            else:
                measured = column(proposals)
                sources[label] = measured.source
                ok &= measured.ok
                cost_s += measured.seconds
                values = np.where(measured.ok, measured.values, np.nan)
                causes = [old or new for old, new in zip(causes, measured.errors or causes, strict=True)]
            if values.shape != (count,):
                raise StrategyError(
                    f"column {label}: got shape {values.shape} for {count} genomes; expected ({count},)."
                )
            natural[label] = np.asarray(values, dtype=np.float64)
            for row in np.flatnonzero(ok & ~np.isfinite(natural[label])):
                causes[row] = f"{label} is not a finite number"
            ok &= np.isfinite(natural[label])
        objectives = [objective.label for objective in self.problem.objectives]
        values = self.problem.minimised(np.stack([natural[label] for label in objectives], axis=1))
        values[~ok] = np.nan
        return Results(
            genomes=genomes,
            values=values,
            violations=self._violations(genomes, natural),
            fidelity=proposals.fidelity,
            cost_s=cost_s,
            status=np.where(ok, TrialStatus.OK, TrialStatus.FAILED).astype(np.int8),
            sources=tuple(sources[label] for label in objectives),
            errors=None if ok.all() else tuple(causes),
        )

    def _violations(self, genomes: Population, natural: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        out = np.zeros((len(genomes), len(self.problem.constraints)))
        for column, constraint in enumerate(self.problem.constraints):
            values = natural.get(constraint.label)
            if values is None:
                values = self.problem.known[constraint.label](genomes)
            out[:, column] = constraint.violation(values)
        return out
