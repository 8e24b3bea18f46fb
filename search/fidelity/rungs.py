"""Rungs: who was evaluated at which share of the full effort, who is best there, and who goes on.

One table serves every multi-fidelity method. Successive halving, Hyperband and its deepening forms ask it for the
`best` of a finished rung, promotion-type ASHA for whom it finds `promotable` now, and stopping-type ASHA whether it
`keeps` a candidate that has just reached a rung. "Better" means one thing everywhere: constraint-domination rank first,
then the hypervolume that a candidate contributes to its front. With one objective and no constraint that is the value.

Notation: N candidates, K rungs, M objectives (minimised), C constraints.

Source: Jamieson and Talwalkar, AISTATS 2016, https://arxiv.org/abs/1502.07943 (successive halving); Li et al., MLSys
2020, https://arxiv.org/abs/1810.05934 (ASHA); order within a front by least hypervolume contribution after Beume,
Naujoks and Emmerich, "SMS-EMOA", European Journal of Operational Research 181(3), 2007.
"""

from __future__ import annotations

import enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..pareto import rank, reference_point
from ..problem import Population
from ..strategy import FULL_FIDELITY, Json, StrategyState

__all__ = ["Rungs", "Stage", "best_first", "ladder"]

Ids = NDArray[np.int64]
"""Numbers of candidates, in the order they were added."""

_STEPS: Final = 64
"""A front is put in order in at most about so many eliminations, each of one candidate where it is short."""


class Stage(enum.IntEnum):
    """What became of a candidate at a rung."""

    ABSENT = 0
    PENDING = 1
    OK = 2
    FAILED = 3


def ladder(eta: int, rungs: int) -> NDArray[np.float64]:
    """[K] fidelities, each `eta` times the one before, the last one full.

    Raises:
        StrategyError: eta below 2 or no rung.

    >>> ladder(2, 3).tolist()
    [0.25, 0.5, 1.0]
    """
    if eta < 2 or not 1 <= rungs <= 20:
        raise StrategyError(f"rungs: got eta {eta} and {rungs} rungs; eta must be at least 2, with 1 to 20 rungs.")
    return np.array([FULL_FIDELITY / eta ** (rungs - 1 - rung) for rung in range(rungs)])


def best_first(
    values: NDArray[np.float64], violations: NDArray[np.float64] | None = None, *, count: int | None = None
) -> NDArray[np.intp]:
    """The rows with the best values, best first.

    Args:
        values: [B, M] finite.
        violations: [B, C], 0 = satisfied; None = all feasible.
        count: how many rows are wanted; None = all.

    Returns:
        [count] rows by constraint-domination rank. Within a rank, whoever contributes least hypervolume is eliminated
        first, again and again, and comes last; equal rows stay in the order given.

    >>> best_first(np.array([[3.0], [1.0], [2.0]])).tolist()
    [1, 2, 0]
    """
    count = len(values) if count is None else min(count, len(values))
    if values.shape[1] == 1 and (violations is None or not (violations > 0).any()):
        return np.argsort(values[:, 0], kind="stable")[:count]
    ranks = rank(values, violations)
    order = np.argsort(ranks, kind="stable")
    if values.shape[1] == 1:
        return order[:count]
    parts, found = list[NDArray[np.intp]](), 0
    begins = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    for front in np.split(order, begins[1:]):
        if found >= count:
            break
        parts.append(front[_by_contribution(values[front])])
        found += len(front)
    return np.concatenate(parts)[:count] if parts else order


