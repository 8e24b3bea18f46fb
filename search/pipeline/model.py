"""Model: what architectures cost on each device, fitted to measurements taken here, with the held-out error stated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...hwmodels.cost import CostModel
from ...hwmodels.device import Device
from ...hwmodels.energy import EnergyModel
from ...hwmodels.latency import LatencySettings, fit_latency, latency_identity
from ...hwmodels.lookup import LookupModel
from ...hwmodels.roofline import RooflineModel
from ..problem import Population, Quantity, label
from .contracts import Interrupted, Recorder, ResultStore, Stage
from .prepare import FREE_QUANTITIES, Setting

__all__ = ["CostModels", "fit_cost_models"]

HOST = "host"
"""The device that can be measured here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModels:
    """Every cost model of a search, by label (``latency_ms@host``)."""

    setting: Setting
    models: Mapping[str, CostModel]

    @property
    def known(self) -> dict[str, Quantity]:
        """By label, the quantities that need no evaluation, as functions of a population."""
        space = self.setting.space
        known: dict[str, Quantity] = {name: _free(getattr(space, name)) for name in FREE_QUANTITIES}
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
    """Fit, or take from the store, the latency and energy model of every device of the plan."""
    models: dict[str, CostModel] = {}
    settings = LatencySettings.from_json(setting.plan.cost_model)
    for name, device in setting.devices.items():
        latency = _latency(setting, device, settings, recorder=recorder, store=store)
        models[label("latency_ms", name)] = latency
        models[label("energy_mj", name)] = EnergyModel(device, latency)
    _check_known(setting, models)
    return CostModels(setting=setting, models=models)


def _latency(
    setting: Setting, device: Device, settings: LatencySettings, *, recorder: Recorder, store: ResultStore
) -> CostModel:
    if device.name != HOST:
        return RooflineModel(device)  # not at hand: its file is all there is to go by
    identity = latency_identity(setting.space, device, settings, seed=setting.plan.seed)
    found = store.find("cost_model", identity)
    recorder.stage(Stage.MODEL, reused=found is not None)
    if found is not None:
        return LookupModel.load(found.directory)
    scratch = store.scratch("cost_model", identity)
    model = fit_latency(
        setting.space,
        device,
        settings,
        directory=scratch / "measurements",
        seed=setting.plan.seed,
        progress=lambda done, total, message: _report(recorder, done, total, f"{device.name}: {message}"),
    )
    output = scratch / "output"
    output.mkdir(parents=True, exist_ok=True)
    model.save(output)
    summary = {"device": device.name, "report": model.report(), "identity": identity}
    # What is stored is what counts: another search may have stored a fit of the same identity meanwhile.
    return LookupModel.load(store.keep("cost_model", identity, output, summary).directory)


def _report(recorder: Recorder, done: float, total: float, message: str) -> None:
    recorder.progress(done, total, message)
    if reason := recorder.should_stop():
        raise Interrupted(reason)


def _free(count: object) -> Quantity:
    def quantity(genomes: Population) -> NDArray[np.float64]:
        assert callable(count)
        return np.asarray(count(genomes), dtype=np.float64)

    return quantity


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
