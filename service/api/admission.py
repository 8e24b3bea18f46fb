"""Admission: a job is built and tried as far as that takes seconds before anything of it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ConfigError, SpaceError, StrategyError, TaskError
from ..schemas.job import JobSpec
from ..schemas.resolve import plan_of
from ..store.records import NewSearch

if TYPE_CHECKING:
    from ...search.pipeline.contracts import DeviceLab

__all__ = ["admit"]


def admit(job: JobSpec, lab: DeviceLab | None = None) -> NewSearch:
    """Build what the job names and check that its constraints can be met.

    Args:
        job: resolved, its names checked.
        lab: the devices of the store, where it may name some.

    Returns:
        The search to be stored.

    Raises:
        ConfigError: space and task do not fit each other, or an option has a value that is not allowed.
        InfeasibleError: no architecture meets the constraints; it names the tightest value reachable.
    """
    from ...search.pipeline.contracts import PoolSpec
    from ...search.pipeline.prepare import build_setting
    from ...search.pipeline.tabular import open_table

    plan = plan_of(job, PoolSpec())
    try:
        setting = open_table(plan)[0] if plan.evaluator.kind == "table" else build_setting(plan, lab)
    except SpaceError as error:
        raise ConfigError("space", job.space.name, str(error)) from error
    except TaskError as error:
        raise ConfigError("task", job.task.name if job.task else None, str(error)) from error
    except StrategyError as error:
        if type(error) is StrategyError:
            raise ConfigError("strategy", job.strategy.name, str(error)) from error
        raise
    space = setting.space
    return NewSearch(
        name=job.name,
        config=job.to_json(),
        space={"name": space.name, "preset": space.preset, "options": space.options, "identity": space.identity},
        objectives=tuple(item.model_dump(mode="json") for item in job.objectives),
        constraints=tuple(item.model_dump(mode="json") for item in job.constraints),
        seed=job.seed,
    )
