"""Devices at the end of a line: the pipeline's `DeviceLab`, made of the store's measuring tasks.

A `RemoteTimer` turns Ops into tasks, which the device's agent claims over REST, and tasks into measurements. Everything
measured stays in the store under a key of what was measured and how, so that a search that was killed, a probe whose
device went away, or a second search asks only for what is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from ..errors import ConfigError, DeviceError
from ..hwmodels import catalog
from ..hwmodels.device import Device, load_device
from ..hwmodels.measure.timer import TimerSettings
from ..hwmodels.measurement import Measurement
from ..spaces.op import Op, op_signature
from ..spaces.space import SearchSpace
from .store.device_tasks import DeviceTask, NewTask
from .store.faults import NotFound
from .store.records import TERMINAL, DeviceRecord
from .store.store import Store

__all__ = ["FORMAT", "HOST", "Lab", "RemoteTimer", "Waiting", "check_device_name", "describe", "registered_names"]

HOST: Final = "host"
FORMAT: Final = 1
"""Of tasks and results; the agent's `VERSION`."""

CONDITIONS: Final = ("runtime", "cpu")
"""What an agent tells about itself that decides what a measurement is worth."""

POLL_S: Final = 0.3
SUBMIT_TOGETHER: Final = 16
SILENT_S: Final = 45.0
"""An agent that works is heard of at least every third of a lease's minute."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}", re.ASCII)


class Waiting(Exception):  # noqa: N818  # not an error: whoever asked comes again
    """A measurement is not there yet, and whoever asked does not wait.

    Args:
        message: what is waited for, in words.
    """


def check_device_name(name: str) -> str:
    """The name itself; raises ConfigError for one that no device may have."""
    if name == HOST:
        raise ConfigError("device", name, "any name but host", "That is the machine the service runs on.")
    if not _NAME.fullmatch(name):
        raise ConfigError("device", name, "up to 64 letters, digits, '_', '-' and '.', beginning with none of '-.'")
    return name


def describe(record: DeviceRecord) -> Device:
    """What is known of a registered device: its own file, else the catalog's, else what its agent told."""
    if record.description:
        return load_device(json.dumps(dict(record.description)), place=f"device {record.name}")
    if record.name in catalog.names():
        return catalog.get(record.name)
    agent = record.agent or {}
    return Device(name=record.name, title=str(agent.get("cpu", record.name)), kind="cpu")


def registered_names(store: Store) -> tuple[str, ...]:
    """Names of all registered devices."""
    return tuple(record.name for record in store.devices())


class Lab:
    """The devices of a store. A `DeviceLab`.

    Args:
        store: holds devices, tasks and results.
        patience_s: silence of an agent after which waiting for it ends with an error; None = never wait, but raise
            `Waiting` where a measurement is missing.
        server: address for messages that tell how to start an agent.
    """

    def __init__(self, store: Store, *, patience_s: float | None, server: str) -> None:
        self._store = store
        self._patience_s = patience_s
        self._server = server

    def device(self, name: str) -> Device | None:
        """A registered device, or None."""
        record = self._find(name)
        return None if record is None else describe(record)

    def fitted(self, name: str, space: SearchSpace) -> str | None:
        """The model that was fitted to this device's measurements last, where its agent still measures the same way."""
        record = self._find(name)
        if record is None:
            return None
        now = _conditions(record)
        for model in self._store.tasks.models(name):
            then = model.summary.get("conditions", {})
            if model.space == space.identity and all(then.get(key, value) == value for key, value in now.items()):
                return model.identity
        return None

    def timer(self, name: str, settings: TimerSettings, waiting: Callable[[str], None]) -> RemoteTimer | None:
        """A timer where an agent of the device was ever heard of."""
        record = self._find(name)
        if record is None or record.seen is None:
            return None
        return self.remote(record, settings, waiting)

    def remote(self, record: DeviceRecord, settings: TimerSettings, waiting: Callable[[str], None]) -> RemoteTimer:
        """A timer whether or not there is an agent: its tasks may as well be measured from a file."""
        return RemoteTimer(
            self._store, record, settings, patience_s=self._patience_s, waiting=waiting, server=self._server
        )

    def _find(self, name: str) -> DeviceRecord | None:
        try:
            return self._store.device(name)
        except NotFound:
            return None


