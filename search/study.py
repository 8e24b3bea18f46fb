"""The one loop that every search goes through: ask, evaluate, tell, record.

The checkpoint invariant: the recorder receives results together with the strategy state that has consumed exactly
those and all earlier ones. Storing both or neither makes a search resumable at any kill: what was recorded is never
evaluated again, and what was not recorded is proposed again, identically.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import StrategyError
from .budget import Budget, Meter
from .evaluators import Evaluator
from .pareto import merge_front
from .problem import Problem
from .strategy import Results, Strategy, StrategyState

__all__ = ["MemoryRecorder", "Outcome", "Recorder", "Study"]


class Recorder(Protocol):
    """What the loop tells the world, and what the world may ask of it."""

    def results(self, results: Results, state: StrategyState) -> None:
        """New results and the state that has consumed them: stored together or not at all."""
        ...

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        """Something worth keeping in the log."""
        ...

    def should_stop(self) -> str | None:
        """A reason to stop after the current batch, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run of the loop ended.

    Attributes:
        reason: ``trials``, ``minutes`` or ``watt_hours`` (budget met), ``exhausted`` (nothing new left to propose), or
            ``stopped`` (the recorder asked for it).
        message: the reason for people.
        trials: evaluations so far, earlier runs of the same search included.
        failed: those of this run that failed.
        seconds: wall-clock time, earlier runs included.
        watt_hours: energy, earlier runs included.
        energy_source: where `watt_hours` comes from; None where energy was not counted.
    """

    reason: str
    message: str
    trials: int
    failed: int
    seconds: float
    watt_hours: float
    energy_source: str | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search ready to run.

    Attributes:
        problem: what is searched.
        strategy: proposes; new, or restored with the state of the last checkpoint.
        evaluator: evaluates.
        budget: ends the search.
        recorder: keeps results and says when to stop.
        batch: proposals between two checkpoints; part of what makes a resumed search the same.
        meter: what earlier runs spent; it starts to count when it is built.
        failing_batches: batches in a row without one success after which the search is given up.

    A resumed search restores the strategy with the last recorded state, and tells `run` how many trials were recorded.
    """

    problem: Problem
    strategy: Strategy
    evaluator: Evaluator
    budget: Budget
    recorder: Recorder
    batch: int = 16
    meter: Meter = field(default_factory=Meter)
    failing_batches: int = 3

    def __post_init__(self) -> None:
        if self.batch < 1 or self.failing_batches < 1:
            raise StrategyError(f"study: batch {self.batch} and failing_batches {self.failing_batches} must be >= 1.")
        if self.budget.watt_hours is not None and self.meter.energy_source is None:
            raise StrategyError("study: a budget in watt-hours needs a meter with an energy counter; pass one.")

    def run(self, *, trials: int = 0) -> Outcome:
        """Search until the budget is met, the space is exhausted or the recorder asks to stop.

        Args:
            trials: results recorded by earlier runs; the strategy must have been restored to their state.

        Raises:
            StrategyError: `failing_batches` batches in a row failed altogether.
        """
        failed = failing = 0
        while True:
            if limit := self.budget.reached(
                trials=trials, seconds=self.meter.seconds, watt_hours=self.meter.watt_hours
            ):
                return self._end(
                    limit, f"The budget of {getattr(self.budget, limit):g} {limit} is met.", trials, failed
                )
            if wish := self.recorder.should_stop():
                return self._end("stopped", wish, trials, failed)
            left = self.budget.trials_left(trials)
            proposals = self.strategy.ask(self.batch if left is None else min(self.batch, left))
            if not len(proposals):
                return self._end("exhausted", self._exhausted(trials), trials, failed)
            results = self.evaluator.evaluate(proposals)
            self.strategy.tell(results)
            self.recorder.results(results, self.strategy.state())
            trials += len(results)
            failures = len(results) - int(np.count_nonzero(results.ok))
            failed += failures
            failing = failing + 1 if failures == len(results) else 0
            causes = _causes(results)
            for cause, count in causes.items():
                self.recorder.event("evaluations_failed", {"reason": cause, "count": count})
            if failing >= self.failing_batches:
                raise StrategyError(
                    f"study: all evaluations of {failing} batches in a row failed (the last batch had {failures}); "
                    f"the first cause: {next(iter(causes))}. They are recorded as failed trials: mend the cause and "
                    "submit the search again."
                )

    def _exhausted(self, trials: int) -> str:
        size = self.problem.space.size
        if trials >= size:
            return f"The space is smaller than the budget: all of its {size} architectures have been evaluated."
        return f"No new architecture was found that meets the known constraints, after {trials} of {size} in the space."

    def _end(self, reason: str, message: str, trials: int, failed: int) -> Outcome:
        outcome = Outcome(
            reason=reason,
            message=message,
            trials=trials,
            failed=failed,
            seconds=self.meter.seconds,
            watt_hours=self.meter.watt_hours,
            energy_source=self.meter.energy_source,
        )
        self.recorder.event("search_ended", {"reason": reason, "message": message, "trials": trials, "failed": failed})
        return outcome


def _causes(results: Results) -> Counter[str]:
    """How many evaluations failed by cause, the first one first."""
    failed = np.flatnonzero(~results.ok)
    return Counter((results.errors[row] if results.errors else None) or "cause not stated" for row in failed)


class MemoryRecorder:
    """Keeps everything in memory: all results as columns, the front, the last state and the events."""

    def __init__(self) -> None:
        self.state: StrategyState | None = None
        self.events: list[tuple[str, dict[str, object]]] = []
        self._parts: list[Results] = []
        self._trials = 0
        self._front: Results | None = None
        self._front_numbers: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._trials

    def results(self, results: Results, state: StrategyState) -> None:
        """Keep new results and the state that has consumed them."""
        numbers = np.arange(self._trials, self._trials + len(results))
        self._parts.append(results)
        self._trials += len(results)
        self.state = state
        candidates = results.rows(results.eligible)
        numbers = numbers[results.eligible]
        if self._front is None:
            self._front = results.rows(slice(0, 0))
        stays, enters = merge_front(self._front.values, candidates.values)
        self._front = Results.concatenate([self._front.rows(stays), candidates.rows(enters)])
        self._front_numbers = np.concatenate([self._front_numbers[stays], numbers[enters]])

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        """Keep an event."""
        self.events.append((kind, dict(data)))

    def should_stop(self) -> str | None:
        """Never."""
        return None

    @property
    def all(self) -> Results:
        """Every result, in order; raises StrategyError before the first."""
        if not self._parts:
            raise StrategyError("recorder: no results yet; run the study first.")
        self._parts = [Results.concatenate(self._parts)]
        return self._parts[0]

    @property
    def front(self) -> Results:
        """The feasible results that no other dominates, in order of evaluation."""
        if self._front is None:
            raise StrategyError("recorder: no results yet; run the study first.")
        return self._front

    @property
    def front_numbers(self) -> NDArray[np.int64]:
        """[F] trial numbers of `front`."""
        return self._front_numbers
