"""Members: what population-based strategies remember about evaluated genomes, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..pareto import crowding, rank, total_violation
from ..problem import Population, Problem
from ..strategy import Results

__all__ = ["Members"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Successfully evaluated genomes. Notation: B members, G genes, M objectives.

    Attributes:
        genomes: [B, G] int16.
        values: [B, M] float64, minimised.
        violation: [B] float64, summed over constraints.
        numbers: [B] int64 trial numbers, in the order the strategy was told.
    """

    genomes: Population
    values: NDArray[np.float64]
    violation: NDArray[np.float64]
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.genomes)

    @classmethod
    def none(cls, problem: Problem) -> Members:
        """No members, with the column shapes of `problem`."""
        return cls(
            genomes=np.empty((0, len(problem.space.genes)), dtype=np.int16),
            values=np.empty((0, len(problem.objectives))),
            violation=np.empty(0),
            numbers=np.empty(0, dtype=np.int64),
        )

    @classmethod
    def successful(cls, results: Results, numbers: NDArray[np.int64]) -> Members:
        """The rows of `results` with status OK; whatever failed teaches nothing about its values."""
        violation = total_violation(results.violations)
        if (ok := results.ok).all():
            return cls(genomes=results.genomes, values=results.values, violation=violation, numbers=numbers)
        return cls(genomes=results.genomes[ok], values=results.values[ok], violation=violation[ok], numbers=numbers[ok])

    @classmethod
    def join(cls, parts: list[Members]) -> Members:
        """Stack members in order; at least one part."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{item.name: np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(cls)})

    def take(self, index: NDArray[np.intp] | slice) -> Members:
        """The members at `index`, in that order."""
        return Members(
            genomes=self.genomes[index],
            values=self.values[index],
            violation=self.violation[index],
            numbers=self.numbers[index],
        )

    def best_first(self, n: int) -> NDArray[np.intp]:
        """[n] indices of the best n members: by constraint-domination rank, then the less crowded first."""
        ranks = rank(self.values, self.violation)
        # Fronts behind the one that fills the n need no crowding distance.
        last = ranks.max(initial=0) if n >= len(ranks) else np.partition(ranks, n - 1)[n - 1]
        rows = np.flatnonzero(ranks <= last)
        distance = crowding(self.values[rows], ranks[rows])
        return rows[np.lexsort((-distance, ranks[rows]))[:n]]

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """The columns under ``<prefix>.<name>``, for a strategy's state."""
        return {f"{prefix}.{item.name}": getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_arrays(cls, prefix: str, arrays: Mapping[str, NDArray[np.generic]]) -> Members:
        """Inverse of `arrays`."""
        return cls(**{item.name: arrays[f"{prefix}.{item.name}"] for item in fields(cls)})  # type: ignore[arg-type]
