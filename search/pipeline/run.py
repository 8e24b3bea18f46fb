"""Run a plan: every stage in order, each resumable, each skipped where its result is already stored."""

from __future__ import annotations

from collections.abc import Sequence

from .contracts import DeviceLab, Plan, Recorder, ResultStore, Stage
from .energy import Clock, expected_energy
from .explore import explore
from .export import export_members
from .model import CostModels, fit_cost_models
from .prepare import Setting, build_setting
from .relaxed import Learned, learned_from, train_relaxed
from .scoring import Scoring, scoring_of
from .tabular import run_on_table
from .train import train_supernet
from .verify import verify
from .warm_start import EarlierSearch

__all__ = ["run_pipeline"]


def run_pipeline(
    plan: Plan,
    recorder: Recorder,
    store: ResultStore,
    lab: DeviceLab | None = None,
    *,
    earlier_searches: Sequence[EarlierSearch] = (),
) -> dict[str, object]:
    """Take a plan from names to exported, verified models.

    Args:
        plan: a validated plan.
        recorder: hears of every stage, result and report; may ask to stop.
        store: keeps stage outputs and checkpoints.
        lab: devices other than this machine; None = those of the catalog, which are modelled from their files.
        earlier_searches: whose results are known from the start.

    Returns:
        The report, as the recorder has received it.

    Raises:
        Interrupted: the recorder asked to stop; running the same plan with the same recorder and store continues.
        ArchsmithError: the plan cannot work, or a stage failed; the message says what to do.
    """
    if plan.evaluator.kind == "table":
        return run_on_table(plan, recorder, earlier_searches)
    clock = Clock()
    recorder.stage(Stage.PREPARE)
    setting = build_setting(plan, lab)
    clock.lap(Stage.PREPARE)
    energy: dict[str, object] = {"expected": expected_energy(setting)}
    report: dict[str, object] = {"energy": energy}
    recorder.report(report)
    models, scoring, learned = _prepared(setting, recorder, store, clock=clock, report=report)
    found = explore(setting, models, scoring, recorder=recorder, earlier_searches=earlier_searches, learned=learned)
    clock.lap(Stage.SEARCH)
    report["search"] = found.section()
    recorder.report(report)
    verification = verify(setting, models, scoring, found, recorder=recorder, store=store)
    clock.lap(Stage.VERIFY)
    report |= verification.report
    recorder.verified(verification.members)
    recorder.report(report)
    export_members(setting, verification, recorder, store)
    clock.lap(Stage.EXPORT)
    report["seconds"] = clock.seconds
    energy |= {"watt_hours": clock.watt_hours, "source": clock.source}
    recorder.report(report)
    return report


def _prepared(
    setting: Setting, recorder: Recorder, store: ResultStore, *, clock: Clock, report: dict[str, object]
) -> tuple[CostModels, Scoring, Learned | None]:
    """What the search stage starts from: the costs, what evaluates, and what gradients have learned.

    Training comes before modelling, but where the costs are part of the loss.
    """
    models = supernet = learned = None
    if setting.plan.gradient is not None:
        models = fit_cost_models(setting, recorder, store)
        clock.lap(Stage.MODEL)
        supernet = train_relaxed(setting, models, recorder, store)
        clock.lap(Stage.TRAIN)
        learned = learned_from(supernet, setting.space)
        report["gradient"] = dict(supernet.summary)
    elif setting.plan.evaluator.kind == "supernet":
        supernet = train_supernet(setting, recorder, store)
        clock.lap(Stage.TRAIN)
        report["supernet"] = dict(supernet.summary)
    if models is None:
        models = fit_cost_models(setting, recorder, store)
        clock.lap(Stage.MODEL)
    report["cost_models"] = models.report()
    recorder.report(report)
    return models, scoring_of(setting, supernet, store), learned
