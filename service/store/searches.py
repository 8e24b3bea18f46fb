"""Searches: the row beside the job of the same id."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update
from sqlalchemy import delete as delete_rows

from . import events, jobs
from .database import moment
from .faults import Conflict, NotFound
from .records import TERMINAL, CancelMode, JobKind, JobState, NewSearch, SearchRecord, StoreCounts
from .tables import counter, job, search

__all__ = ["counts", "create", "delete", "find_number", "get", "page", "rename"]

_JOB_COLUMNS = (
    job.c.state,
    job.c.epoch,
    job.c.attempts,
    job.c.worker,
    job.c.cancel_requested_at,
    job.c.cancel_mode,
    job.c.pause_requested_at,
    job.c.error,
    job.c.created,
    job.c.started,
    job.c.finished,
)


def _query() -> Select[tuple[object, ...]]:
    return select(search, *_JOB_COLUMNS).join(job, job.c.id == search.c.id)


def _from_row(row: RowMapping) -> SearchRecord:
    return SearchRecord(
        id=row["id"],
        number=row["number"],
        name=row["name"],
        state=JobState(row["state"]),
        config=row["config"],
        space=row["space"],
        objectives=tuple(row["objectives"]),
        constraints=tuple(row["constraints"]),
        seed=row["seed"],
        stage=row["stage"],
        progress=row["progress"],
        n_trials=row["n_trials"],
        n_failed=row["n_failed"],
        front_version=row["front_version"],
        front_size=row["front_size"],
        hypervolume=row["hypervolume"],
        reference=None if row["reference"] is None else tuple(row["reference"]),
        report=row["report"],
        epoch=row["epoch"],
        attempts=row["attempts"],
        worker=row["worker"],
        cancel_requested_at=moment(row["cancel_requested_at"]),
        cancel_mode=None if row["cancel_mode"] is None else CancelMode(row["cancel_mode"]),
        pause_requested_at=moment(row["pause_requested_at"]),
        error=row["error"],
        created=moment(row["created"]),
        started=moment(row["started"]),
        finished=moment(row["finished"]),
    )


def create(conn: Connection, new: NewSearch) -> SearchRecord:
    """Insert the job, the search and its first event."""
    record = jobs.create(conn, JobKind.SEARCH, {"name": new.name})
    count = update(counter).where(counter.c.name == "search").values(value=counter.c.value + 1)
    number = conn.execute(count.returning(counter.c.value)).scalar_one()
    conn.execute(
        insert(search).values(
            id=record.id,
            number=number,
            name=new.name,
            config=dict(new.config),
            space=dict(new.space),
            objectives=[dict(one) for one in new.objectives],
            constraints=[dict(one) for one in new.constraints],
            seed=new.seed,
            progress={},
            n_objectives=len(new.objectives),
            n_trials=0,
            n_failed=0,
            front_version=0,
            front_size=0,
            reference=None if new.reference is None else list(new.reference),
        )
    )
    events.append(conn, record.id, "state", {"state": JobState.QUEUED, "epoch": 0})
    return get(conn, record.id)


def find_number(conn: Connection, number: int) -> SearchRecord | None:
    """The search with this number, or None."""
    row = conn.execute(_query().where(search.c.number == number)).mappings().one_or_none()
    return None if row is None else _from_row(row)


def get(conn: Connection, search_id: str) -> SearchRecord:
    """One search by id, or by number where the text is all digits."""
    if search_id.isdecimal() and len(search_id) < 10:
        found = find_number(conn, int(search_id))
    else:
        row = conn.execute(_query().where(search.c.id == search_id)).mappings().one_or_none()
        found = None if row is None else _from_row(row)
    if found is None:
        raise NotFound("search", search_id)
    return found


def page(
    conn: Connection, *, limit: int, before: int | None, state: JobState | None, name: str | None
) -> list[SearchRecord]:
    """Newest first."""
    query = _query().order_by(search.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(search.c.number < before)
    if state is not None:
        query = query.where(job.c.state == state)
    if name is not None:
        query = query.where(search.c.name == name)
    return [_from_row(row) for row in conn.execute(query).mappings()]


def rename(conn: Connection, search_id: str, name: str, expected: str | None) -> SearchRecord:
    """Change the name only; with `expected`, only if it is still that."""
    jobs.locked(conn, get(conn, search_id).id)
    record = get(conn, search_id)
    if expected is not None and record.name != expected:
        raise Conflict(f"rename search {search_id}, its name is", record.name, (expected,))
    conn.execute(update(search).where(search.c.id == record.id).values(name=name))
    return get(conn, search_id)


def counts(conn: Connection) -> StoreCounts:
    """Searches by state, trials in all, and jobs that wait for a worker of ours: two queries over small tables."""
    query = select(job.c.state, func.count(), func.sum(search.c.n_trials)).join(search, search.c.id == job.c.id)
    rows = conn.execute(query.group_by(job.c.state)).all()
    waiting = (job.c.state == JobState.QUEUED, job.c.kind != JobKind.MEASUREMENT)
    queued = conn.execute(select(func.count()).select_from(job).where(*waiting)).scalar_one()
    return StoreCounts(
        searches={JobState(state): count for state, count, _ in rows},
        trials=int(sum(trials for _, _, trials in rows)),
        queued=queued,
    )


def delete(conn: Connection, search_id: str) -> None:
    """Remove a terminal search; its rows elsewhere follow by foreign key."""
    record = jobs.locked(conn, get(conn, search_id).id)
    if record.state not in TERMINAL:
        raise Conflict(f"delete search {search_id} (cancel it first)", record.state, TERMINAL)
    conn.execute(delete_rows(job).where(job.c.id == record.id))
