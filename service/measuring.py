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
from ..hwmodels.measure import typed_model
from ..hwmodels.measure.energy import NOISY_ENERGY
from ..hwmodels.measure.timer import TimerSettings
from ..hwmodels.measurement import Measurement
from ..spaces.op import Op, op_signature
from ..spaces.space import SearchSpace
from .store.device_tasks import DeviceTask, NewTask
from .store.faults import NotFound
from .store.records import TERMINAL, DeviceRecord
from .store.store import Store

__all__ = [
    "ALL_SPACES",
    "FORMAT",
    "HOST",
    "Lab",
    "RemoteTimer",
    "Waiting",
    "check_device_name",
    "describe",
    "registered_names",
]

HOST: Final = "host"
ALL_SPACES: Final = ""
"""In place of a space's identity: the kernel model of a device, which serves every space."""

FORMAT: Final = 1
"""Of tasks and results; the agent's `VERSION`."""

CONDITIONS: Final = ("runtime", "cpu")
"""What an agent tells about itself that decides what a measurement is worth."""

ENERGY_S: Final = 1.0
"""Of runs in a row, for the energy of one."""

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

    def fitted(self, name: str, space: SearchSpace | None, data_type: str = "float32") -> str | None:
        """The model that was fitted to this device's measurements last, where its agent still measures the same way."""
        record = self._find(name)
        if record is None:
            return None
        now = {**_conditions(record), "dtype": data_type}
        wanted = ALL_SPACES if space is None else space.identity
        for model in self._store.tasks.models(name):
            then = model.summary.get("conditions", {})
            if model.space == wanted and all(then.get(key, value) == value for key, value in now.items()):
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
    """Measures on a registered device through the store's measuring tasks. A `BatchTimer` and an `EnergySource`.

    Args:
        store: holds tasks and results.
        record: the device.
        settings: how precisely, and in which data type.
        patience_s: see `Lab`.
        waiting: told what is waited for; may raise.
        server: see `Lab`.

    Raises:
        DeviceError: the device's agent does not measure that data type.
    """

    instrument = "onnxruntime"
    energy_instrument = "rapl"

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
        _check_data_type(record, settings.data_type)
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
        # An agent that was never heard of may have a meter: its tasks are measured from a file.
        self._metered = record.agent is None or bool(record.agent.get("energy_meter"))
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
        return map(self._latency, self._results(subjects, self._timing))

    def energies(self, subjects: Sequence[tuple[Op, ...]]) -> Iterator[Measurement | None]:
        """energy_mj of one run of each, in order; None where the device cannot tell. Asked for at once."""
        if not self._metered:
            return iter([None] * len(subjects))
        return map(self._energy, self._results(subjects, self._timing | {"energy_s": ENERGY_S}))

    def measure_network(self, ops: tuple[Op, ...]) -> list[Measurement]:
        """latency_ms of a network, and energy_mj and resident_memory_bytes where the device tells them."""
        timing = self._timing | ({"energy_s": ENERGY_S} if self._metered else {})
        (result,) = self._results([ops], timing)
        found = [self._latency(result), self._energy(result), self._memory(result)]
        return [measurement for measurement in found if measurement is not None]

    def _results(self, subjects: Sequence[tuple[Op, ...]], timing: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """What the device answered to each subject, in order; asks at once for what is missing."""
        keys = [self._key(ops, timing) for ops in subjects]
        found = self._store.tasks.find(self.device, keys)
        missing = {key: ops for key, ops in zip(keys, subjects, strict=True) if key not in found}
        self._submit(missing, timing)
        return self._answers(keys, found)

    def _answers(self, keys: Sequence[str], found: dict[str, DeviceTask]) -> Iterator[Mapping[str, Any]]:
        began = time.monotonic()
        for index, key in enumerate(keys):
            while key not in found or found[key].state not in TERMINAL:
                found = self._store.tasks.find(self.device, keys[index:])
                if key not in found:
                    raise DeviceError(f"{self.device}: its tasks were removed while they were waited for; ask again.")
                if found[key].state not in TERMINAL:
                    self._wait(began, sum(task.state not in TERMINAL for task in found.values()))
            task = found[key]
            if task.result is None:
                reason = (task.error or {}).get("message") or f"the task was {task.state}"
                raise DeviceError(f"device {self.device!r} could not measure: {reason}. Mend the cause and ask again.")
            yield task.result

    def state(self) -> dict[str, float]:
        """The reference kernel's nominal time on this device: that of the first measurement it ever made."""
        scale = self._find_scale()
        return {} if scale is None else {"reference_ms": scale}

    def restore(self, state: Mapping[str, float]) -> None:
        """Measure on a given scale."""
        if "reference_ms" in state:
            self._scale_ms = float(state["reference_ms"])

    def _key(self, ops: tuple[Op, ...], timing: Mapping[str, Any]) -> str:
        """What is measured and how; differs for the second time the same is asked for."""
        content = repr((op_signature(ops), sorted(timing.items()), sorted(self.conditions.items())))
        digest = hashlib.sha256(content.encode()).hexdigest()[:40]
        self._asked[digest] += 1
        return f"{digest}-{self._asked[digest]}"

    def _submit(self, missing: Mapping[str, tuple[Op, ...]], timing: Mapping[str, Any]) -> None:
        from ..hwmodels.measure.packing import pack_ops

        entries, batch, data_type = list(missing.items()), self.settings.batch, self.settings.data_type
        for first in range(0, len(entries), SUBMIT_TOGETHER):
            part = entries[first : first + SUBMIT_TOGETHER]
            models = [(key, pack_ops(ops, batch=batch, data_type=data_type).to_json()) for key, ops in part]
            new = [NewTask(key=key, model=model, timing=dict(timing)) for key, model in models]
            self._store.tasks.submit(self.device, new)
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

    def _latency(self, result: Mapping[str, Any]) -> Measurement:
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

    def _energy(self, result: Mapping[str, Any]) -> Measurement | None:
        energy = result.get("energy")
        if energy is None:
            return None
        return Measurement(
            quantity="energy_mj",
            value=energy["value_mj"],
            iqr=energy["iqr_mj"],
            repeats=energy["runs"],
            device=self.device,
            source=f"measured:{energy['meter']}",
            noisy=energy["iqr_mj"] > NOISY_ENERGY * energy["value_mj"],
            conditions={
                **result["conditions"],
                "idle_power_subtracted": energy["idle_power_w"] > 0,
                "idle_power_w": energy["idle_power_w"],
            },
        )

    def _memory(self, result: Mapping[str, Any]) -> Measurement | None:
        if (grown := result.get("resident_memory_bytes")) is None:
            return None
        return Measurement(
            quantity="resident_memory_bytes",
            value=float(grown),
            iqr=0.0,
            repeats=1,
            device=self.device,
            source="measured:getrusage",
            conditions=dict(result["conditions"]),
        )

    def _find_scale(self) -> float | None:
        if self._scale_ms is None and (task := self._store.tasks.first_result(self.device, self.settings.threads)):
            self._scale_ms = float((task.result or {})["reference_ms"])
        return self._scale_ms


def _conditions(record: DeviceRecord) -> dict[str, str]:
    """What decides a measurement, as the device's agent told; empty without one."""
    agent = record.agent or {}
    return {key: str(agent[key]) for key in CONDITIONS if key in agent}


def _check_data_type(record: DeviceRecord, data_type: str) -> None:
    """Refuse what the runtime cannot compute in, or what an old agent does not know."""
    known = typed_model.DATA_TYPES
    if record.agent is not None:
        known = tuple(str(record.agent.get("data_types", "float32")).split())
    if data_type not in known:
        raise DeviceError(
            f"device {record.name!r}: its agent measures {', '.join(known)}; got data type {data_type!r}. Choose one "
            "of these, or fetch agent.py again where it is an older one."
        )
