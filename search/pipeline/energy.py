"""What a search's own work takes: expected before it begins, and spent by stage while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from ...errors import DeviceError
from ...hwmodels import catalog as devices
from ...hwmodels.training_energy import estimate_training
from ...predictors.supernet.samplers import SAMPLERS
from ...predictors.supernet.settings import SupernetSettings
from ...predictors.training import StandaloneSettings
from ..budget import EnergyCounter, open_energy_counter
from ..gradient.relaxations import ALL_RUN
from ..gradient.settings import GradientSettings
from .contracts import Stage
from .prepare import HOST, Setting

__all__ = ["Clock", "expected_energy"]

SAMPLED = 64
"""Random architectures whose mean MACs stand for those that will be trained."""

JOULES_PER_WATT_HOUR = 3600.0


def expected_energy(setting: Setting) -> dict[str, object]:
    """Watt-hours that training is expected to take on this machine, by what is trained, with one standard deviation.

    Empty where the machine's file lacks a rate or a power. The estimate is a roofline's, within half of the truth.
    """
    plan, space = setting.plan, setting.space
    try:
        host = devices.get(HOST, measured=True)
        macs = float(space.macs(space.sample(SAMPLED, np.random.default_rng(plan.seed))).mean())
        samples = {"alone": _alone(setting)}
        if plan.gradient is not None:
            samples["gradient"] = _by_gradient(setting, GradientSettings.from_json(plan.gradient))
        elif plan.evaluator.kind == "supernet":
            settings = SupernetSettings.from_json(plan.supernet)
            paths = len(SAMPLERS[settings.sampler](space, settings, plan.seed).paths(settings.steps - 1))
            samples["supernet"] = settings.total_steps * settings.batch_size * paths
        found = {name: estimate_training(host, macs=macs, samples=count) for name, count in samples.items()}
    except DeviceError:
        return {}
    return {
        name: {"watt_hours": item.energy_wh, "std": item.std_wh, "source": item.source} for name, item in found.items()
    }


def _alone(setting: Setting) -> int:
    """Samples seen by the networks that `verify` trains from scratch."""
    recipe = StandaloneSettings.from_json(setting.plan.standalone)
    return (setting.plan.members + setting.plan.audit) * recipe.steps * recipe.batch_size


def _by_gradient(setting: Setting, settings: GradientSettings) -> int:
    """Samples seen by the candidates of a gradient-based search, those of the choices' updates included."""
    schedule = settings.schedule
    updates = 1.0 if schedule.name == "single_level" else 1.0 + (1.0 - schedule.warmup) / schedule.every
    places = setting.space.mixed_places() or ()
    every = sum(len(place.choices) for place in places) / max(len(places), 1)
    paths = every if settings.relaxation.name in ALL_RUN else 1.0
    return round(settings.steps * settings.batch_size * schedule.samples * updates * paths)


@dataclass(slots=True)
class Clock:
    """Seconds and watt-hours per stage of this run.

    Attributes:
        seconds: by stage.
        watt_hours: by stage; from a counter where the machine has one, else its power times the seconds.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    watt_hours: dict[str, float] = field(default_factory=dict)
    _counter: EnergyCounter = field(init=False)
    _since: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        power = devices.get(HOST).busy_power_w
        self._counter = open_energy_counter(power.value if power else 0.0)
        self._since = self._now()

    @property
    def source(self) -> str:
        """Where the watt-hours are from."""
        return self._counter.source

    def lap(self, stage: Stage) -> None:
        """Book what was spent since the last lap on a stage."""
        before, self._since = self._since, self._now()
        self.seconds[stage] = round(self._since[0] - before[0], 3)
        self.watt_hours[stage] = (self._since[1] - before[1]) / JOULES_PER_WATT_HOUR

    def _now(self) -> tuple[float, float]:
        return time.monotonic(), self._counter.joules()
