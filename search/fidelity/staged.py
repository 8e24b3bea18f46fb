"""What multi-fidelity strategies share: candidates that climb rungs, and any other strategy to propose new ones.

A strategy adds who is evaluated next (`_moves`). The base keeps the rungs, has a proposer for new candidates, and where
the space has no more of them lets those go on that had been stopped, until everything was evaluated with full effort.
So "never the same genome twice" becomes "never twice at the same fidelity", and only full fidelity enters a front.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Population, Problem
from ..strategies.base import BaseStrategy
from ..strategies.random import RandomSearch
from ..strategy import Json, Proposals, Results, StrategyState
from .rungs import Ids, Rungs

__all__ = ["Move", "MultiFidelity"]

_PREFIX = "proposer_"


class Move(NamedTuple):
    """Candidates [B] about to be evaluated at a rung, and the trial number [B] each one came from, -1 for none."""

    ids: Ids
    rung: int
    parents: NDArray[np.int64]


class MultiFidelity(ABC):
    """Common half of all multi-fidelity strategies; see the module.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        eta: one in so many candidates goes on to the next rung, where the effort is so many times higher.
        rungs: how many; the lowest is at a fidelity of ``eta ** (1 - rungs)``.
    """

    name: ClassVar[str]
    multi_fidelity: ClassVar[bool] = True

    def __init__(self, problem: Problem, seed: int, *, eta: int, rungs: int) -> None:
        self.problem = problem
        self.space = problem.space
        self.rungs = Rungs(
            len(problem.space.genes), len(problem.objectives), len(problem.constraints), eta=eta, rungs=rungs
        )
        self.proposer = self._proposer(problem, seed)

    def ask(self, n: int, pending: Population | None = None) -> Proposals:
        """Propose up to `n` evaluations, none of them twice; see `archsmith.search.strategy`."""
        if n < 1:
            raise StrategyError(f"{self.name}.ask: got n = {n}; ask for at least 1 proposal.")
        moves = self._moves(n, pending)
        left = n - sum(len(move.ids) for move in moves)
        for rung in range(len(self.rungs.fidelities) - 2, -1, -1):  # nothing new is left: those stopped go on
            if left:
                moves.append(self._promote(self.rungs.stopped(rung, left), rung + 1))
                left -= len(moves[-1].ids)
        return Proposals(
            genomes=self.rungs.genomes[np.concatenate([move.ids for move in moves])],
            fidelity=np.repeat([self.rungs.fidelities[move.rung] for move in moves], [len(move.ids) for move in moves]),
            parents=np.concatenate([move.parents for move in moves]),
        )

    def tell(self, results: Results) -> None:
        """Learn from results not told before; those of other searches may be among them."""
        numbers = np.arange(self.told, self.told + len(results))
        self.proposer.tell(results)
        rung = np.array([self.rungs.rung_at(share) for share in results.fidelity], dtype=np.int64)
        rows = np.flatnonzero(rung >= 0)
        ids = self.rungs.add(results.genomes[rows])
        self.rungs.record(
            ids,
            rung[rows],
            results.values[rows],
            results.violations[rows],
            ok=results.ok[rows],
            numbers=numbers[rows],
        )

    @property
    def told(self) -> int:
        """Results told so far."""
        return self.proposer.told

    def state(self) -> StrategyState:
        """Everything that later behaviour depends on."""
        proposer, rungs = self.proposer.state(), self.rungs.state()
        scalars: dict[str, Json] = {
            "strategy": self.name,
            "space": self.space.identity,
            "proposer": dict(proposer.scalars),
            **rungs.scalars,
            **self._memory(),
        }
        arrays = {_PREFIX + name: array for name, array in proposer.arrays.items()}
        return StrategyState(scalars=scalars, arrays=arrays | dict(rungs.arrays))

    def restore(self, state: StrategyState) -> None:
        """Continue from `state`; raises StrategyError if it belongs to another space, problem or strategy."""
        for key, value in {"strategy": self.name, "space": self.space.identity}.items():
            if state.scalars.get(key) != value:
                raise StrategyError(
                    f"{self.name}.restore: the state's {key} is {state.scalars.get(key)!r}, this strategy's is "
                    f"{value!r}. Restore with the job that wrote the state, or start a new search."
                )
        self.rungs.restore(state)
        self._recall(state)
        scalars = state.scalars["proposer"]
        if not isinstance(scalars, dict):
            raise StrategyError(f"{self.name}.restore: the state's proposer is {scalars!r}. The state is damaged.")
        arrays = {name.removeprefix(_PREFIX): array for name, array in state.arrays.items() if name.startswith(_PREFIX)}
        self.proposer.restore(StrategyState(scalars=scalars, arrays=arrays))

    # --- what a strategy adds -------------------------------------------------------------------------------------

    @abstractmethod
    def _moves(self, n: int, pending: Population | None) -> list[Move]:
        """Start up to `n` evaluations, by `_promote` and `_start`; fewer only where the space has no more."""

    def _proposer(self, problem: Problem, seed: int) -> BaseStrategy:
        """Where new candidates come from."""
        return RandomSearch(problem, seed)

    def _memory(self) -> dict[str, Json]:
        """The strategy's own part of the state."""
        return {}

    def _recall(self, state: StrategyState) -> None:  # noqa: B027  # a strategy without memory recalls nothing
        """Inverse of `_memory`."""

    # --- starting evaluations -------------------------------------------------------------------------------------

    def _promote(self, ids: Ids, rung: int) -> Move:
        """Start candidates at `rung`, for what they did at the rung below."""
        self.rungs.start(ids, rung)
        return Move(ids, rung, self.rungs.numbers[ids, rung - 1])

    def _start(self, count: int, rung: int, pending: Population | None) -> Move:
        """Start up to `count` new candidates at `rung`; fewer where the space has no more."""
        proposals = self.proposer.ask(count, pending)
        ids = self.rungs.add(proposals.genomes)
        self.rungs.start(ids, rung)
        return Move(ids, rung, proposals.parents)
