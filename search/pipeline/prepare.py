"""Prepare: build what the plan names, and refuse a plan that cannot work before any time is spent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import spaces
from ...errors import ConfigError
from ...hwmodels import catalog as devices
from ...hwmodels.device import Device
from ...predictors.tasks import catalog as tasks
from ...predictors.tasks.task import Task
from ...spaces.space import SearchSpace
from ..feasibility import check_feasible
from ..problem import Problem
from .contracts import Plan

__all__ = ["FREE_QUANTITIES", "Setting", "build_setting"]

FREE_QUANTITIES = ("params", "macs")
"""Quantities that follow from the Ops alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The plan with its names resolved: what every later stage works on."""

    plan: Plan
    space: SearchSpace
    task: Task
    devices: dict[str, Device]


def build_setting(plan: Plan) -> Setting:
    """Resolve the plan's names.

    Raises:
        ConfigError: the networks of the space do not take the task's samples.
        InfeasibleError: constraints on quantities that need no device cannot be met.
    """
    space = spaces.get(plan.space.name, plan.space.preset, **plan.space.options)
    task = tasks.get(plan.task.name, **plan.task.options)
    _check_fit(space, task)
    device_by_name = {name: devices.get(name) for name in plan.devices}
    device_free = tuple(c for c in plan.constraints if c.device is None and c.name in FREE_QUANTITIES)
    if device_free:
        problem = Problem(
            space=space,
            objectives=plan.objectives,
            constraints=device_free,
            known={name: getattr(space, name) for name in FREE_QUANTITIES},
        )
        check_feasible(problem, np.random.default_rng(plan.seed))
    return Setting(plan=plan, space=space, task=task, devices=device_by_name)


def _check_fit(space: SearchSpace, task: Task) -> None:
    shape = tuple(space.example_inputs(1)[0].shape[1:])
    if shape != tuple(task.input_shape):
        raise ConfigError(
            "task",
            f"{task.name} with samples of shape {tuple(task.input_shape)}",
            f"samples of shape {shape}, which the networks of {space.name}/{space.preset} take",
            "Choose another preset, or give the space the options in_channels and resolution.",
        )
