"""Probing a device: kernels and networks become measuring tasks, and what it measured a fitted latency model.

With a search space, that is a look-up model of this space; without one, the kernel model, which serves every space.

A probe never waits. It asks for what is missing and goes back to the queue, from where it is taken again once its
device has nothing left to measure; what was measured before is in the store, so every try gets further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ... import spaces
from ...hwmodels.latency import LatencySettings, fit_latency
from ...hwmodels.measure.timer import TimerSettings
from ...predictors.cost.kernel_fitting import KernelSettings, fit_kernels
from ...search.pipeline.contracts import Interrupted
from ...search.pipeline.model import keep_kernels, keep_model
from ...spaces.space import SearchSpace
from ..measuring import ALL_SPACES, Lab, describe
from ..settings import Settings
from ..store.records import Lease
from ..store.store import Store
from .heartbeat import Heartbeat
from .results import DatabaseResultStore

__all__ = ["run_probe", "space_of"]


def space_of(payload: Mapping[str, Any]) -> SearchSpace:
    """The search space of a probe's payload."""
    return spaces.get(payload["space"], payload["preset"], **payload["options"])


def run_probe(store: Store, settings: Settings, lease: Lease, heartbeat: Heartbeat) -> None:
    """Fit the device's model, and make it the one that searches use.

    Raises:
        Waiting: something is still to be measured; it has been asked for.
        Interrupted: the worker is asked to stop.
        DeviceError: the device refused a network.
    """
    payload = lease.payload
    record = store.device(payload["device"])

    def check(message: str) -> None:
        if reason := heartbeat.reason():
            raise Interrupted(reason)

    def progress(done: int, total: int, message: str) -> None:
        check(message)

    # Probes of before there were other data types name none.
    timing = TimerSettings(data_type=payload.get("data_type", "float32"))
    timer = Lab(store, patience_s=None, server=settings.url).remote(record, timing, check)
    results = DatabaseResultStore(store, lease, Path(settings.runs_dir))
    if payload["space"] is None:
        wanted = KernelSettings.from_json(payload["settings"])
        kernels = keep_kernels(results, fit_kernels(timer, wanted, seed=payload["seed"], progress=progress))
        store.tasks.keep_model(lease, record.name, ALL_SPACES, kernels.identity)
        return
    space, latency = space_of(payload), LatencySettings.from_json(payload["settings"])
    latency = replace(latency, timer=timing, data_type=timing.data_type)
    model = fit_latency(space, describe(record), latency, seed=payload["seed"], timer=timer, progress=progress)
    store.tasks.keep_model(lease, record.name, space.identity, keep_model(results, model).identity)
