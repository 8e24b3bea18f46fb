"""The append-only event log of searches."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from .database import db_now, moment
from .records import EventRecord, Json
from .tables import event

__all__ = ["after", "append"]


def append(conn: Connection, search_id: str, kind: str, data: Json) -> int:
    """Append an event; the caller holds the search's job row, so ids grow in commit order within a search."""
    statement = insert(event).values(search_id=search_id, kind=kind, data=dict(data), at=db_now()).returning(event.c.id)
    return conn.execute(statement).scalar_one()


def after(conn: Connection, search_id: str, last: int, limit: int) -> list[EventRecord]:
    """Events with an id above `last`, in order."""
    query = select(event).where(event.c.search_id == search_id, event.c.id > last).order_by(event.c.id).limit(limit)
    return [
        EventRecord(id=row.id, search_id=row.search_id, kind=row.kind, data=row.data, at=moment(row.at))
        for row in conn.execute(query)
    ]
