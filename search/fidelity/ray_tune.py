"""Our strategies and rungs inside Ray Tune: a `Searcher` for any strategy, and a scheduler for several objectives.

    searcher = searcher_for(strategy, problem)
    tune.Tuner(trainable, tune_config=tune.TuneConfig(search_alg=searcher, num_samples=200)).fit()

A trainable gets ``config["genome"]``, a list of choices, ``config["genes"]``, the values by gene name, and
``config["fidelity"]``, the share of the full effort to spend; it reports every quantity that objectives and constraints
name and that the problem does not know, in its natural unit. With `searcher_for` the strategy decides who goes on (the
promotion type: every rung is a trial of its own). With `scheduler_for` trials report again and again, and the rungs
stop those that fall behind (the stopping type). Both use `archsmith.search.fidelity.rungs`.

What Ray retries (`FailureConfig`) is evaluated again by Ray and told to the strategy once. A searcher's checkpoint
holds the strategy's state and the trials that were running, as JSON and arrays, so that a restored one knows them.

Source: the interfaces of https://docs.ray.io/en/latest/tune/api/suggestion.html and `schedulers.html`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..evaluators import CompositeEvaluator, Known, Measured, Measurer
from ..problem import Problem
from ..strategy import Proposals, Results, Strategy, StrategyState
from .rungs import Rungs, Stage

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import Searcher

__all__ = ["Session", "StoppingRungs", "scheduler_for", "searcher_for"]

SOURCE: Final = "measured:ray-tune"


class Session:
    """A strategy and the evaluations that run elsewhere, by the name somebody gave them.

    Args:
        problem: what is searched.
        strategy: proposes and learns.
    """

    def __init__(self, problem: Problem, strategy: Strategy) -> None:
        self.problem = problem
        self.strategy = strategy
        self.running: dict[str, tuple[list[int], float]] = {}

    def suggest(self, name: str) -> dict[str, Any] | None:
        """What to evaluate under a name; None where there is nothing to propose now.

        A name that is running already is told the same again.
        """
        if name not in self.running:
            width = len(self.problem.space.genes)
            waiting = [genome for genome, _ in self.running.values()]
            pending = np.array(waiting, dtype=np.int16).reshape(-1, width)
            proposals = self.strategy.ask(1, pending if waiting else None)
            if not len(proposals):
                return None
            self.running[name] = (proposals.genomes[0].tolist(), float(proposals.fidelity[0]))
        genome, fidelity = self.running[name]
        values = {gene.name: gene.values[choice] for gene, choice in zip(self.problem.space.genes, genome, strict=True)}
        return {"genome": list(genome), "genes": values, "fidelity": fidelity}

    def complete(self, name: str, result: Mapping[str, Any] | None) -> Results | None:
        """Tell the strategy what came of an evaluation, once; None where the name is not running."""
        if name not in self.running:
            return None
        genome, fidelity = self.running.pop(name)
        proposals = Proposals(
            genomes=np.array([genome], dtype=np.int16),
            fidelity=np.array([fidelity]),
            parents=np.array([-1], dtype=np.int64),
        )
        results = results_of(self.problem, proposals, result)
        self.strategy.tell(results)
        return results

    def save(self, path: Path | str) -> None:
        """Write the strategy's state and what is running to one npz file, exactly at `path`."""
        state = self.strategy.state()
        text = json.dumps({"scalars": dict(state.scalars), "running": self.running})
        with Path(path).open("wb") as file:
            np.savez(file, allow_pickle=False, session=np.array(text), **dict(state.arrays))  # type: ignore[arg-type]  # names are free

    def restore(self, path: Path | str) -> None:
        """Continue from what `save` wrote; what was running still runs."""
        with np.load(path, allow_pickle=False) as archive:
            data = json.loads(str(archive["session"]))
            arrays = {name: archive[name] for name in archive.files if name != "session"}
        self.strategy.restore(StrategyState(scalars=data["scalars"], arrays=arrays))
        self.running = {name: (genome, fidelity) for name, (genome, fidelity) in data["running"].items()}


def results_of(problem: Problem, proposals: Proposals, result: Mapping[str, Any] | None) -> Results:
    """One proposal's reported quantities as Results: a failure where there are none or one that matters is missing."""

    def reported(label: str) -> Measurer:
        def measure(proposals: Proposals) -> Measured:
            value = np.nan if result is None else float(result.get(label, np.nan))
            seconds = 0.0 if result is None else float(result.get("time_total_s", 0.0))
            cause = None if np.isfinite(value) else f"{label} was not reported as a finite number"
            ok = np.array([cause is None])
            return Measured(np.full(1, value), np.full(1, seconds), ok, SOURCE, (cause,))

        return measure

    labels = [item.label for item in (*problem.objectives, *problem.constraints)]
    columns: dict[str, Known | Measurer] = {
        label: Known(problem.known[label], "predicted:known") if label in problem.known else reported(label)
        for label in labels
    }
    return CompositeEvaluator(problem, columns).evaluate(proposals)


