"""The queue: leases that expire, and epochs that fence off whoever lost one.

A claim increments the job's epoch. Every later write of a worker names its epoch under the job's row lock, so a worker
that was stopped, declared lost and woke up again can store nothing. All times are the database's.

Source: the fencing token of Kleppmann, "Designing Data-Intensive Applications", chapter 8.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Select, and_, or_, select, update

from ...errors import LeaseLostError, StoreError
from . import events, jobs
from .database import db_now
from .faults import Conflict
from .records import CancelMode, JobKind, JobRecord, JobState, Json, Lease, Requests
from .tables import job

__all__ = ["MAX_ATTEMPTS", "TTL_S", "claim", "close", "fail", "fence", "reclaim_all", "release", "renew", "sweep"]

TTL_S = 60.0
"""Seconds a lease lasts unless renewed."""

MAX_ATTEMPTS = 5
"""Lost or retried attempts after which a job fails as poison."""

_EXPIRED = and_(job.c.state == JobState.RUNNING, job.c.lease_until < db_now())


def claim(
    conn: Connection,
    worker: str,
    *,
    kinds: Sequence[str],
    job_id: str | None,
    ttl_s: float,
    among: Select[tuple[str]] | None = None,
) -> Lease | None:
    """Lease the oldest queued or expired job; `sweep` has settled those that may not be claimed again.

    With `among`, a query of job ids, only one of those.
    """
    if ttl_s <= 0:
        raise StoreError(f"lease time ttl_s: got {ttl_s}; it must be positive seconds.")
    query = select(job).where(or_(job.c.state == JobState.QUEUED, _EXPIRED), job.c.finished.is_(None))
    if kinds:
        query = query.where(job.c.kind.in_(list(kinds)))
    if job_id is not None:
        query = query.where(job.c.id == job_id)
    if among is not None:
        query = query.where(job.c.id.in_(among))
    row = conn.execute(query.order_by(job.c.id).limit(1).with_for_update(skip_locked=True)).mappings().one_or_none()
    if row is None:
        return None
    record = jobs.from_row(row)
    if record.cancel_requested_at or record.pause_requested_at:
        return None  # asked to stop since the sweep; the next sweep settles it
    attempts = record.attempts + (record.state is JobState.RUNNING)
    values = {
        "state": JobState.RUNNING,
        "epoch": record.epoch + 1,
        "attempts": attempts,
        "worker": worker,
        "lease_until": db_now() + ttl_s,
        "error": None,
    }
    if record.started is None:
        values["started"] = db_now()
    conn.execute(update(job).where(job.c.id == record.id).values(values))
    if record.kind == JobKind.SEARCH:
        events.append(conn, record.id, "state", {"state": JobState.RUNNING, "epoch": record.epoch + 1})
    return Lease(
        job_id=record.id,
        kind=record.kind,
        epoch=record.epoch + 1,
        worker=worker,
        ttl_s=ttl_s,
        attempts=attempts,
        payload=record.payload,
    )


def fence(conn: Connection, lease: Lease) -> JobRecord:
    """Lock the job's row and make sure that this lease still owns it.

    Raises:
        LeaseLostError: another epoch owns the job, or it is no longer running, or it was deleted.
    """
    row = conn.execute(select(job).where(job.c.id == lease.job_id).with_for_update()).mappings().one_or_none()
    if row is None:
        raise LeaseLostError(f"{lease.kind} {lease.job_id} was deleted; nothing of epoch {lease.epoch} can be stored.")
    record = jobs.from_row(row)
    if record.state is not JobState.RUNNING or record.epoch != lease.epoch:
        raise LeaseLostError(
            f"worker {lease.worker!r} lost {lease.kind} {lease.job_id}: it holds epoch {lease.epoch}, the job is "
            f"{record.state} in epoch {record.epoch}. Stop working on it and discard what is not stored."
        )
    return record


def renew(conn: Connection, lease: Lease) -> Requests:
    """Extend the lease and report what users asked."""
    record = fence(conn, lease)
    conn.execute(update(job).where(job.c.id == lease.job_id).values(lease_until=db_now() + lease.ttl_s))
    return Requests(
        cancel=record.cancel_requested_at is not None,
        pause=record.pause_requested_at is not None,
        kill=record.cancel_mode is CancelMode.KILL,
    )


def close(conn: Connection, lease: Lease, state: JobState) -> None:
    """End as `state` (succeeded)."""
    jobs.move(conn, fence(conn, lease), state)


def fail(conn: Connection, lease: Lease, error: Json, *, retry: bool) -> JobRecord:
    """End as failed, or queue again while attempts are left; what a user asked meanwhile comes first on a retry."""
    record = fence(conn, lease)
    if not retry:
        return jobs.move(conn, record, JobState.FAILED, error=dict(error))
    attempts = record.attempts + 1
    if attempts >= MAX_ATTEMPTS:
        return _poison(conn, record, dict(error))
    return jobs.move(conn, record, _asked(record), attempts=attempts, error=dict(error))


def release(conn: Connection, lease: Lease, state: JobState) -> None:
    """Stop without finishing. A pending cancellation wins over `paused` and `queued`, a pending pause over `queued`."""
    record = fence(conn, lease)
    allowed = {JobState.QUEUED, JobState.CANCELLED}
    if record.kind == JobKind.SEARCH:
        allowed.add(JobState.PAUSED)
    if record.cancel_requested_at is None:
        allowed.discard(JobState.CANCELLED)
    if state not in allowed:
        raise Conflict(f"release {record.kind} {record.id} as {state}; releasing is possible as", record.state, allowed)
    asked = _asked(record)
    jobs.move(conn, record, state if asked is JobState.QUEUED else asked)


def sweep(conn: Connection) -> int:
    """Settle expired leases that are not to be claimed again; returns how many.

    With cancellation asked for: cancelled. With a pause asked for: paused. At the last attempt: failed as poison.
    """
    stuck = or_(
        job.c.cancel_requested_at.is_not(None),
        job.c.pause_requested_at.is_not(None),
        job.c.attempts + 1 >= MAX_ATTEMPTS,
    )
    query = select(job).where(_EXPIRED, job.c.finished.is_(None), stuck).order_by(job.c.id)
    rows = conn.execute(query.with_for_update(skip_locked=True)).mappings().all()
    for row in rows:
        record = jobs.from_row(row)
        asked = _asked(record)
        if asked is JobState.QUEUED:
            _poison(conn, record, {"message": "its workers were lost without a word"})
        else:
            jobs.move(conn, record, asked, attempts=record.attempts + 1)
    return len(rows)


def reclaim_all(conn: Connection, owner: str) -> int:
    """Expire the leases of all running jobs but those of `owner` and of device agents; returns how many.

    Agents work on other machines: they outlive the owner of a store, and renew.
    """
    mine = (job.c.worker != owner, job.c.kind != JobKind.MEASUREMENT)
    statement = update(job).where(job.c.state == JobState.RUNNING, *mine)
    return conn.execute(statement.values(lease_until=0.0)).rowcount


def _asked(record: JobRecord) -> JobState:
    """Where a job goes whose worker stops: what users asked for, else back to the queue."""
    if record.cancel_requested_at is not None:
        return JobState.CANCELLED
    return JobState.PAUSED if record.pause_requested_at is not None else JobState.QUEUED


def _poison(conn: Connection, record: JobRecord, error: dict[str, object]) -> JobRecord:
    attempts = record.attempts + 1
    reason = {"reason": "poison", "attempts": attempts}
    return jobs.move(conn, record, JobState.FAILED, attempts=attempts, error=error | reason)
