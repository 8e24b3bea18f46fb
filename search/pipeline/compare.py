"""Comparing strategies on the problem of a plan: what they share is prepared once, then each searches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..comparison import Comparison, Contender, Progress, compare
from ..evaluators import CompositeEvaluator
from .contracts import Plan
from .explore import columns_of, problem_of
from .local import FolderStore, ScriptRecorder
from .model import fit_cost_models
from .prepare import build_setting
from .scoring import Scoring, StandaloneScoring, SupernetScoring, TableScoring
from .tabular import TableCosts, open_table, queried
from .train import train_supernet

__all__ = ["compare_on_plan"]


def compare_on_plan(
    plan: Plan,
    contenders: Sequence[Contender],
    *,
    folder: Path,
    seeds: Sequence[int],
    trials: int,
    sensitivity: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Prepare, train and model once, as the plan says, then run every contender with every seed.

    Args:
        plan: a validated plan; its own strategy does not matter.
        contenders: strategies and their settings.
        folder: keeps supernets, cost models and evaluations, so that a second comparison starts at once.
        seeds: one search per contender and seed; the supernet is that of the plan's seed.
        trials: evaluations per search.
        sensitivity: whether settings are varied, too.
        progress: called after every search.
    """
    recorder = ScriptRecorder()
    if plan.evaluator.kind == "table":
        setting, table = open_table(plan)
        costs = TableCosts(table)
        scoring: Scoring = TableScoring(table, queried(table))
        problem = problem_of(setting, costs)
    else:
        store = FolderStore(folder)
        live = build_setting(plan)
        if plan.evaluator.kind == "standalone":
            scoring = StandaloneScoring(setting=live, store=store)
        else:
            scoring = SupernetScoring(setting=live, supernet=train_supernet(live, recorder, store), store=store)
        costs = fit_cost_models(live, recorder, store)
        problem = problem_of(live, costs)
    with scoring.open() as scores:
        return compare(
            problem,
            CompositeEvaluator(problem, columns_of(problem, costs, scores)),
            contenders,
            seeds=seeds,
            trials=trials,
            batch=plan.batch,
            sensitivity=sensitivity,
            progress=progress,
        )
