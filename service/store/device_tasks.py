"""What devices measure: tasks under the same leases as every other job, their results, and who has been heard of.

A task is a job of kind `measurement`, so that claiming, renewing, fencing and giving up are those of `leases.py`; the
row of `device_task` beside it holds what the device needs. A key names what is measured and how: a device measures each
key once, whoever asks for it, and what failed is asked for again only after `forget_failed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from . import jobs, leases
from .database import Database, db_now, moment
from .faults import Conflict, NotFound
from .records import CancelMode, JobKind, JobRecord, JobState, Json, Lease
from .tables import device, device_model, device_task, job, stored_result

__all__ = ["DeviceModelRecord", "DeviceTask", "DeviceTasks", "NewTask"]

_CLAIMABLE = (job.c.state == JobState.QUEUED) | ((job.c.state == JobState.RUNNING) & (job.c.lease_until < db_now()))

SEEN_S = 5.0
"""How exactly it is known when an agent was last heard of."""

_MODELS = ("cost_model", "kernel_model")
"""Kinds of stored results that are fitted to a device's measurements."""

_CHUNK = 500
"""Keys per query, below every database's limit of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A measurement to be made on a device.

    Attributes:
        key: what is measured and how.
        model: the packed ONNX model (`hwmodels.measure.packing`).
        timing: fields of `TimerSettings`.
    """

    key: str
    model: Json
    timing: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTask:
    """A measuring task.

    Attributes:
        model: None once measured, and where it was not asked for.
        result: what the agent posted, None before.
        error: why it failed, or None.
    """

    id: str
    device: str
    key: str
    state: JobState
    epoch: int
    timing: Json
    model: Json | None
    result: Json | None
    error: Json | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModelRecord:
    """The latency model last fitted to a device's measurements for one search space, or (space ``""``) for all."""

    device: str
    space: str
    identity: str
    summary: Json
    created: datetime


