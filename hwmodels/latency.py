"""Latency on a device at hand, from nothing to a fitted model; and single networks measured end to end.

Where the device has an energy meter, the energy of some networks is measured along the way and kept with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DeviceError
from ..spaces.architecture import Architecture
from ..spaces.space import SearchSpace
from .device import Device, check_data_type
from .energy_probing import EnergySource, Metered, collect_energies
from .kernels import Kernels
from .lookup import LookupModel, model_identity
from .measure.energy import EnergyMeter, RaplMeter, measure_energy, open_meter
from .measure.onnx_runtime import OnnxRuntimeTimer
from .measure.timer import RunnerTimer, Timer, TimerSettings
from .measurement import Measurement
from .probing import ProbeLog, ProbeSettings, Progress, probe

__all__ = ["LatencySettings", "fit_latency", "latency_identity", "measure_network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySettings:
    """How latency is measured and modelled.

    Attributes:
        probes: what is measured on the host.
        timer: how precisely, and in which data type.
        data_type: what networks run in on every device; None = each device's own (`Device.data_type`).
    """

    probes: ProbeSettings = field(default_factory=ProbeSettings)
    timer: TimerSettings = field(default_factory=TimerSettings)
    data_type: str | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LatencySettings:
        """Settings with these fields of `ProbeSettings` and `data_type`; raises ConfigError for an unknown name."""
        known = sorted({"data_type", *(item.name for item in fields(ProbeSettings))})
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"cost_model.{name}", value, f"settings {', '.join(known)}")
        probes = ProbeSettings(**{name: value for name, value in values.items() if name != "data_type"})
        if (data_type := values.get("data_type")) is None:
            return cls(probes=probes)
        check_data_type(data_type, "cost_model.data_type")
        return cls(probes=probes, timer=TimerSettings(data_type=data_type), data_type=data_type)


def latency_identity(
    space: SearchSpace, device: Device, settings: LatencySettings, *, seed: int = 0, timer: Timer | None = None
) -> str:
    """Hash of everything that decides a fit of `fit_latency` but the measured values themselves.

    Raises:
        DeviceError: the device cannot be measured here, and no `timer` of it was given.
    """
    meter = _host_meter() if timer is None else None
    return _identity(space, device, settings, seed, timer or _host_timer(device, settings.timer), meter)


def _identity(
    space: SearchSpace, device: Device, settings: LatencySettings, seed: int, timer: Timer, meter: EnergyMeter | None
) -> str:
    metered = {"energy_meter": meter.instrument} if meter is not None else {}
    inputs = {"conditions": dict(timer.conditions), "settings": asdict(settings), "seed": seed}
    return model_identity(space, device.name, inputs | metered)


def fit_latency(
    space: SearchSpace,
    device: Device,
    settings: LatencySettings | None = None,
    *,
    directory: Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    timer: Timer | None = None,
    meter: EnergyMeter | None = None,
) -> LookupModel:
    """Measure kernels and networks of a space on this machine and fit the look-up model.

    A few hundred measurements, about ten seconds on an undisturbed core for a space of small images; with an energy
    meter, another twenty seconds for the energies that `energy_probing.energy_probes` finds in the model's details.

    Args:
        space: a space with sites.
        device: the host, or a device that `timer` measures on.
        settings: how much is measured, and how precisely.
        directory: where finished measurements are kept, so that a killed fit resumes; None keeps nothing.
        progress: called as ``progress(done, total, message)`` after every measurement.
        seed: of the choice of networks and of the order.
        timer: what measures; None = ONNX Runtime on this machine.
        meter: of the energy of the device that `timer` runs on; None = this machine's, where it may be read.

    Raises:
        DeviceError: the device cannot be measured here.
        SpaceError: the space is not additive over sites.
    """
    settings = settings or LatencySettings()
    meter = meter or (_host_meter() if timer is None else None)
    timer = timer or _host_timer(device, settings.timer)
    kernels = Kernels(space)
    conditions = dict(timer.conditions)
    identity = _identity(space, device, settings, seed, timer, meter)
    log = ProbeLog(directory / f"{identity}.jsonl" if directory is not None else None, identity, timer)
    count, source = settings.probes.energy_networks, _energy_source(timer, meter)

    def told(done: int) -> None:
        if progress is not None:
            progress(done, count, "measured energies")

    # Asked for before anything is waited for: a device that measures from a file gets all of its tasks at once.
    energies = collect_energies(space, source, count, seed=seed, log=log, told=told) if source and count else None
    probes = probe(space, kernels, timer, settings.probes, log=log, seed=seed, progress=progress)
    model = LookupModel.fit(
        space, kernels, probes, device=device.name, identity=identity, conditions=conditions | timer.state()
    )
    found = energies() if energies else None
    return replace(model, details=model.details | {"energy": found.to_json()}) if found else model


def measure_network(
    space: SearchSpace,
    architecture: Architecture,
    device: Device,
    settings: LatencySettings | None = None,
    *,
    reference_ms: float | None = None,
) -> list[Measurement]:
    """Measure one network end to end: latency_ms, and energy_mj where the machine has a readable energy meter.

    Args:
        space: the architecture's space.
        architecture: what to measure.
        device: the host.
        settings: how precisely.
        reference_ms: nominal time of the reference kernel, as a fitted model's
            ``details["conditions"]["reference_ms"]`` tells it, so that both are on one scale; None measures it anew.

    Raises:
        DeviceError: the device is not this machine.
    """
    settings = settings or LatencySettings()
    timer = _host_timer(device, settings.timer, reference_ms)
    ops = space.ops(architecture)
    measured = [timer.measure(ops)]
    if (meter := _host_meter()) is not None:
        # Where other work starts or stops meanwhile, the latency, which is corrected for that, stands alone.
        with suppress(DeviceError):
            measured.append(measure_energy(timer, ops, meter))
    return measured


def _host_timer(device: Device, settings: TimerSettings, reference_ms: float | None = None) -> OnnxRuntimeTimer:
    if device.name != "host":
        raise DeviceError(
            f"device {device.name!r} is not this machine, so it cannot be measured here; measure on 'host', or use a "
            "model that was fitted on that device."
        )
    return OnnxRuntimeTimer(device.name, settings, reference_ms=reference_ms)


def _host_meter() -> RaplMeter | None:
    meter = open_meter()
    return meter if isinstance(meter, RaplMeter) else None


def _energy_source(timer: Timer, meter: EnergyMeter | None) -> EnergySource | None:
    """A device elsewhere measures energy itself; one at hand needs a meter."""
    if isinstance(timer, EnergySource):
        return timer
    return Metered(timer, meter) if meter is not None and isinstance(timer, RunnerTimer) else None
