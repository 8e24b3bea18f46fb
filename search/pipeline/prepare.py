"""Prepare: build what the plan names, and refuse a plan that cannot work before any time is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ... import spaces
from ...errors import ConfigError, DeviceError
from ...hwmodels import catalog as devices
from ...hwmodels.device import Device
from ...hwmodels.energy import EnergyTerms
from ...hwmodels.latency import LatencySettings
from ...hwmodels.measure.timer import TimerSettings
from ...hwmodels.measure.typed_model import DATA_TYPES as MEASURED_TYPES
from ...hwmodels.roofline import RooflineModel
from ...predictors.recipe import check_recipe, recipe_genes
from ...predictors.tasks import catalog as tasks
from ...predictors.tasks.task import Task
from ...predictors.training import StandaloneSettings
from ...spaces.space import SearchSpace
from ..feasibility import check_feasible
from ..gradient.settings import GradientSettings
from ..problem import Population, Problem, Quantity
from ..strategies.derived import Derived
from .contracts import DeviceLab, Plan

__all__ = ["FREE_QUANTITIES", "HOST", "SearchSetting", "Setting", "build_setting", "free_quantities"]

HOST = "host"
"""The device that is measured in this process."""

FREE_QUANTITIES = ("params", "macs")
"""Quantities that follow from the Ops alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSetting:
    """What the search stage needs of a plan with its names resolved."""

    plan: Plan
    space: SearchSpace

    @property
    def joint(self) -> bool:
        """Whether the space's recipe genes decide how candidates are trained."""
        return self.plan.evaluator.kind == "standalone" and bool(recipe_genes(self.space))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(SearchSetting):
    """The plan with its names resolved: what the stages that train and measure work on."""

    task: Task
    devices: dict[str, Device]
    lab: DeviceLab | None = None

    @property
    def worker_config(self) -> dict[str, object]:
        """What a worker process needs to build the space and the task itself."""
        assert self.plan.task is not None
        return {"space": self.plan.space.to_json(), "task": self.plan.task.to_json()}


def free_quantities(space: SearchSpace) -> dict[str, Quantity]:
    """By name, the quantities that follow from the Ops alone, as functions of a population."""
    return {name: _counted(getattr(space, name)) for name in FREE_QUANTITIES}


def _counted(count: Callable[[Population], NDArray[np.int64]]) -> Quantity:
    return lambda genomes: count(genomes).astype(np.float64)


def build_setting(plan: Plan, lab: DeviceLab | None = None) -> Setting:
    """Resolve the plan's names.

    Args:
        plan: what is searched.
        lab: knows devices that the catalog does not, and measures on them.

    Raises:
        ConfigError: the networks of the space do not take the task's samples, or a quantity is asked for on a device
            that can neither be measured nor is described well enough.
        InfeasibleError: constraints on quantities that need no device cannot be met.
    """
    space = spaces.get(plan.space.name, plan.space.preset, **plan.space.options)
    if plan.task is None:
        raise ConfigError("task", None, f"one of {', '.join(tasks.names())}", "Only a table needs none.")
    task = tasks.get(plan.task.name, **plan.task.options)
    _check_gradient(plan, space)
    _check_fit(space, task)
    if plan.evaluator.kind == "standalone":
        check_recipe(space, StandaloneSettings.from_json(plan.standalone))
    device_by_name = {name: (lab.device(name) if lab else None) or devices.get(name) for name in plan.devices}
    _check_devices(plan, space, device_by_name, lab)
    device_free = tuple(c for c in plan.constraints if c.device is None and c.name in FREE_QUANTITIES)
    if device_free:
        problem = Problem(
            space=space,
            objectives=plan.objectives,
            constraints=device_free,
            known=free_quantities(space),
        )
        check_feasible(problem, np.random.default_rng(plan.seed))
    return Setting(plan=plan, space=space, task=task, devices=device_by_name, lab=lab)


def _check_devices(plan: Plan, space: SearchSpace, known: dict[str, Device], lab: DeviceLab | None) -> None:
    """Refuse what would fail only after the supernet was trained: a quantity that nothing can tell."""
    settings = LatencySettings.from_json(plan.cost_model)
    data_type = settings.data_type
    if HOST in known and data_type not in (None, *MEASURED_TYPES):
        allowed = f"one of {', '.join(MEASURED_TYPES)}, which can be measured on {HOST}"
        raise ConfigError("cost_model.data_type", data_type, allowed)
    for place, items in (("objectives", plan.objectives), ("constraints", plan.constraints)):
        for index, item in enumerate(items):
            if item.device is None or item.device not in known:
                continue
            device = known[item.device]
            try:
                if not _is_measured(device, space, settings.timer, lab):
                    RooflineModel(device, data_type)
                if item.name == "energy_mj":
                    EnergyTerms.of(device, data_type or device.data_type)
            except DeviceError as error:
                hint = "" if item.name == "energy_mj" else " Or start its agent: see docs/devices.md."
                raise ConfigError(f"{place}[{index}].device", device.name, f"{error}{hint}") from error


def _check_gradient(plan: Plan, space: SearchSpace) -> None:
    """Refuse a gradient-based search that does not go with the rest of the plan."""
    if plan.gradient is None:
        if plan.strategy.name == Derived.name:
            raise ConfigError("strategy.name", Derived.name, "another strategy without `gradient`, which it draws from")
        return
    settings = GradientSettings.from_json(plan.gradient)
    if space.mixed_places() is None:
        given = f"{space.name}, preset {space.preset}" if space.preset else space.name
        raise ConfigError("gradient", f"space {given}", "a space with mixtures", str(space.no_mixtures()))
    if settings.relaxation.partial > 1 and plan.evaluator.kind == "supernet":
        allowed = "standalone where gradient.relaxation.partial is above 1"
        hint = "Operations on a part of the channels hold the weights of no network."
        raise ConfigError("evaluator.kind", plan.evaluator.kind, allowed, hint)


def _is_measured(device: Device, space: SearchSpace, timing: TimerSettings, lab: DeviceLab | None) -> bool:
    """Whether a latency model of measurements is there, or can be fitted; raises DeviceError for a wrong data type."""
    if device.name == HOST:
        return True
    if lab is None:
        return False
    known = (lab.fitted(device.name, place, timing.data_type) for place in (space, None))
    return any(known) or lab.timer(device.name, timing, _patient) is not None


def _patient(message: str) -> None:
    """Nothing is waited for while preparing."""


def _check_fit(space: SearchSpace, task: Task) -> None:
    shapes = tuple(tuple(tensor.shape[1:]) for tensor in space.example_inputs(1))
    if shapes != task.input_shapes:
        raise ConfigError(
            "task",
            f"{task.name} with samples of shape {_shapes(task.input_shapes)}",
            f"samples of shape {_shapes(shapes)}, which the networks of {space.name}/{space.preset} take",
            f"Choose another preset, or give the space other values of its options {', '.join(space.options)}.",
        )
    for name, least in task.sizes.items():
        size = space.options.get(name)
        if isinstance(size, int) and size < least:
            raise ConfigError(f"space.options.{name}", size, f"at least {least}, for task {task.name!r}")


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " and ".join(map(str, shapes))
