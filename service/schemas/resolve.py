"""A job with every default written out, so that the stored one says everything the search ran with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .job import GradientSection, JobSpec, StrategySection, TaskSection

if TYPE_CHECKING:
    from ...search.pipeline.contracts import ModuleSpec, Plan, PoolSpec

__all__ = ["plan_of", "resolve"]


def resolve(job: JobSpec) -> JobSpec:
    """Fill in what the stages would take by default; the job's names have been checked."""
    from ...hwmodels.probing import ProbeSettings
    from ...predictors.supernet.settings import SupernetSettings
    from ...predictors.training import StandaloneSettings
    from ...spaces import catalog

    return job.model_copy(
        update={
            "space": job.space.model_copy(update={"preset": job.space.preset or catalog.presets(job.space.name)[0]}),
            "supernet": _filled(job.supernet, SupernetSettings()),
            "gradient": _gradient(job.gradient),
            "verify": _filled(job.verify, StandaloneSettings()),
            "cost_model": _filled(job.cost_model, ProbeSettings()),
            "strategy": _strategy(job),
        }
    )


def _strategy(job: JobSpec) -> StrategySection:
    from ...search.strategies.auto import AUTO, choose

    if job.strategy.name != AUTO:
        return job.strategy
    if job.gradient is not None:
        return StrategySection(name="derived", reason="Gradients decide: it proposes what they learned.")
    choice = choose(job.budget.trials)
    return StrategySection(name=choice.name, reason=choice.reason)


def _gradient(section: GradientSection | None) -> GradientSection | None:
    """The section with every group filled in; without a cost there is none."""
    from ...search.gradient.settings import GradientSettings

    if section is None:
        return None
    settings = GradientSettings.from_json(_given(section.model_dump(exclude_none=True)))
    return GradientSection.model_validate(settings.to_json())


def _filled(section: Any, defaults: Any) -> Any:
    """The section with its None fields taken from the settings of the stage."""
    values = {
        field.name: getattr(defaults, field.name)
        for field in dataclasses.fields(defaults)
        if getattr(section, field.name, 0) is None
    }
    return section.model_copy(update=values)


def plan_of(job: JobSpec, pool: PoolSpec) -> Plan:
    """What the pipeline needs of a resolved job."""
    from ...search.budget import Budget
    from ...search.pipeline.contracts import EvaluationSpec, ModuleSpec, Plan
    from ...search.problem import Constraint, Objective

    return Plan(
        space=ModuleSpec(name=job.space.name, preset=job.space.preset, options=job.space.options),
        task=_task(job.task),
        devices=tuple(job.devices),
        objectives=tuple(
            Objective(name=item.name, direction=item.direction or "min", device=item.device) for item in job.objectives
        ),
        constraints=tuple(
            Constraint(name=item.name, bound=item.bound, operator=item.operator, device=item.device)
            for item in job.constraints
        ),
        strategy=ModuleSpec(name=job.strategy.name, options=job.strategy.options),
        budget=Budget(
            trials=job.budget.trials,
            minutes=job.budget.minutes,
            watt_hours=job.budget.watt_hours,
        ),
        supernet=_given(job.supernet.model_dump()),
        standalone=_given(job.verify.model_dump(exclude={"members", "audit"})),
        cost_model=_given(job.cost_model.model_dump()),
        gradient=None if job.gradient is None else job.gradient.model_dump(exclude_none=True),
        members=job.verify.members,
        audit=job.verify.audit,
        exported=job.export.top,
        seed=job.seed,
        pool=pool,
        evaluator=EvaluationSpec(kind=job.evaluator.kind, path=job.evaluator.path, columns=job.evaluator.columns),
    )


def _task(section: TaskSection | None) -> ModuleSpec | None:
    from ...search.pipeline.contracts import ModuleSpec

    if section is None:
        return None
    path = {} if section.path is None else {"path": section.path}
    return ModuleSpec(name=section.name, options={**section.options, **path})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
