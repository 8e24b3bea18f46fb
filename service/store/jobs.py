"""Jobs as users see them: create, list, and ask for cancellation, pause or resumption."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from . import events
from .database import db_now, moment
from .faults import Conflict, NotFound
from .ids import new_id
from .records import CancelMode, JobKind, JobRecord, JobState, Json
from .tables import job

__all__ = ["cancel", "create", "from_row", "get", "locked", "move", "page", "pause", "resume"]


def from_row(row: RowMapping) -> JobRecord:
    """The record of a row of `job`."""
    return JobRecord(
        id=row["id"],
        kind=row["kind"],
        state=JobState(row["state"]),
        payload=row["payload"],
        epoch=row["epoch"],
        attempts=row["attempts"],
        worker=row["worker"],
        lease_until=moment(row["lease_until"]),
        cancel_requested_at=moment(row["cancel_requested_at"]),
        cancel_mode=None if row["cancel_mode"] is None else CancelMode(row["cancel_mode"]),
        pause_requested_at=moment(row["pause_requested_at"]),
        error=row["error"],
        created=moment(row["created"]),
        started=moment(row["started"]),
        finished=moment(row["finished"]),
    )


def create(conn: Connection, kind: str, payload: Json) -> JobRecord:
    """Insert a queued job."""
    values = {
        "id": new_id(),
        "kind": kind,
        "state": JobState.QUEUED,
        "payload": dict(payload),
        "epoch": 0,
        "attempts": 0,
    }
    row = conn.execute(insert(job).values(created=db_now(), **values).returning(job)).mappings().one()
    return from_row(row)


def get(conn: Connection, job_id: str) -> JobRecord:
    """One job by id."""
    row = conn.execute(select(job).where(job.c.id == job_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return from_row(row)


def page(
    conn: Connection, *, limit: int, before: str | None, state: JobState | None, kind: str | None
) -> list[JobRecord]:
    """Newest first; measuring tasks, hundreds per probe, only where their kind is asked for."""
    query = select(job).order_by(job.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(job.c.id < before)
    if state is not None:
        query = query.where(job.c.state == state)
    query = query.where(job.c.kind != JobKind.MEASUREMENT if kind is None else job.c.kind == kind)
    return [from_row(row) for row in conn.execute(query).mappings()]


def locked(conn: Connection, job_id: str) -> JobRecord:
    """One job, its row locked until the transaction ends."""
    row = conn.execute(select(job).where(job.c.id == job_id).with_for_update()).mappings().one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return from_row(row)


def move(conn: Connection, record: JobRecord, state: JobState, **columns: Any) -> JobRecord:
    """Change a locked job's state and log it; columns that the new state decides are set here.

    The caller has checked that the transition is legal.
    """
    values: dict[str, Any] = {"state": state, "lease_until": None, "worker": None}
    if state in (JobState.QUEUED, JobState.PAUSED):
        values |= {"cancel_requested_at": None, "cancel_mode": None, "pause_requested_at": None}
    else:
        values["finished"] = db_now()
    values |= columns
    row = conn.execute(update(job).where(job.c.id == record.id).values(values).returning(job)).mappings().one()
    if record.kind == JobKind.SEARCH:
        events.append(conn, record.id, "state", {"state": state, "epoch": row["epoch"], "error": row["error"]})
    return from_row(row)


def cancel(conn: Connection, job_id: str, mode: CancelMode) -> JobRecord:
    """Cancel at once where no worker runs it, else ask; asking again may turn `drain` into `kill`, never back."""
    record = locked(conn, job_id)
    if record.state in (JobState.QUEUED, JobState.PAUSED):
        return move(conn, record, JobState.CANCELLED, cancel_requested_at=db_now(), cancel_mode=mode)
    if record.state is JobState.RUNNING:
        if record.cancel_requested_at is None:
            return _request(conn, record, "cancel", cancel_requested_at=db_now(), cancel_mode=mode)
        if mode is CancelMode.KILL and record.cancel_mode is not CancelMode.KILL:
            return _request(conn, record, "kill", cancel_mode=mode)
        return record
    raise Conflict(f"cancel {record.kind} {job_id}", record.state, (JobState.QUEUED, JobState.PAUSED, JobState.RUNNING))


def pause(conn: Connection, job_id: str) -> JobRecord:
    """Pause a search at once where no worker runs it, else ask; pausing a paused one changes nothing."""
    record = locked(conn, job_id)
    if record.kind != JobKind.SEARCH:
        raise Conflict(f"pause {record.kind} {job_id} (only a search can be paused)", record.state, ())
    if record.state is JobState.PAUSED:
        return record
    if record.state is JobState.QUEUED:
        return move(conn, record, JobState.PAUSED)
    if record.state is JobState.RUNNING and record.cancel_requested_at is None:
        if record.pause_requested_at is not None:
            return record
        return _request(conn, record, "pause", pause_requested_at=db_now())
    state = "cancelling" if record.state is JobState.RUNNING else record.state
    raise Conflict(f"pause search {job_id}", state, (JobState.QUEUED, JobState.RUNNING))


def resume(conn: Connection, job_id: str) -> JobRecord:
    """Queue a paused job again, or withdraw a pause request that is still pending."""
    record = locked(conn, job_id)
    if record.state is JobState.PAUSED:
        return move(conn, record, JobState.QUEUED)
    if record.state is JobState.RUNNING and record.pause_requested_at is not None:
        statement = update(job).where(job.c.id == job_id).values(pause_requested_at=None).returning(job)
        events.append(conn, job_id, "state", {"state": record.state, "epoch": record.epoch, "requested": "resume"})
        return from_row(conn.execute(statement).mappings().one())
    raise Conflict(f"resume {record.kind} {job_id}", record.state, (JobState.PAUSED,))


def _request(conn: Connection, record: JobRecord, requested: str, **columns: Any) -> JobRecord:
    """Note on a running job what a user asked, and log it."""
    statement = update(job).where(job.c.id == record.id).values(columns).returning(job)
    if record.kind == JobKind.SEARCH:
        events.append(conn, record.id, "state", {"state": record.state, "epoch": record.epoch, "requested": requested})
    return from_row(conn.execute(statement).mappings().one())
