"""Model: what architectures cost on each device, fitted to measurements taken here, with the held-out error stated."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, DeviceError
from ...hwmodels.cost import CostModel
from ...hwmodels.device import Device
from ...hwmodels.energy import EnergyModel
from ...hwmodels.energy_probing import energy_probes
from ...hwmodels.latency import LatencySettings, fit_latency, latency_identity
from ...hwmodels.lookup import LookupModel
from ...hwmodels.memory import QUANTITIES as MEMORY
from ...hwmodels.memory import MemoryModel
from ...hwmodels.roofline import RooflineModel
from ...predictors.cost.kernels import KernelModel
from ..problem import Population, Quantity, label
from .contracts import Interrupted, Recorder, ResultStore, Stage
from .prepare import FREE_QUANTITIES, HOST, Setting, free_quantities

__all__ = ["KERNELS_KIND", "MODEL_KIND", "CostModels", "fit_cost_models", "keep_kernels", "keep_model"]

MODEL_KIND = "cost_model"
KERNELS_KIND = "kernel_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModels:
    """Every cost model of a search, by label (``latency_ms@host``)."""

    setting: Setting
    models: Mapping[str, CostModel]

    @property
    def known(self) -> dict[str, Quantity]:
        """By label, the quantities that need no evaluation, as functions of a population."""
        known = free_quantities(self.setting.space)
        for name, model in self.models.items():
            known[name] = _modelled(model, self.setting)
        return known

    def source(self, quantity: str) -> str:
        """How a known quantity is estimated; counts follow from the Ops and are exact."""
        model = self.models.get(quantity)
        if model is None:
            return "predicted:exact-count"
        return model.predict(self.setting.space, self.setting.space.smallest()[None]).source

    def report(self) -> dict[str, dict[str, float]]:
        """Held-out error by label."""
        return {name: dict(model.report()) for name, model in self.models.items()}


def fit_cost_models(setting: Setting, recorder: Recorder, store: ResultStore) -> CostModels:
    """Fit, or take from the store, the latency and energy model of every device of the plan.

    Memory is modelled where the plan asks for it: it needs no measurement.
    """
    models: dict[str, CostModel] = {}
    settings = LatencySettings.from_json(setting.plan.cost_model)
    for name, device in setting.devices.items():
        latency = _latency(setting, device, settings, recorder=recorder, store=store)
        models[label("latency_ms", name)] = latency
        with contextlib.suppress(DeviceError):  # without energy terms; `build_setting` refuses a plan that needs them
            models[label("energy_mj", name)] = _energy(setting, device, latency, settings.data_type)
        models.update(_memory(setting, device, settings.data_type or device.data_type))
    _check_known(setting, models)
    return CostModels(setting=setting, models=models)


def _energy(setting: Setting, device: Device, latency: CostModel, data_type: str | None) -> EnergyModel:
    """The terms of the device's file, calibrated where the energies of some networks were measured with the latency."""
    model = EnergyModel(device, latency, data_type=data_type)
    measured = energy_probes(latency.details) if isinstance(latency, LookupModel) else None
    return model if measured is None else measured.calibrate(model, setting.space)


def _memory(setting: Setting, device: Device, data_type: str) -> dict[str, CostModel]:
    """Models of the kinds of memory that the plan names on this device, by label."""
    named = {item.label for item in (*setting.plan.objectives, *setting.plan.constraints)}
    return {
        label(quantity, device.name): MemoryModel(setting.space, device.name, quantity=quantity, data_type=data_type)
        for quantity in MEMORY
        if label(quantity, device.name) in named
    }


def _latency(
    setting: Setting, device: Device, settings: LatencySettings, *, recorder: Recorder, store: ResultStore
) -> CostModel:
    told = _Told(recorder, device.name)
    timer = None
    if device.name != HOST:
        if (probed := _probed(setting, device, settings, store)) is not None:
            recorder.stage(Stage.MODEL, reused=True)
            return probed
        timer = setting.lab.timer(device.name, settings.timer, told.waiting) if setting.lab else None
        if timer is None:  # nobody can measure there: its kernels of other spaces, or its file, are all there is
            kernels = _kernels(setting, device, settings, store)
            return _of_kernels(kernels, setting) if kernels else RooflineModel(device, settings.data_type)
    identity = latency_identity(setting.space, device, settings, seed=setting.plan.seed, timer=timer)
    found = store.find(MODEL_KIND, identity)
    recorder.stage(Stage.MODEL, reused=found is not None)
    if found is not None:
        return LookupModel.load(found.directory)
    scratch = store.scratch(MODEL_KIND, identity)
    model = fit_latency(
        setting.space,
        device,
        settings,
        directory=scratch / "measurements" if timer is None else None,  # a device elsewhere has its own memory
        seed=setting.plan.seed,
        progress=told.progress,
        timer=timer,
    )
    return keep_model(store, model)


