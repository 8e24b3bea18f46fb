"""Search: the one loop of `Study`, with accuracy from the pool and everything else known for whole populations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ...hwmodels import catalog as devices
from ..budget import Meter, open_energy_counter
from ..evaluators import CompositeEvaluator, Known, Measurer
from ..feasibility import check_feasible
from ..pareto import reference_point
from ..problem import Population, Problem, Quantity
from ..strategies import catalog as strategies
from ..strategies.derived import Derived
from ..strategy import Proposals, Results, Strategy, StrategyState
from ..study import Outcome, Study
from .contracts import Checkpoint, Interrupted, Plan, Recorder, Stage
from .prepare import SearchSetting
from .relaxed import Learned
from .scoring import Scoring
from .warm_start import EarlierSearch, Knowledge, gather, teach

__all__ = ["Costs", "Exploration", "columns_of", "explore", "problem_of"]


class Costs(Protocol):
    """Every quantity that is known before evaluation, and where it comes from."""

    @property
    def known(self) -> Mapping[str, Quantity]:
        """By label."""
        ...

    def source(self, quantity: str) -> str:
        """``predicted:<method>`` or ``measured:<instrument>``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What the search stage found.

    Attributes:
        problem: what was searched.
        results: every trial, in order of number.
        reference: [M] the reference point.
        outcome: how it ended, and what it spent.
        reused: evaluations of this run that an earlier search had made.
        evaluator: identity of what evaluated the trials.
        knowledge: what the report says of the searches that this one started from.
    """

    problem: Problem
    results: Results
    reference: NDArray[np.float64]
    outcome: Outcome
    reused: int
    evaluator: str
    knowledge: Mapping[str, object] | None = None

    def section(self) -> dict[str, object]:
        """What the report says of it."""
        return {
            "trials": self.outcome.trials,
            "failed": int((~self.results.ok).sum()),
            "reused_evaluations": self.reused,
            "reason": self.outcome.reason,
            "message": self.outcome.message,
            "seconds": self.outcome.seconds,
            "watt_hours": self.outcome.watt_hours,
            "energy_source": self.outcome.energy_source,
            "evaluator": self.evaluator,
            **({"warm_start": dict(self.knowledge)} if self.knowledge else {}),
        }


def problem_of(setting: SearchSetting, models: Costs) -> Problem:
    """The plan's problem with every quantity that needs no evaluation."""
    plan = setting.plan
    return Problem(
        space=setting.space,
        objectives=plan.objectives,
        constraints=plan.constraints,
        known=models.known,
        # Rows of a table are candidates of their own, and so are recipes, which no architecture's key tells apart.
        equivalence=plan.evaluator.kind != "table" and not setting.joint,
    )


def columns_of(problem: Problem, models: Costs, scores: Mapping[str, Measurer]) -> dict[str, Known | Measurer]:
    """How every objective and constrained quantity of the problem is obtained."""
    wanted = {item.label for item in (*problem.objectives, *problem.constraints)}
    known: dict[str, Known | Measurer] = {
        name: Known(quantity, models.source(name)) for name, quantity in problem.known.items() if name in wanted
    }
    return known | {name: measure for name, measure in scores.items() if name in wanted}


def explore(
    setting: SearchSetting,
    models: Costs,
    scoring: Scoring,
    *,
    recorder: Recorder,
    earlier_searches: Sequence[EarlierSearch] = (),
    learned: Learned | None = None,
) -> Exploration:
    """Run the search stage to the end of its budget, continuing where an earlier run was interrupted.

    Args:
        setting: what is searched.
        models: of every quantity that is known before evaluation.
        scoring: evaluates the others.
        recorder: hears of results; may ask to stop.
        earlier_searches: whose results are known from the start.
        learned: by gradients, before the search; what the strategy `derived` proposes.

    Raises:
        ConfigError: an earlier search does not fit.
        InfeasibleError: the constraints cannot be met.
        Interrupted: the recorder asked to stop.
    """
    plan = setting.plan
    recorder.stage(Stage.SEARCH)
    problem = problem_of(setting, models)
    check_feasible(problem, np.random.default_rng(plan.seed))
    strategy = _strategy(plan, problem, learned)
    knowledge = gather(problem, scoring.identity, earlier_searches) if earlier_searches else None
    earlier = _continued(strategy, recorder, knowledge)
    meter = _meter(earlier)
    teller = _Teller(recorder, meter, setting, earlier)
    with scoring.open() as scores:
        study = Study(
            problem=problem,
            strategy=strategy,
            evaluator=CompositeEvaluator(problem, columns_of(problem, models, scores)),
            budget=plan.budget,
            recorder=teller,
            batch=plan.batch,
            meter=meter,
        )
        if earlier is None and knowledge is not None:
            _begin(study, knowledge.first)
        outcome = study.run(trials=len(teller))
    if outcome.reason == "stopped":
        raise Interrupted(outcome.message)
    results, reference = teller.found()
    return Exploration(
        problem=problem,
        results=results,
        reference=reference,
        outcome=outcome,
        reused=sum(item.reused for item in scores.values()),
        evaluator=scoring.identity,
        knowledge=knowledge.section if knowledge else None,
    )