def _by_contribution(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """[F] rows of one front [F, M], what contributes most first."""
    import moocore

    if len(values) < 2:
        return np.arange(len(values))
    reference = reference_point(values)
    left, last = np.arange(len(values)), list[NDArray[np.intp]]()
    while len(left) > 1:
        contribution = np.asarray(moocore.hv_contributions(values[left], ref=reference))
        # Of equal ones, for instance two of the same value, the later one goes first.
        worst = np.lexsort((-left, contribution))[: max(1, len(values) // _STEPS)]
        last.append(left[worst])
        left = np.delete(left, worst)
    return np.concatenate([*last, left])[::-1]


class Rungs:
    """What is known of every candidate at every rung.

    Args:
        genes: G, columns of a genome.
        objectives: M.
        constraints: C.
        eta: one in so many goes on.
        rungs: K.

    Attributes:
        fidelities: [K] ascending, the last one 1.

    >>> table = Rungs(1, 1, 0, eta=2, rungs=2)
    >>> first = table.add(np.array([[5], [6]], dtype=np.int16))
    >>> table.start(first, 0)
    >>> none = np.empty((2, 0))
    >>> table.record(first, 0, np.array([[0.3], [0.1]]), none, ok=np.ones(2, dtype=bool), numbers=np.arange(2))
    >>> table.genomes[table.promotable(0)].tolist()
    [[6]]
    """

    def __init__(self, genes: int, objectives: int, constraints: int, *, eta: int, rungs: int) -> None:
        self.eta = eta
        self.fidelities = ladder(eta, rungs)
        self._columns = {
            "genomes": np.zeros((64, genes), dtype=np.int16),
            "values": np.zeros((64, rungs, objectives)),
            "violations": np.zeros((64, rungs, constraints)),
            "stage": np.zeros((64, rungs), dtype=np.int8),
            "numbers": np.full((64, rungs), -1, dtype=np.int64),
        }
        self._size = 0
        self._ids: dict[bytes, int] = {}

    def __len__(self) -> int:
        return self._size

    # --- what is known --------------------------------------------------------------------------------------------

    @property
    def genomes(self) -> Population:
        """[N, G] of every candidate."""
        return self._columns["genomes"][: self._size]

    @property
    def values(self) -> NDArray[np.float64]:
        """[N, K, M], 0 where `stage` is not OK."""
        return self._columns["values"][: self._size]

    @property
    def violations(self) -> NDArray[np.float64]:
        """[N, K, C], 0 where `stage` is not OK."""
        return self._columns["violations"][: self._size]

    @property
    def stage(self) -> NDArray[np.int8]:
        """[N, K] of `Stage`."""
        return self._columns["stage"][: self._size]

    @property
    def numbers(self) -> Ids:
        """[N, K] trial numbers of the results, -1 where there is none."""
        return self._columns["numbers"][: self._size]

    def finished(self, rung: int) -> NDArray[np.bool_]:
        """[N] whether a candidate has a result at a rung, failures among them."""
        return self.stage[:, rung] >= Stage.OK

    def ids(self, genomes: Population) -> Ids:
        """[B] candidates with these genomes, -1 where there is none."""
        return np.array([self._ids.get(genome.tobytes(), -1) for genome in genomes], dtype=np.int64)

    def rung_at(self, fidelity: float) -> int:
        """The highest rung that an evaluation of this fidelity counts for; -1 where it is below the lowest."""
        return int(np.searchsorted(self.fidelities, fidelity * (1 + 1e-9), side="right")) - 1

    # --- what happens ---------------------------------------------------------------------------------------------

    def add(self, genomes: Population) -> Ids:
        """[B] numbers of new candidates; genomes that are there already keep theirs."""
        out = np.empty(len(genomes), dtype=np.int64)
        for row, genome in enumerate(genomes):
            out[row] = self._ids.setdefault(genome.tobytes(), len(self._ids))
        self._reserve(len(self._ids))
        self._size = len(self._ids)
        self.genomes[out] = genomes
        return out

    def start(self, ids: Ids, rung: int | Ids) -> None:
        """Candidates are about to be evaluated at a rung (one each, where `rung` is [B])."""
        self.stage[ids, rung] = Stage.PENDING

    def record(
        self,
        ids: Ids,
        rung: int | Ids,
        values: NDArray[np.float64],
        violations: NDArray[np.float64],
        *,
        ok: NDArray[np.bool_],
        numbers: Ids,
    ) -> None:
        """Keep results: values [B, M] and violations [B, C] where `ok` [B], and their trial numbers [B]."""
        at = np.broadcast_to(rung, ids.shape)
        self.stage[ids, at] = np.where(ok, Stage.OK, Stage.FAILED)
        self.values[ids[ok], at[ok]] = values[ok]
        self.violations[ids[ok], at[ok]] = violations[ok]
        self.numbers[ids, at] = numbers

    # --- who goes on ----------------------------------------------------------------------------------------------

    def best(self, ids: Ids, rung: int, count: int) -> Ids:
        """The `count` best of those candidates that succeeded at a rung, best first; fewer where fewer did."""
        ids = ids[self.stage[ids, rung] == Stage.OK]
        return ids[best_first(self.values[ids, rung], self.violations[ids, rung], count=count)]

    def promotable(self, rung: int) -> Ids:
        """Candidates in the best 1/eta of all results at a rung that were not yet started at the next, best first."""
        finished = np.flatnonzero(self.finished(rung))
        if rung + 1 >= len(self.fidelities) or len(finished) < self.eta:
            return finished[:0]
        best = self.best(finished, rung, len(finished) // self.eta)
        return best[self.stage[best, rung + 1] == Stage.ABSENT]

    def stopped(self, rung: int, count: int) -> Ids:
        """The `count` best of those whose way ended at a rung below the last."""
        if rung + 1 >= len(self.fidelities):
            return np.empty(0, dtype=np.int64)
        here = (self.stage[:, rung] == Stage.OK) & (self.stage[:, rung + 1] == Stage.ABSENT)
        return self.best(np.flatnonzero(here), rung, count)

    def keeps(self, candidate: int, rung: int) -> bool:
        """Whether a candidate that has its result at a rung may train on: among the best 1/eta, or too few results."""
        finished = np.flatnonzero(self.finished(rung))
        if len(finished) < self.eta:
            return bool(self.stage[candidate, rung] == Stage.OK)
        return candidate in self.best(finished, rung, len(finished) // self.eta)

    # --- state ----------------------------------------------------------------------------------------------------

    def state(self) -> StrategyState:
        """Everything, as arrays."""
        scalars: dict[str, Json] = {"eta": self.eta, "rungs": len(self.fidelities)}
        return StrategyState(
            scalars=scalars,
            arrays={f"rungs_{name}": column[: self._size].copy() for name, column in self._columns.items()},
        )

    def restore(self, state: StrategyState) -> None:
        """Continue from `state`.

        Raises:
            StrategyError: it belongs to other rungs.
        """
        for key, value in self.state().scalars.items():
            if state.scalars.get(key) != value:
                raise StrategyError(
                    f"rungs: the state's {key} is {state.scalars.get(key)!r}, here it is {value!r}. Restore with the "
                    "options that wrote the state, or start a new search."
                )
        stored = {name: np.asarray(state.arrays[f"rungs_{name}"]) for name in self._columns}
        self._ids = {genome.tobytes(): row for row, genome in enumerate(stored["genomes"].astype(np.int16))}
        self._reserve(len(self._ids))
        self._size = len(self._ids)
        for name, column in self._columns.items():
            column[: self._size] = stored[name]
            column[self._size :] = -1 if name == "numbers" else 0

    def _reserve(self, size: int) -> None:
        """Room for so many candidates."""
        for name, column in self._columns.items():
            if size > len(column):
                grown = np.full((max(size, 2 * len(column)), *column.shape[1:]), -1 if name == "numbers" else 0)
                grown = grown.astype(column.dtype)
                grown[: self._size] = column[: self._size]
                self._columns[name] = grown
