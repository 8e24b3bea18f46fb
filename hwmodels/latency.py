"""Latency on a device at hand, from nothing to a fitted model; and single networks measured end to end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DeviceError
from ..spaces.architecture import Architecture
from ..spaces.op import Op
from ..spaces.space import SearchSpace
from .device import Device, check_data_type
from .kernels import Kernels
from .lookup import LookupModel, model_identity
from .measure.energy import EnergyMeter, RaplMeter, idle_power_w, measure_run_energy, open_meter
from .measure.onnx_runtime import OnnxRuntimeTimer
from .measure.timer import RunnerTimer, Timer, TimerSettings
from .measurement import Measurement
from .probing import ProbeLog, ProbeSettings, Progress, probe

__all__ = ["LatencySettings", "fit_latency", "latency_identity", "measure_energy", "measure_network"]


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
    """Hash of everything that decides a fit of `fit_latency` but the measured times themselves.

    Raises:
        DeviceError: the device cannot be measured here, and no `timer` of it was given.
    """
    timer = timer or _host_timer(device, settings.timer)
    return _identity(space, device, settings, seed, dict(timer.conditions))


def _identity(
    space: SearchSpace, device: Device, settings: LatencySettings, seed: int, conditions: dict[str, Any]
) -> str:
    return model_identity(space, device.name, {"conditions": conditions, "settings": asdict(settings), "seed": seed})


def fit_latency(
    space: SearchSpace,
    device: Device,
    settings: LatencySettings | None = None,
    *,
    directory: Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    timer: Timer | None = None,
) -> LookupModel:
    """Measure kernels and networks of a space on this machine and fit the look-up model.

    A few hundred measurements, about ten seconds on an undisturbed core for a space of small images.

    Args:
        space: a space with sites.
        device: the host, or a device that `timer` measures on.
        settings: how much is measured, and how precisely.
        directory: where finished measurements are kept, so that a killed fit resumes; None keeps nothing.
        progress: called as ``progress(done, total, message)`` after every measurement.
        seed: of the choice of networks and of the order.
        timer: what measures; None = ONNX Runtime on this machine.

    Raises:
        DeviceError: the device cannot be measured here.
        SpaceError: the space is not additive over sites.
    """
    settings = settings or LatencySettings()
    timer = timer or _host_timer(device, settings.timer)
    kernels = Kernels(space)
    conditions = dict(timer.conditions)
    identity = _identity(space, device, settings, seed, conditions)
    log = ProbeLog(directory / f"{identity}.jsonl" if directory is not None else None, identity, timer)
    probes = probe(space, kernels, timer, settings.probes, log=log, seed=seed, progress=progress)
    return LookupModel.fit(
        space, kernels, probes, device=device.name, identity=identity, conditions=conditions | timer.state()
    )


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
    meter = open_meter()
    if isinstance(meter, RaplMeter):
        # Where other work starts or stops meanwhile, the latency, which is corrected for that, stands alone.
        with suppress(DeviceError):
            measured.append(measure_energy(timer, ops, meter))
    return measured


def measure_energy(timer: RunnerTimer, ops: tuple[Op, ...], meter: EnergyMeter, *, seconds: float = 1.0) -> Measurement:
    """Energy of one run, over many runs in a row: the whole device's, less its idle power just before.

    Raises:
        DeviceError: the meter does not move, or other work on the machine hides the network's.
    """
    run = timer.prepare(ops)
    idle_w = idle_power_w(meter, seconds=seconds / 2)
    return measure_run_energy(
        run, meter, device=timer.device, conditions=timer.conditions, idle_w=idle_w, seconds=seconds
    )


def _host_timer(device: Device, settings: TimerSettings, reference_ms: float | None = None) -> OnnxRuntimeTimer:
    if device.name != "host":
        raise DeviceError(
            f"device {device.name!r} is not this machine, so it cannot be measured here; measure on 'host', or use a "
            "model that was fitted on that device."
        )
    return OnnxRuntimeTimer(device.name, settings, reference_ms=reference_ms)