def _strategy(plan: Plan, problem: Problem, learned: Learned | None) -> Strategy:
    strategy = strategies.get(plan.strategy.name, problem, plan.seed, **plan.strategy.options)
    if learned is not None and isinstance(strategy, Derived):
        strategy.follow(learned.distribution, learned.genome)
    return strategy


def _continued(strategy: Strategy, recorder: Recorder, knowledge: Knowledge | None) -> Checkpoint | None:
    """Where an earlier run was interrupted, with its strategy's memory restored; else the strategy is taught."""
    earlier = recorder.checkpoint()
    if earlier is not None:
        strategy.restore(earlier.state)
    elif knowledge is not None:
        teach(strategy, knowledge)
    return earlier


def _meter(earlier: Checkpoint | None) -> Meter:
    """Counts on from what earlier runs of the same search spent."""
    power = devices.get("host").busy_power_w  # the machine that searches, whatever it searches for
    counter = open_energy_counter(power.value if power else 0.0)
    if earlier is None:
        return Meter(counter)
    return Meter(counter, seconds=earlier.seconds, watt_hours=earlier.watt_hours)


def _begin(study: Study, genomes: Population) -> None:
    """Make the trials that are known to be good before any is proposed, as far as the budget allows."""
    left = study.budget.trials_left(0)
    if not len(genomes) or left == 0:
        return
    results = study.evaluator.evaluate(Proposals.full(genomes[:left]))
    study.strategy.tell(results)
    study.recorder.results(results, study.strategy.state())


class _Teller:
    """Passes the study's words on, fixes the reference point once, and keeps what verify needs."""

    def __init__(self, recorder: Recorder, meter: Meter, setting: SearchSetting, earlier: Checkpoint | None) -> None:
        self._recorder = recorder
        self._meter = meter
        self._setting = setting
        self._parts = [earlier.results] if earlier is not None else []
        self._trials = len(earlier.results) if earlier is not None else 0
        self.reference: NDArray[np.float64] | None = earlier.reference if earlier is not None else None

    def results(self, results: Results, state: StrategyState) -> None:
        """Fix the reference point with the first batch that has something to show, then record."""
        if self.reference is None and results.eligible.any():
            self.reference = reference_point(results.values[results.eligible])
            self._recorder.reference(self.reference)
        self._recorder.spend(self._meter.seconds, self._meter.watt_hours)
        self._recorder.results(results, state)
        self._parts.append(results)
        self._trials += len(results)
        self._progress()

    def __len__(self) -> int:
        return self._trials

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        """Pass on."""
        self._recorder.event(kind, data)

    def should_stop(self) -> str | None:
        """Pass on."""
        return self._recorder.should_stop()

    def found(self) -> tuple[Results, NDArray[np.float64]]:
        """Everything recorded, earlier runs included, and the reference point; raises StrategyError without a front."""
        if self.reference is None:
            raise StrategyError(
                f"search: {self._trials} trials, none of them feasible at full effort, so there is no front. Raise the "
                "budget, loosen the constraints, or look at the failed trials."
            )
        return Results.concatenate(self._parts), self.reference

    def _progress(self) -> None:
        """Report the share of whichever budget is closest to its end."""
        budget = self._setting.plan.budget
        shares = [
            (self._trials, budget.trials, "trials"),
            (self._meter.seconds / 60, budget.minutes, "minutes"),
            (self._meter.watt_hours, budget.watt_hours, "Wh"),
        ]
        done, total, unit = max(
            ((done, total, unit) for done, total, unit in shares if total), key=lambda item: item[0] / item[1]
        )
        self._recorder.progress(done, total, f"{self._trials} trials, {done:.4g} of {total:g} {unit}")
