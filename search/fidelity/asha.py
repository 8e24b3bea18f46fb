"""Asynchronous successive halving: whoever is in the best 1/eta of a rung goes on at once, else a new candidate starts.

No rung is waited for, so any number of workers stays busy and batches of any size can be asked for. The early rungs
promote by luck; what they let through is compared again one rung higher.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020,
https://arxiv.org/abs/1810.05934; several objectives after Schmucker et al., "Multi-objective Asynchronous Successive
Halving", 2021, https://arxiv.org/abs/2106.12639, with hypervolume contributions as the order within a front.
"""

from __future__ import annotations

from ..problem import Population, Problem
from .staged import Move, MultiFidelity

__all__ = ["ASHA"]


class ASHA(MultiFidelity):
    """Promotion-type asynchronous successive halving with random candidates.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        eta: one in so many candidates goes on to the next rung, where the effort is so many times higher.
        rungs: how many; the lowest is at a fidelity of ``eta ** (1 - rungs)``.
    """

    name = "asha"

    def __init__(self, problem: Problem, seed: int, *, eta: int = 3, rungs: int = 4) -> None:
        super().__init__(problem, seed, eta=eta, rungs=rungs)

    def _moves(self, n: int, pending: Population | None) -> list[Move]:
        moves = list[Move]()
        for rung in range(len(self.rungs.fidelities) - 2, -1, -1):
            if n:
                moves.append(self._promote(self.rungs.promotable(rung)[:n], rung + 1))
                n -= len(moves[-1].ids)
        return [*moves, self._start(n, 0, pending)] if n else moves
