"""Devices and what was measured on them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from .database import db_now, moment
from .faults import NotFound
from .records import DeviceRecord, Json, MeasurementRecord, NewMeasurement
from .tables import device as device_table
from .tables import measurement

__all__ = ["add_measurements", "device", "devices", "measurements", "put_device"]


_QUERY = select(device_table, (db_now() - device_table.c.seen).label("silent_s"))


def put_device(conn: Connection, name: str, description: Json) -> DeviceRecord:
    """Create or replace."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(device_table).values(
        name=name, description=dict(description), created=db_now(), updated=db_now()
    )
    new = {"description": statement.excluded.description, "updated": statement.excluded.updated}
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=new))
    return device(conn, name)


def device(conn: Connection, name: str) -> DeviceRecord:
    """One device."""
    row = conn.execute(_QUERY.where(device_table.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("device", name)
    return _device(row)


def devices(conn: Connection) -> list[DeviceRecord]:
    """All, by name."""
    return [_device(row) for row in conn.execute(_QUERY.order_by(device_table.c.name))]


def _device(row: Row[tuple[object, ...]]) -> DeviceRecord:
    return DeviceRecord(
        name=row.name,
        description=row.description,
        created=moment(row.created),
        updated=moment(row.updated),
        agent=row.agent,
        seen=moment(row.seen),
        silent_s=row.silent_s,
    )


def add_measurements(conn: Connection, name: str, new: Sequence[NewMeasurement]) -> None:
    """Append measurements of a known device."""
    device(conn, name)
    now = conn.execute(select(db_now())).scalar_one()
    rows = [
        {
            "device": name,
            "subject": one.subject,
            "quantity": one.quantity,
            "value": one.value,
            "iqr": one.iqr,
            "source": one.source,
            "conditions": dict(one.conditions),
            "created": now,
        }
        for one in new
    ]
    if rows:
        conn.execute(insert(measurement), rows)


def measurements(
    conn: Connection, name: str, *, quantity: str | None, after: int, limit: int
) -> list[MeasurementRecord]:
    """By id, ascending."""
    device(conn, name)
    query = select(measurement).where(measurement.c.device == name, measurement.c.id > after)
    if quantity is not None:
        query = query.where(measurement.c.quantity == quantity)
    return [
        MeasurementRecord(
            id=row.id,
            device=row.device,
            subject=row.subject,
            quantity=row.quantity,
            value=row.value,
            iqr=row.iqr,
            source=row.source,
            conditions=row.conditions,
            created=moment(row.created),
        )
        for row in conn.execute(query.order_by(measurement.c.id).limit(limit))
    ]
