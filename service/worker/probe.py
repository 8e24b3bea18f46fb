"""Probing a device: its kernels and networks become measuring tasks, and what it measured a fitted latency model.

A probe never waits. It asks for what is missing and goes back to the queue, from where it is taken again once its
device has nothing left to measure; what was measured before is in the store, so every try gets further.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ... import spaces
from ...hwmodels.latency import LatencySettings, fit_latency
from ...search.pipeline.contracts import Interrupted
from ...search.pipeline.model import keep_model
from ...spaces.space import SearchSpace
from ..measuring import Lab, describe
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
    """Fit the device's model for the space, and make it the one that searches use.

    Raises:
        Waiting: something is still to be measured; it has been asked for.
        Interrupted: the worker is asked to stop.
        DeviceError: the device refused a network.
    """
    payload = lease.payload
    record = store.device(payload["device"])
    space, latency = space_of(payload), LatencySettings.from_json(payload["settings"])

    def check(message: str) -> None:
        if reason := heartbeat.reason():
            raise Interrupted(reason)

    timer = Lab(store, patience_s=None, server=settings.url).remote(record, latency.timer, check)
    model = fit_latency(
        space,
        describe(record),
        latency,
        seed=payload["seed"],
        timer=timer,
        progress=lambda done, total, message: check(message),
    )
    kept = keep_model(DatabaseResultStore(store, lease, Path(settings.runs_dir)), model)
    store.tasks.keep_model(lease, record.name, space.identity, kept.identity)
