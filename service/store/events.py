"""The append-only event log of searches."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Integer, Row, Select, func, insert, select

from .database import db_now, moment
from .records import EventOverview, EventRecord, Json
from .tables import event

__all__ = ["after", "append", "overview"]

RECENT = 200
"""Events that an overview holds."""


def append(conn: Connection, search_id: str, kind: str, data: Json) -> int:
    """Append an event; the caller holds the search's job row, so ids grow in commit order within a search."""
    statement = insert(event).values(search_id=search_id, kind=kind, data=dict(data), at=db_now()).returning(event.c.id)
    return conn.execute(statement).scalar_one()


def after(conn: Connection, search_id: str, last: int, limit: int) -> list[EventRecord]:
    """Events with an id above `last`, in order."""
    query = select(event).where(event.c.search_id == search_id, event.c.id > last).order_by(event.c.id).limit(limit)
    return _read(conn, query)


def overview(conn: Connection, search_id: str) -> EventOverview:
    """The log in brief, in four queries that do not read all of it."""
    mine = event.c.search_id == search_id
    last_id = conn.execute(select(func.max(event.c.id)).where(mine)).scalar_one()
    recent = select(event).where(mine, event.c.kind != "progress").order_by(event.c.id.desc()).limit(RECENT)
    stages = select(event).where(mine, event.c.kind == "stage").order_by(event.c.id)
    reason, count = event.c.data["reason"].as_string(), event.c.data["count"].as_string().cast(Integer)
    causes = select(reason, func.sum(count)).where(mine, event.c.kind == "evaluations_failed").group_by(reason)
    return EventOverview(
        last_id=last_id or 0,
        recent=tuple(reversed(_read(conn, recent))),
        stages=tuple(_read(conn, stages)),
        failures={why: total for why, total in conn.execute(causes) if why is not None},
    )


def _read(conn: Connection, query: Select[Any]) -> list[EventRecord]:
    return [_from_row(row) for row in conn.execute(query)]


def _from_row(row: Row[Any]) -> EventRecord:
    return EventRecord(id=row.id, search_id=row.search_id, kind=row.kind, data=row.data, at=moment(row.at))
