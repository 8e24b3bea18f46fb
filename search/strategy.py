"""The contract of strategies: propose genomes, learn from results, and resume as if never stopped.

Lifecycle. A strategy is built for one `Problem` and one seed. The study then alternates `ask` and `tell`:

- `ask(n, pending)` proposes up to n canonical genomes. It never repeats a genome that it proposed before; one of
  several fidelities never repeats it at the same fidelity. Where the space is exhausted it returns fewer than n, in the
  end none. Known constraints (`Problem.known_violations`) are enforced here: an infeasible genome is only proposed
  where the bounded repair found no feasible one.
- `tell(results)` delivers a *delta*: results not told before, in any grouping. Failed evaluations are told too.
- `state()` is everything that later behaviour depends on, random generator included; `restore(state)` on a strategy
  newly built with the same arguments continues with exactly the sequence that never stopping would have given.

Worked example: ``ask(4)`` -> evaluate -> ``tell`` (4 rows) -> ``ask(4)``; killed after the second ask, the study
restores the state stored with the first tell and asks again: the same four genomes come back.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import StrategyError

__all__ = ["FULL_FIDELITY", "Proposals", "Results", "Strategy", "StrategyState", "TrialStatus"]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


FULL_FIDELITY: Final = 1.0
"""What an evaluation with all of its effort has; only such trials enter a front."""


class TrialStatus(enum.IntEnum):
    """How an evaluation ended."""

    OK = 0
    FAILED = 1
    PRUNED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """What a strategy wants evaluated. Notation: B proposals, G genes.

    Attributes:
        genomes: [B, G] int16, canonical.
        fidelity: [B] float64 in (0, 1]: share of the full evaluation's effort.
        parents: [B] int64 trial numbers the proposals came from, -1 where there is none.
    """

    genomes: NDArray[np.int16]
    fidelity: NDArray[np.float64]
    parents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.genomes)

    def rows(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Proposals:
        """The chosen rows as new Proposals."""
        return Proposals(genomes=self.genomes[index], fidelity=self.fidelity[index], parents=self.parents[index])

    @classmethod
    def full(cls, genomes: NDArray[np.int16]) -> Proposals:
        """Proposals at full fidelity without recorded parents."""
        size = len(genomes)
        return cls(genomes=genomes, fidelity=np.ones(size), parents=np.full(size, -1, dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came of proposals. Notation: B rows, G genes, M objectives, C constraints.

    Attributes:
        genomes: [B, G] int16, canonical.
        values: [B, M] float64, minimised (directions already converted); NaN where `status` is not OK.
        violations: [B, C] float64, 0 = satisfied, else the excess relative to the bound.
        fidelity: [B] float64 in (0, 1].
        cost_s: [B] float64, seconds the evaluation took.
        status: [B] int8 of `TrialStatus`.
        sources: one per objective: ``measured:<instrument>`` or ``predicted:<method>``.
        errors: B causes of failure, None for a row without one; or None where no cause is known.
    """

    genomes: NDArray[np.int16]
    values: NDArray[np.float64]
    violations: NDArray[np.float64]
    fidelity: NDArray[np.float64]
    cost_s: NDArray[np.float64]
    status: NDArray[np.int8]
    sources: tuple[str, ...]
    errors: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        rows = len(self.genomes)
        lengths = {
            "values": len(self.values),
            "violations": len(self.violations),
            "fidelity": len(self.fidelity),
            "cost_s": len(self.cost_s),
            "status": len(self.status),
            "errors": rows if self.errors is None else len(self.errors),
        }
        if wrong := {name: size for name, size in lengths.items() if size != rows}:
            raise StrategyError(f"Results: {rows} genomes but {wrong}; every column needs one row per genome.")
        ok = self.status == TrialStatus.OK
        if not np.isfinite(self.values[ok]).all():
            raise StrategyError("Results: a row with status OK holds NaN or infinity; mark such rows FAILED.")

    def __len__(self) -> int:
        return len(self.genomes)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """[B] True where the evaluation succeeded."""
        return self.status == TrialStatus.OK

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """[B] True where it succeeded and no constraint is violated."""
        return self.ok & (self.violations <= 0).all(axis=1)

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """[B] True where the row may enter a front: feasible, and evaluated at full fidelity."""
        return self.feasible & (self.fidelity >= FULL_FIDELITY)

    def rows(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Results:
        """The chosen rows as new Results."""
        errors = None if self.errors is None else tuple(np.array(self.errors, dtype=object)[index].tolist())
        return Results(
            genomes=self.genomes[index],
            values=self.values[index],
            violations=self.violations[index],
            fidelity=self.fidelity[index],
            cost_s=self.cost_s[index],
            status=self.status[index],
            sources=self.sources,
            errors=errors,
        )

    @classmethod
    def concatenate(cls, parts: list[Results]) -> Results:
        """Stack Results that share their sources, in order; at least one part."""
        known = any(part.errors is not None for part in parts)
        return cls(
            genomes=np.concatenate([part.genomes for part in parts]),
            values=np.concatenate([part.values for part in parts]),
            violations=np.concatenate([part.violations for part in parts]),
            fidelity=np.concatenate([part.fidelity for part in parts]),
            cost_s=np.concatenate([part.cost_s for part in parts]),
            status=np.concatenate([part.status for part in parts]),
            sources=parts[0].sources,
            errors=tuple(cause for part in parts for cause in part.errors or (None,) * len(part)) if known else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyState:
    """A strategy's whole memory: JSON-able scalars (generator state included) and arrays, never a pickle."""

    scalars: Mapping[str, Json]
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


@runtime_checkable
class Strategy(Protocol):
    """Proposes genomes and learns from results; see the module for the lifecycle."""

    def ask(self, n: int, pending: NDArray[np.int16] | None = None) -> Proposals:
        """Propose up to `n` genomes; `pending` [P, G] are proposed elsewhere and not yet told."""
        ...

    def tell(self, results: Results) -> None:
        """Learn from results not told before."""
        ...

    def state(self) -> StrategyState:
        """Everything that later behaviour depends on."""
        ...

    def restore(self, state: StrategyState) -> None:
        """Continue from `state`; raises StrategyError if it belongs to another space or strategy."""
        ...
