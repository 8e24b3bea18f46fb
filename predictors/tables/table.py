"""A benchmark table: what others measured of the architectures of a space, looked up for whole populations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, PredictorError
from ...spaces.digest import digest_rows
from ...spaces.space import SearchSpace

__all__ = ["ACCURACY", "SOURCE", "TEST_ACCURACY", "Column", "Table"]

ACCURACY: Final = "accuracy"
TEST_ACCURACY: Final = "test_accuracy"
"""Accuracy on data that no search may look at; only `verify` reads it."""

SOURCE: Final = "measured:table"


@runtime_checkable
class HasTopology(Protocol):
    """A space whose benchmark counts architectures by a rule of its own."""

    def topology_keys(self, genomes: NDArray[np.int16]) -> NDArray[np.uint64]:
        """[B, 2] digests."""
        ...


LookUpBy = Literal["genome", "topology"]


@dataclass(frozen=True, slots=True)
class Column:
    """One quantity of every row.

    Attributes:
        values: [N, E] float64, NaN where nothing was measured.
        fidelities: [E] ascending shares of the full effort in (0, 1], the last of them 1.
    """

    values: NDArray[np.float64]
    fidelities: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))

    @classmethod
    def of(cls, values: NDArray[np.generic], fidelities: Sequence[float] = (1.0,)) -> Column:
        """[N] or [N, E] numbers of any type as a column."""
        numbers = np.asarray(values, dtype=np.float64)
        return cls(numbers[:, None] if numbers.ndim == 1 else numbers, np.asarray(fidelities, dtype=np.float64))


class Table:
    """Measured quantities by architecture.

    Notation: N rows, G genes, B genomes asked for, E fidelities.

    Args:
        space: whose genomes the rows are.
        genomes: [N, G]; rows of one architecture are repeats, and their mean counts.
        columns: by label (``accuracy`` in [0, 1], ``latency_ms@pixel3``, ``macs``).
        name: for messages.
        by: what a row stands for: one genome, or every genome of one topology key.

    Raises:
        PredictorError: no rows, columns of another length, or genomes that are not of the space.
    """

    def __init__(
        self,
        space: SearchSpace,
        genomes: NDArray[np.int16],
        columns: Mapping[str, Column],
        *,
        name: str,
        by: LookUpBy = "genome",
    ) -> None:
        if not len(genomes):
            raise PredictorError(f"table {name}: it has no rows; give it at least one architecture.")
        for label, column in columns.items():
            if column.values.shape != (len(genomes), len(column.fidelities)):
                raise PredictorError(
                    f"table {name}, column {label}: got values of shape {column.values.shape} for {len(genomes)} rows "
                    f"and {len(column.fidelities)} fidelities."
                )
        self.space = space
        self.name = name
        self.by: LookUpBy = by
        canonical = space.canonical(np.ascontiguousarray(genomes, dtype=np.int16))
        digests, first, group = np.unique(self._digests(canonical), return_index=True, return_inverse=True)
        self._sorted = digests
        self.genomes = canonical[first]
        self.columns = {label: _mean_of_repeats(column, group, len(first)) for label, column in columns.items()}

    def __len__(self) -> int:
        return len(self.genomes)

    def rows(self, genomes: NDArray[np.int16]) -> NDArray[np.int64]:
        """[B] row of every canonical genome [B, G], -1 where the table has none."""
        digests = self._digests(genomes)
        place = np.searchsorted(self._sorted, digests).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[place] == digests, place, -1)

    def values(
        self, label: str, genomes: NDArray[np.int16], fidelity: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """[B] a quantity in its natural unit, NaN where it was not measured.

        Args:
            label: one of `columns`.
            genomes: [B, G] canonical.
            fidelity: [B] shares of the full effort; the last measured point at or before each, the first one where none
                is. None = full effort.

        Raises:
            ConfigError: no such column.
        """
        column = self.columns.get(label)
        if column is None:
            raise ConfigError(f"table {self.name}, column", label, ", ".join(sorted(self.columns)))
        rows = self.rows(genomes)
        if fidelity is None:
            point = np.full(len(genomes), len(column.fidelities) - 1)
        else:
            point = np.searchsorted(column.fidelities, np.asarray(fidelity) + 1e-9, side="right") - 1
        return np.where(rows >= 0, column.values[rows, point.clip(min=0)], np.nan)

    def _digests(self, genomes: NDArray[np.int16]) -> NDArray[np.uint64]:
        """[B] the first half of the digest: 64 bits tell a million rows apart with odds of 1 in 10^7 of an error."""
        if self.by == "topology":
            assert isinstance(self.space, HasTopology)
            return np.ascontiguousarray(self.space.topology_keys(genomes)[:, 0])
        return np.ascontiguousarray(digest_rows(genomes, "table")[:, 0])


def _mean_of_repeats(column: Column, group: NDArray[np.int64], count: int) -> Column:
    """The mean over the rows of each group, of those that were measured."""
    if count == len(group):
        order = np.empty(count, dtype=np.int64)
        order[group] = np.arange(count)
        return Column(column.values[order], column.fidelities)
    there = np.isfinite(column.values)
    total = np.zeros((count, column.values.shape[1]))
    seen = np.zeros_like(total)
    np.add.at(total, group, np.where(there, column.values, 0.0))
    np.add.at(seen, group, there)
    return Column(np.divide(total, seen, out=np.full_like(total, np.nan), where=seen > 0), column.fidelities)