class DeviceTasks:
    """The operations on measuring tasks, one transaction each; part of `Store`.

    Args:
        database: the store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # What asks for measurements

    def submit(self, name: str, new: Sequence[NewTask]) -> int:
        """Queue the tasks whose keys this device neither has measured nor shall; returns how many.

        Raises:
            NotFound: the device is not registered.
        """
        with self._database.write() as conn:
            _known(conn, name)
            keys = _states(conn, name, [one.key for one in new])
            fresh = {one.key: one for one in new if one.key not in keys}
            for one in fresh.values():
                values = {"id": jobs.create(conn, JobKind.MEASUREMENT, {"device": name}).id, "device": name}
                values |= {"key": one.key, "model": dict(one.model), "timing": dict(one.timing)}
                conn.execute(insert(device_task).values(values))
            return len(fresh)

    def find(self, name: str, keys: Sequence[str]) -> dict[str, DeviceTask]:
        """The tasks of these keys, without their models; unknown keys are left out."""
        with self._database.read() as conn:
            return _states(conn, name, keys)

    def first_result(self, name: str, threads: int) -> DeviceTask | None:
        """The task that this device finished first with that many threads: its reference time is the device's scale."""
        query = _query(model=False).where(device_task.c.device == name, job.c.state == JobState.SUCCEEDED)
        with self._database.read() as conn:
            for row in conn.execute(query.order_by(job.c.finished, job.c.id)).mappings():
                if row["timing"].get("threads") == threads:
                    return _task(row)
        return None

    def open(self, name: str, *, after: str = "", limit: int = 50) -> list[DeviceTask]:
        """Tasks that nobody has finished, with their models, by id; `after` is the last id already seen."""
        query = _query(model=True).where(device_task.c.device == name, job.c.finished.is_(None), job.c.id > after)
        with self._database.read() as conn:
            _known(conn, name)
            return [_task(row) for row in conn.execute(query.order_by(job.c.id).limit(limit)).mappings()]

    def counts(self, name: str) -> dict[JobState, int]:
        """How many tasks of a device are in which state."""
        query = select(job.c.state, func.count()).join(device_task, device_task.c.id == job.c.id)
        with self._database.read() as conn:
            rows = conn.execute(query.where(device_task.c.device == name).group_by(job.c.state))
            return {JobState(state): count for state, count in rows}

    def forget_failed(self, name: str) -> int:
        """Forget tasks that failed or were cancelled, so that they may be asked for again; how many."""
        ended = (JobState.FAILED, JobState.CANCELLED)
        found = _ids(name).join(job, job.c.id == device_task.c.id).where(job.c.state.in_(ended))
        with self._database.write() as conn:
            return conn.execute(delete(job).where(job.c.id.in_(found))).rowcount

    def cancel(self, name: str) -> int:
        """Cancel what a device still has to measure, and the probes that wait for it; how many."""
        with self._database.write() as conn:
            _known(conn, name)
            tasks = select(job.c.id).where(job.c.id.in_(_ids(name)), job.c.finished.is_(None))
            ids = [*conn.execute(tasks).scalars(), *(record.id for record in _probes(conn, name))]
            for one in ids:
                jobs.cancel(conn, one, CancelMode.KILL)
            return len(ids)

    # What agents do

    def hello(self, name: str, agent: Json | None = None) -> None:
        """An agent of this device was heard of; with `agent`, what it told about itself. Registers a new device.

        Within `SEEN_S` seconds, a second word without news changes nothing, so that a busy agent costs no extra write.
        """
        dialect = sqlite if self._database.is_sqlite else postgresql
        values = {"name": name, "description": {}, "created": db_now(), "updated": db_now(), "seen": db_now()}
        heard = {"seen": db_now()} | ({} if agent is None else {"agent": dict(agent)})
        statement = dialect.insert(device).values(values | heard)
        with self._database.write() as conn:
            stale = None if agent is not None else device.c.seen.is_(None) | (device.c.seen < db_now() - SEEN_S)
            conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=heard, where=stale))

    def waiting(self, name: str) -> bool:
        """Whether there is a task that could be claimed; a read, so that idle agents write nothing."""
        query = select(job.c.id).where(job.c.id.in_(_ids(name)), job.c.finished.is_(None), _CLAIMABLE)
        with self._database.read() as conn:
            return conn.execute(query.limit(1)).first() is not None

    def claim(self, name: str, worker: str, ttl_s: float) -> tuple[Lease, DeviceTask] | None:
        """Lease a device's oldest open task, or None."""
        with self._database.write() as conn:
            leases.sweep(conn)
            kinds = (JobKind.MEASUREMENT,)
            lease = leases.claim(conn, worker, kinds=kinds, job_id=None, ttl_s=ttl_s, among=_ids(name))
            return None if lease is None else (lease, _get(conn, name, lease.job_id))

    def lease(self, name: str, task_id: str, *, worker: str, epoch: int, ttl_s: float) -> Lease:
        """What an agent that names its task and epoch holds; whether it still does, the fence of every write tells.

        Raises:
            NotFound: the device has no such task.
        """
        with self._database.read() as conn:
            _get(conn, name, task_id)
        return Lease(
            job_id=task_id, kind=JobKind.MEASUREMENT, epoch=epoch, worker=worker, ttl_s=ttl_s, attempts=0, payload={}
        )

    def finish(self, lease: Lease, result: Json) -> None:
        """Store a result and end the task, once.

        Raises:
            LeaseLostError: someone else has the task, or its result is stored already.
        """
        with self._database.write() as conn:
            _finish(conn, lease, result)

    def take(self, name: str, task_id: str, *, worker: str, result: Json | None, message: str = "") -> None:
        """Store a result that was measured without a lease, from a file; None and a message where there is none.

        Raises:
            NotFound: the device has no such task.
            Conflict: it has a result already, was given up, or an agent measures it right now.
        """
        with self._database.write() as conn:
            task = _get(conn, name, task_id)
            kinds = (JobKind.MEASUREMENT,)
            lease = leases.claim(conn, worker, kinds=kinds, job_id=task_id, ttl_s=60.0)
            if lease is None:
                raise Conflict(f"take a result of task {task_id}", task.state, (JobState.QUEUED,))
            if result is None:
                leases.fail(conn, lease, {"reason": "device", "message": message}, retry=False)
            else:
                _finish(conn, lease, result)

    # What is made of it

    def ready_probe(self) -> str | None:
        """A probe whose device has nothing left to measure, so that it can go on; None without one."""
        busy = select(device_task.c.device).join(job, job.c.id == device_task.c.id).where(job.c.finished.is_(None))
        with self._database.read() as conn:
            waiting = set(conn.execute(busy.distinct()).scalars())
            for record in _probes(conn, claimable=True):
                if record.payload["device"] not in waiting:
                    return record.id
        return None

    def probes(self, name: str) -> list[JobRecord]:
        """A device's probes that have not ended, oldest first."""
        with self._database.read() as conn:
            return _probes(conn, name)

    def keep_model(self, lease: Lease, name: str, space: str, identity: str) -> None:
        """Make the stored cost model `identity` the one that searches of this space take for this device."""
        dialect = sqlite if self._database.is_sqlite else postgresql
        values = {"device": name, "space": space, "identity": identity, "created": db_now()}
        statement = dialect.insert(device_model).values(values)
        new = {"identity": statement.excluded.identity, "created": statement.excluded.created}
        with self._database.write() as conn:
            leases.fence(conn, lease)
            conn.execute(statement.on_conflict_do_update(index_elements=["device", "space"], set_=new))

    def models(self, name: str) -> list[DeviceModelRecord]:
        """The models fitted to a device's measurements, newest first."""
        query = select(device_model, stored_result.c.summary).join(
            stored_result,
            (stored_result.c.identity == device_model.c.identity) & stored_result.c.kind.in_(_MODELS),
        )
        with self._database.read() as conn:
            rows = conn.execute(query.where(device_model.c.device == name).order_by(device_model.c.created.desc()))
            return [
                DeviceModelRecord(
                    device=row.device,
                    space=row.space,
                    identity=row.identity,
                    summary=row.summary,
                    created=moment(row.created),
                )
                for row in rows
            ]