class StoppingRungs:
    """Stopping-type successive halving: a candidate that reaches a rung goes on if it is in the best 1/eta there.

    Args:
        problem: what is searched; decides what is better.
        eta: one in so many goes on.
        rungs: how many; the lowest is at a share of ``eta ** (1 - rungs)`` of the full effort.
    """

    def __init__(self, problem: Problem, *, eta: int = 3, rungs: int = 4) -> None:
        self.problem = problem
        self.table = Rungs(
            len(problem.space.genes), len(problem.objectives), len(problem.constraints), eta=eta, rungs=rungs
        )
        self._results = 0

    def goes_on(self, genome: list[int], fidelity: float, result: Mapping[str, Any]) -> bool:
        """Take a report at a share of the effort; whether to train on."""
        rung = self.table.rung_at(fidelity)
        if rung < 0:
            return True
        genomes = np.array([genome], dtype=np.int16)
        candidate = self.table.add(genomes)
        if self.table.stage[candidate[0], rung] < Stage.OK:  # else it was judged when it came here
            proposals = Proposals(genomes=genomes, fidelity=np.array([fidelity]), parents=np.array([-1]))
            results = results_of(self.problem, proposals, result)
            number = np.array([self._results])
            self._results += 1
            self.table.record(candidate, rung, results.values, results.violations, ok=results.ok, numbers=number)
            return rung + 1 < len(self.table.fidelities) and self.table.keeps(int(candidate[0]), rung)
        return True


def searcher_for(strategy: Strategy, problem: Problem) -> Searcher:
    """A Ray Tune searcher, of class ``ArchsmithSearcher``, that is driven by any of our strategies.

    Args:
        strategy: for this problem; of several fidelities or of one.
        problem: what is searched.
    """
    from ray.tune.search import Searcher

    class ArchsmithSearcher(Searcher):
        """Hands a strategy's proposals to Ray Tune and its reports to the strategy."""

        def __init__(self, session: Session) -> None:
            reported = [item for item in session.problem.objectives if item.label not in session.problem.known]
            first = reported[0] if reported else None
            super().__init__(metric=first.label if first else None, mode=first.direction if first else None)
            self.session = session

        def suggest(self, trial_id: str) -> Any:  # a configuration, None, or FINISHED, which is text
            """A configuration; None to be asked again when a running trial has ended; FINISHED for no more."""
            proposal = self.session.suggest(trial_id)
            if proposal is None:
                return None if self.session.running else Searcher.FINISHED
            return proposal

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False, **_: object
        ) -> None:
            """Tell the strategy; a trial that Ray gave up is a failure."""
            self.session.complete(trial_id, None if error else result)

        def save(self, checkpoint_path: str) -> None:
            """Write everything to one file."""
            self.session.save(checkpoint_path)

        def restore(self, checkpoint_path: str) -> None:
            """Continue from `save`."""
            self.session.restore(checkpoint_path)

    return ArchsmithSearcher(Session(problem, strategy))


def scheduler_for(
    problem: Problem, *, longest: int, eta: int = 3, rungs: int = 4, time_attribute: str = "training_iteration"
) -> TrialScheduler:
    """A Ray Tune scheduler, of class ``MultiObjectiveASHAScheduler``, that stops whoever falls behind.

    Args:
        problem: its objectives and constraints decide; trials need ``config["genome"]``, as `searcher_for` gives it.
        longest: value of `time_attribute` at full effort, where every trial ends.
        eta: one in so many goes on.
        rungs: how many; the lowest is at a share of ``eta ** (1 - rungs)`` of `longest`.
        time_attribute: what a report counts its effort by.
    """
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class MultiObjectiveASHAScheduler(FIFOScheduler):
        """Successive halving by constraint-domination rank and hypervolume contribution, in the order trials come."""

        def __init__(self) -> None:
            super().__init__()
            self.rungs = StoppingRungs(problem, eta=eta, rungs=rungs)
            self.stopped = 0

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            """Whether the trial goes on after a report."""
            del tune_controller
            share = min(1.0, float(result[time_attribute]) / longest)
            if self.rungs.goes_on(trial.config["genome"], share, result):
                return TrialScheduler.CONTINUE
            self.stopped += share < 1.0
            return TrialScheduler.STOP

        def debug_string(self) -> str:
            """One line for Ray's progress report."""
            return f"Using multi-objective ASHA: {self.stopped} trials stopped early"

        def save(self, checkpoint_path: str) -> None:
            """Write the rungs to one npz file."""
            state = self.rungs.table.state()
            with Path(checkpoint_path).open("wb") as file:
                np.savez(file, allow_pickle=False, stopped=np.array(self.stopped), **dict(state.arrays))  # type: ignore[arg-type]  # names are free

        def restore(self, checkpoint_path: str) -> None:
            """Continue from `save`."""
            with np.load(checkpoint_path, allow_pickle=False) as archive:
                self.stopped = int(archive["stopped"])
                arrays = {name: archive[name] for name in archive.files}
            scalars = self.rungs.table.state().scalars
            self.rungs.table.restore(StrategyState(scalars=scalars, arrays=arrays))

    return MultiObjectiveASHAScheduler()