def _probed(setting: Setting, device: Device, settings: LatencySettings, store: ResultStore) -> CostModel | None:
    """The model that was fitted to a registered device's measurements before, if networks of this space were measured.

    One of this space alone is the most exact; next comes the kernel model where it has seen the space.
    """
    identity = setting.lab.fitted(device.name, setting.space, settings.timer.data_type) if setting.lab else None
    if found := store.find(MODEL_KIND, identity) if identity else None:
        return LookupModel.load(found.directory)
    kernels = _kernels(setting, device, settings, store)
    return _of_kernels(kernels, setting) if kernels and setting.space.identity in kernels.relative_std else None


def _of_kernels(kernels: KernelModel, setting: Setting) -> CostModel:
    """The kernel model of a device for one space: a table, where the space has sites."""
    return kernels if setting.space.sites() is None else kernels.compile(setting.space)


def _kernels(setting: Setting, device: Device, settings: LatencySettings, store: ResultStore) -> KernelModel | None:
    """The kernel model of a registered device."""
    identity = setting.lab.fitted(device.name, None, settings.timer.data_type) if setting.lab else None
    found = store.find(KERNELS_KIND, identity) if identity else None
    return KernelModel.load(found.directory) if found else None


def keep_kernels(store: ResultStore, model: KernelModel) -> KernelModel:
    """Store a fitted kernel model under its identity; what is stored first counts."""
    output = store.scratch(KERNELS_KIND, model.identity) / "output"
    model.save(output)
    summary = {
        "device": model.device,
        "report": model.report(),
        "spaces": {
            name: model.errors[identity]
            for identity, name in model.details["spaces"].items()
            if identity in model.errors
        },
        "identity": model.identity,
        "conditions": model.details.get("conditions", {}),
    }
    return KernelModel.load(store.keep(KERNELS_KIND, model.identity, output, summary).directory)


def keep_model(store: ResultStore, model: LookupModel) -> LookupModel:
    """Store a fitted model under its identity.

    What is stored is what counts: somebody else may have stored a fit of the same identity meanwhile.
    """
    output = store.scratch(MODEL_KIND, model.identity) / "output"
    output.mkdir(parents=True, exist_ok=True)
    model.save(output)
    summary = {
        "device": model.device,
        "space": model.space,
        "report": model.report(),
        "identity": model.identity,
        "conditions": model.details.get("conditions", {}),
    }
    return LookupModel.load(store.keep(MODEL_KIND, model.identity, output, summary).directory)


class _Told:
    """Passes on how far measuring is, and what is waited for, every step of which the recorder may interrupt."""

    def __init__(self, recorder: Recorder, device: str) -> None:
        self._recorder = recorder
        self._device = device
        self._done = (0.0, 1.0)

    def progress(self, done: float, total: float, message: str) -> None:
        """A measurement was made."""
        self._done = (done, total)
        self._tell(f"{self._device}: {message}")

    def waiting(self, message: str) -> None:
        """None was."""
        self._tell(message)

    def _tell(self, message: str) -> None:
        self._recorder.progress(*self._done, message)
        if reason := self._recorder.should_stop():
            raise Interrupted(reason)


def _modelled(model: CostModel, setting: Setting) -> Quantity:
    def quantity(genomes: Population) -> NDArray[np.float64]:
        return model.predict(setting.space, genomes).mean

    return quantity


def _check_known(setting: Setting, models: Mapping[str, CostModel]) -> None:
    allowed = {"accuracy", *FREE_QUANTITIES, *models}
    for place, items in (("objectives", setting.plan.objectives), ("constraints", setting.plan.constraints)):
        for index, item in enumerate(items):
            if item.label not in allowed:
                raise ConfigError(f"{place}[{index}]", item.label, ", ".join(sorted(allowed)))