def _ids(name: str) -> Select[tuple[str]]:
    return select(device_task.c.id).where(device_task.c.device == name)


def _known(conn: Connection, name: str) -> None:
    if conn.execute(select(device.c.name).where(device.c.name == name)).one_or_none() is None:
        raise NotFound("device", name)


def _probes(conn: Connection, name: str | None = None, *, claimable: bool = False) -> list[JobRecord]:
    query = select(job).where(job.c.kind == JobKind.PROBE, job.c.finished.is_(None)).order_by(job.c.id)
    if claimable:
        query = query.where(_CLAIMABLE)
    records = [jobs.from_row(row) for row in conn.execute(query).mappings()]
    return [record for record in records if name is None or record.payload["device"] == name]


def _query(*, model: bool) -> Select[tuple[object, ...]]:
    columns = [column for column in device_task.c if model or column.name != "model"]
    return select(*columns, job.c.state, job.c.epoch, job.c.error).join(job, job.c.id == device_task.c.id)


def _states(conn: Connection, name: str, keys: Sequence[str]) -> dict[str, DeviceTask]:
    out = {}
    for first in range(0, len(keys), _CHUNK):
        chosen = device_task.c.key.in_(list(keys[first : first + _CHUNK]))
        for row in conn.execute(_query(model=False).where(device_task.c.device == name, chosen)).mappings():
            out[row["key"]] = _task(row)
    return out


def _get(conn: Connection, name: str, task_id: str) -> DeviceTask:
    query = _query(model=True).where(device_task.c.device == name, device_task.c.id == task_id)
    row = conn.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"task of device {name!r}", task_id)
    return _task(row)


def _finish(conn: Connection, lease: Lease, result: Json) -> None:
    leases.close(conn, lease, JobState.SUCCEEDED)
    conn.execute(update(device_task).where(device_task.c.id == lease.job_id).values(result=dict(result), model=None))


def _task(row: RowMapping) -> DeviceTask:
    return DeviceTask(
        id=row["id"],
        device=row["device"],
        key=row["key"],
        state=JobState(row["state"]),
        epoch=row["epoch"],
        timing=row["timing"],
        model=row.get("model"),
        result=row["result"],
        error=row["error"],
    )