class RemoteTimer:
    """Measures latency on a registered device through the store's measuring tasks. A `BatchTimer`.

    Args:
        store: holds tasks and results.
        record: the device.
        settings: how precisely.
        patience_s: see `Lab`.
        waiting: told what is waited for; may raise.
        server: see `Lab`.

    Raises:
        DeviceError: another data type than float32.
    """

    instrument = "onnxruntime"

    def __init__(
        self,
        store: Store,
        record: DeviceRecord,
        settings: TimerSettings,
        *,
        patience_s: float | None,
        waiting: Callable[[str], None],
        server: str,
    ) -> None:
        if settings.data_type != "float32":
            raise DeviceError(
                f"device {record.name!r}: agents measure float32; got data type {settings.data_type!r}. Leave "
                "data_type out, or name the host."
            )
        self.device = record.name
        self.settings = settings
        self.conditions: Mapping[str, str | int | float | bool] = {
            **_conditions(record),
            "threads": settings.threads,
            "dtype": settings.data_type,
            "batch": settings.batch,
        }
        self._store = store
        self._patience_s = patience_s
        self._waiting = waiting
        self._server = server
        self._timing = asdict(settings)
        self._asked: Counter[str] = Counter()
        self._scale_ms: float | None = None

    def measure(self, ops: tuple[Op, ...]) -> Measurement:
        """Median latency_ms of one run; the second call with the same Ops asks for a second measurement."""
        (measurement,) = self.measure_many([ops])
        return measurement

    def measure_many(self, subjects: Sequence[tuple[Op, ...]]) -> Iterator[Measurement]:
        """One measurement per subject, in order, as soon as it is known.

        Raises:
            DeviceError: the device refused a network, its tasks were cancelled, or it stayed silent for too long.
            Waiting: a measurement is missing and this lab does not wait.
        """
        keys = [self._key(ops) for ops in subjects]
        found = self._store.tasks.find(self.device, keys)
        self._submit({key: ops for key, ops in zip(keys, subjects, strict=True) if key not in found})
        began = time.monotonic()
        for index, key in enumerate(keys):
            while key not in found or found[key].state not in TERMINAL:
                found = self._store.tasks.find(self.device, keys[index:])
                if key not in found:
                    raise DeviceError(f"{self.device}: its tasks were removed while they were waited for; ask again.")
                if found[key].state not in TERMINAL:
                    self._wait(began, sum(task.state not in TERMINAL for task in found.values()))
            yield self._measurement(found[key])

    def state(self) -> dict[str, float]:
        """The reference kernel's nominal time on this device: that of the first measurement it ever made."""
        scale = self._find_scale()
        return {} if scale is None else {"reference_ms": scale}

    def restore(self, state: Mapping[str, float]) -> None:
        """Measure on a given scale."""
        if "reference_ms" in state:
            self._scale_ms = float(state["reference_ms"])

    def _key(self, ops: tuple[Op, ...]) -> str:
        """What is measured and how; differs for the second time the same is asked for."""
        content = repr((op_signature(ops), sorted(self._timing.items()), sorted(self.conditions.items())))
        digest = hashlib.sha256(content.encode()).hexdigest()[:40]
        self._asked[digest] += 1
        return f"{digest}-{self._asked[digest]}"

    def _submit(self, missing: Mapping[str, tuple[Op, ...]]) -> None:
        from ..hwmodels.measure.packing import pack_ops

        entries = list(missing.items())
        for first in range(0, len(entries), SUBMIT_TOGETHER):
            part = entries[first : first + SUBMIT_TOGETHER]
            models = [(key, pack_ops(ops, batch=self.settings.batch).to_json()) for key, ops in part]
            self._store.tasks.submit(
                self.device, [NewTask(key=key, model=model, timing=self._timing) for key, model in models]
            )
            self._waiting(f"{self.device}: {first + len(part)} of {len(entries)} measuring tasks prepared")

    def _wait(self, began: float, left: int) -> None:
        """Say what is waited for, then pause; or end the wait."""
        record = self._store.device(self.device)
        waited_s = time.monotonic() - began
        silent_s = waited_s if record.silent_s is None else min(record.silent_s, waited_s)
        start = f"python agent.py --server {self._server} --device {self.device}"
        if self._patience_s is None:
            raise Waiting(f"{self.device}: {left} measurements left")
        if silent_s > self._patience_s:
            raise DeviceError(
                f"device {self.device!r}: no word of its agent for {silent_s / 60:.0f} minutes, {left} measurements "
                f"left. What was measured is kept: start the agent ({start}) and submit again, or raise "
                "ARCHSMITH_DEVICE_PATIENCE_S."
            )
        if silent_s > SILENT_S:
            gone = f"silent for {silent_s / 60:.0f} min, given up after {self._patience_s / 60:.0f}"
            self._waiting(f"waiting for the agent of {self.device} ({gone}); start it: {start}")
        else:
            self._waiting(f"{self.device}: {left} measurements left")
        time.sleep(POLL_S)

    def _measurement(self, task: DeviceTask) -> Measurement:
        if task.result is None:
            reason = (task.error or {}).get("message") or f"the task was {task.state}"
            raise DeviceError(f"device {self.device!r} could not measure: {reason}. Mend the cause and ask again.")
        result: Mapping[str, Any] = task.result
        scale = self._find_scale() or result["reference_ms"]
        factor = scale / result["reference_ms"]  # every agent process has its own nominal time: bring all to one
        return Measurement(
            quantity="latency_ms",
            value=result["latency_ms"] * factor,
            iqr=result["iqr_ms"] * factor,
            repeats=result["repeats"],
            device=self.device,
            source=f"measured:{self.instrument}",
            noisy=result["noisy"],
            conditions={
                **result["conditions"],
                "reference_ms": scale,
                "slowdown_corrected": result["slowdown"],
                "precision": result["precision"],
            },
        )

    def _find_scale(self) -> float | None:
        if self._scale_ms is None and (task := self._store.tasks.first_result(self.device, self.settings.threads)):
            self._scale_ms = float((task.result or {})["reference_ms"])
        return self._scale_ms


def _conditions(record: DeviceRecord) -> dict[str, str]:
    """What decides a measurement, as the device's agent told; empty without one."""
    agent = record.agent or {}
    return {key: str(agent[key]) for key in CONDITIONS if key in agent}
