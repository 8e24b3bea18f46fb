"""Hyperband, and Hyperband that deepens: brackets of successive halving from many cheap to few full evaluations.

A bracket with s promotions starts ``n = ceil((s_max + 1) / (s + 1) * eta^s)`` candidates at the rung s below its top
and lets the best 1/eta of each rung go on. Deepening raises the top by a factor of eta without starting again: every
bracket gets one more rung, more candidates at its first one, and a new bracket of full evaluations joins them. What was
evaluated stays known, and three variants say what it is worth:

- ``discarding`` promotes as if every bracket had been that deep from the start;
- ``preserving`` ranks, beside the current candidates, all that the bracket ever evaluated at a rung;
- ``efficient`` promotes whoever has been evaluated at the next rung already, and only fills what places are left.

A batch that finds no work in the open brackets opens the next one, so that asking never waits for results.

Source: Li et al., "Hyperband", JMLR 18(185), 2018, https://arxiv.org/abs/1603.06560; Brandt, Wever, Bengs, Hüllermeier,
"Best Arm Identification with Retroactively Increased Sampling Budget for More Resource-Efficient HPO" (incremental and
iterative-deepening Hyperband), IJCAI 2024, https://arxiv.org/abs/2302.00511.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ...errors import StrategyError
from ..problem import Population, Problem
from ..strategy import Json, StrategyState
from .rungs import Ids, Rungs, Stage
from .staged import Move, MultiFidelity

__all__ = ["VARIANTS", "Bracket", "Hyperband", "IterativeDeepeningHyperband", "first_rung_size"]

VARIANTS: Final = ("discarding", "preserving", "efficient")


def first_rung_size(s: int, depth: int, eta: int) -> int:
    """Candidates that a bracket with `s` promotions starts with, where the deepest bracket has `depth` of them.

    >>> [first_rung_size(s, 4, 3) for s in (4, 3, 2, 1, 0)]
    [81, 34, 15, 8, 5]
    """
    return -(-(depth + 1) * eta**s // (s + 1))


@dataclass(slots=True, kw_only=True)
class Bracket:
    """One bracket of successive halving.

    Attributes:
        s: promotions from the first to the last rung.
        depth: rung that is the top for now.
        variant: one of `VARIANTS`.
        members: for every rung reached, who is or was evaluated there in this round.
        closed: whether the space has no more candidates for it.
    """

    s: int
    depth: int
    variant: str = "discarding"
    members: list[list[int]] = field(default_factory=lambda: [[]])
    closed: bool = False

    @property
    def first(self) -> int:
        """The rung it starts at."""
        return self.depth - self.s

    def missing(self, eta: int) -> int:
        """New candidates that its first rung still needs."""
        return 0 if self.closed else max(0, first_rung_size(self.s, self.depth, eta) - len(self.members[0]))

    def next(self, table: Rungs) -> tuple[Ids, int] | None:
        """Candidates to start now and the rung to do it at; None while it waits for results or is complete."""
        for step in range(self.s + 1):
            rung = self.first + step
            if step == len(self.members):
                self.members.append(self._survivors(table, step).tolist())
            ids = np.array(self.members[step], dtype=np.int64)
            stage = table.stage[ids, rung]
            if (stage == Stage.ABSENT).any():
                return ids[stage == Stage.ABSENT], rung
            if (stage == Stage.PENDING).any() or (step == 0 and self.missing(table.eta)):
                return None
        return None

    def complete(self, table: Rungs) -> bool:
        """Whether every rung up to the top is finished."""
        if len(self.members) <= self.s or self.missing(table.eta):
            return False
        return all(table.finished(self.first + step)[ids].all() for step, ids in enumerate(self.members) if ids)

    def deepen(self) -> None:
        """Raise the top by one rung; everybody stays, and the rungs are decided anew with what is known."""
        self.s += 1
        self.depth += 1
        self.members = self.members[:1]
        self.closed = False

    def _survivors(self, table: Rungs, step: int) -> Ids:
        """Who goes on to the rung `step` above the first."""
        below = self.first + step - 1
        everyone = np.array(self.members[0], dtype=np.int64)
        places = max(1, len(everyone) // table.eta**step)
        current = np.array(self.members[step - 1], dtype=np.int64)
        match self.variant:
            case "preserving":
                return table.best(everyone, below, places)
            case "efficient":
                ahead = everyone[table.stage[everyone, below + 1] == Stage.OK]
                rest = np.setdiff1d(current, ahead)
                return np.concatenate([ahead, table.best(rest, below, max(0, places - len(ahead)))])
            case _:
                return table.best(current, below, places)


class IterativeDeepeningHyperband(MultiFidelity):
    """Hyperband up to a low top first, then deeper and deeper, then again and again at full depth.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        eta: one in so many candidates goes on to the next rung, where the effort is so many times higher.
        rungs: how many; the lowest is at a fidelity of ``eta ** (1 - rungs)``.
        start: rungs of the first round.
        variant: what earlier rounds are worth: ``discarding``, ``preserving`` or ``efficient``.
    """

    name = "iterative_deepening_hyperband"

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        eta: int = 3,
        rungs: int = 4,
        start: int = 2,
        variant: str = "efficient",
    ) -> None:
        super().__init__(problem, seed, eta=eta, rungs=rungs)
        if not 1 <= start <= rungs:
            raise StrategyError(f"{self.name}: got start {start}; it must be from 1 to the {rungs} rungs.")
        if variant not in VARIANTS:
            raise StrategyError(f"{self.name}: got variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
        self.variant = variant
        self.brackets = list[Bracket]()
        self._depth = start - 1
        self._following = start - 1
        """Promotions of the bracket to open next; -1 where the round has all of its brackets."""

    def _moves(self, n: int, pending: Population | None) -> list[Move]:
        moves, exhausted = list[Move](), False
        while True:
            for bracket in self.brackets:
                if bracket.depth < self._depth and bracket.complete(self.rungs):
                    bracket.deepen()
                wanted = min(n, bracket.missing(self.rungs.eta))
                if wanted:
                    moves.append(self._start(wanted, bracket.first, pending))
                    bracket.members[0].extend(moves[-1].ids.tolist())
                    n -= len(moves[-1].ids)
                    if len(moves[-1].ids) < wanted:
                        bracket.closed = exhausted = True
                while n and (found := bracket.next(self.rungs)):
                    moves.append(self._promote(found[0][:n], found[1]))
                    n -= len(moves[-1].ids)
            top = len(self.rungs.fidelities) - 1
            self.brackets = [item for item in self.brackets if item.depth < top or not item.complete(self.rungs)]
            if not n or exhausted:
                return moves
            self._open()

    def _open(self) -> None:
        """Open the next bracket of this round, or the first one of the next round."""
        top = len(self.rungs.fidelities) - 1
        if self._following < 0 and self._depth < top:
            self._depth += 1
            self._following = 0  # those that are open deepen, and the bracket of full evaluations joins them
        elif self._following < 0:
            self._following = top
        self.brackets.append(Bracket(s=self._following, depth=self._depth, variant=self.variant))
        self._following -= 1

    def _memory(self) -> dict[str, Json]:
        brackets: list[Json] = [
            {
                "s": item.s,
                "depth": item.depth,
                "members": [list[Json](ids) for ids in item.members],
                "closed": item.closed,
            }
            for item in self.brackets
        ]
        return {"brackets": brackets, "depth": self._depth, "following": self._following, "variant": self.variant}

    def _recall(self, state: StrategyState) -> None:
        stored = state.scalars["brackets"]
        if not isinstance(stored, list) or state.scalars.get("variant") != self.variant:
            raise StrategyError(
                f"{self.name}.restore: the state is of variant {state.scalars.get('variant')!r}, this strategy of "
                f"{self.variant!r}. Restore with the options that wrote the state, or start a new search."
            )
        self.brackets = [_bracket(item, self.variant) for item in stored]
        self._depth = int(str(state.scalars["depth"]))
        self._following = int(str(state.scalars["following"]))


class Hyperband(IterativeDeepeningHyperband):
    """Brackets from many cheap to few full evaluations, again and again.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        eta: one in so many candidates goes on to the next rung, where the effort is so many times higher.
        rungs: how many; the lowest is at a fidelity of ``eta ** (1 - rungs)``.
    """

    name = "hyperband"

    def __init__(self, problem: Problem, seed: int, *, eta: int = 3, rungs: int = 4) -> None:
        super().__init__(problem, seed, eta=eta, rungs=rungs, start=rungs, variant="discarding")


def _bracket(data: Json, variant: str) -> Bracket:
    if not isinstance(data, dict) or not isinstance(data["members"], list):
        raise StrategyError(f"restore: got a bracket {data!r}; a mapping was written. The state is damaged.")
    members = [[int(str(one)) for one in ids] for ids in data["members"] if isinstance(ids, list)]
    return Bracket(
        s=int(str(data["s"])),
        depth=int(str(data["depth"])),
        variant=variant,
        members=members,
        closed=bool(data["closed"]),
    )
