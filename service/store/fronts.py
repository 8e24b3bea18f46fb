"""Fronts, kept incrementally: merged in the transaction that stores trials, read from their own small table.

Notation: F members, B new points, M objectives. Points with equal values do not dominate each other, so the
front is the same whatever order trials arrive in, and equals the one computed from all trials at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from ...search.pareto import hypervolume, nondominated_mask
from . import events
from .database import db_now, moment
from .faults import NotFound
from .records import CurvePoint, FrontLogEntry, FrontRecord, FrontView, SearchRecord
from .tables import OBJECTIVES, front_log, front_member, search

__all__ = ["Candidates", "FrontCache", "curve", "history", "merge"]

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Feasible points that may join a front: numbers [B] int64, values [B, M], and B keys."""

    numbers: NDArray[np.int64]
    values: Values
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """How a merge changed a front."""

    view: FrontView
    hypervolume: float | None
    added: list[int]
    removed: list[int]
    size: int


def merge(conn: Connection, record: SearchRecord, view: FrontView, new: Candidates) -> float | None:
    """Merge candidates into a front under the search's row lock; returns the front's hypervolume.

    `record` is the search as read in this transaction, where `n_trials` counts the candidates already. A candidate that
    is a member already replaces its older self.
    """
    numbers, values, keys = _members(conn, record.id, view, len(record.objectives))
    stay = ~np.isin(numbers, new.numbers)
    old = dict(zip(numbers.tolist(), values.tolist(), strict=True))
    numbers = np.concatenate([numbers[stay], new.numbers])
    values = np.concatenate([values[stay], new.values])
    keys = [key for key, kept in zip(keys, stay, strict=True) if kept] + list(new.keys)
    mask = nondominated_mask(values)
    front = {
        number: (row, key)
        for number, row, key, kept in zip(numbers.tolist(), values.tolist(), keys, mask, strict=True)
        if kept
    }
    removed = sorted(old.keys() - front.keys())
    added = sorted(number for number, (row, _) in front.items() if old.get(number) != row)
    if not removed and not added:
        return record.hypervolume
    members = front_member.c
    gone = [*removed, *(number for number in added if number in old)]
    if gone:
        where = (members.search_id == record.id, members.view == view, members.number == bindparam("gone"))
        conn.execute(delete(front_member).where(*where), [{"gone": number} for number in gone])
    rows = [
        {"search_id": record.id, "view": view, "number": number, "arch_key": front[number][1]}
        | dict(zip(OBJECTIVES, front[number][0], strict=False))
        for number in added
    ]
    if rows:
        conn.execute(insert(front_member), rows)
    volume = None if record.reference is None else hypervolume(values[mask], np.array(record.reference))
    _log(conn, record, _Change(view=view, hypervolume=volume, added=added, removed=removed, size=len(front)))
    return volume


def _log(conn: Connection, record: SearchRecord, change: _Change) -> None:
    bump = update(search).where(search.c.id == record.id).values(front_version=search.c.front_version + 1)
    version = conn.execute(bump.returning(search.c.front_version)).scalar_one()
    if change.view is FrontView.BELIEVED:
        values = {"hypervolume": change.hypervolume, "front_size": change.size}
        conn.execute(update(search).where(search.c.id == record.id).values(values))
    entry = {
        "version": version,
        "view": change.view,
        "n_trials": record.n_trials,
        "hypervolume": change.hypervolume,
        "added": change.added,
        "removed": change.removed,
    }
    conn.execute(insert(front_log).values(search_id=record.id, at=db_now(), **entry))
    events.append(conn, record.id, "front", entry | {"size": change.size})


def _members(
    conn: Connection, search_id: str, view: FrontView, n_objectives: int
) -> tuple[NDArray[np.int64], Values, list[str]]:
    columns = [front_member.c[name] for name in OBJECTIVES[:n_objectives]]
    query = (
        select(front_member.c.number, front_member.c.arch_key, *columns)
        .where(front_member.c.search_id == search_id, front_member.c.view == view)
        .order_by(front_member.c.number)
    )
    rows = [tuple(row) for row in conn.execute(query)]
    numbers = np.array([row[0] for row in rows], dtype=np.int64)
    values = np.array([row[2:] for row in rows], dtype=np.float64).reshape(len(rows), n_objectives)
    return numbers, values, [row[1] for row in rows]


class FrontCache:
    """Keeps the fronts read lately with the version they belong to: an unchanged one costs a single short query.

    Only read transactions fill it, so that nothing uncommitted is ever kept.

    Args:
        fronts: how many are kept.
    """

    def __init__(self, fronts: int = 16) -> None:
        self._limit = fronts
        self._kept: OrderedDict[tuple[str, FrontView], FrontRecord] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, conn: Connection, search_id: str, view: FrontView) -> FrontRecord:
        """The front as of this transaction."""
        version = conn.execute(select(search.c.front_version).where(search.c.id == search_id)).scalar_one_or_none()
        with self._lock:
            known = self._kept.get((search_id, view))
        if known is None or known.version != version:
            known = _get(conn, search_id, view)
        with self._lock:
            self._kept[search_id, view] = known
            self._kept.move_to_end((search_id, view))
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return known

    def forget(self, search_id: str) -> None:
        """Drop a deleted search."""
        with self._lock:
            for view in FrontView:
                self._kept.pop((search_id, view), None)


def _get(conn: Connection, search_id: str, view: FrontView) -> FrontRecord:
    """The front as its table holds it."""
    query = select(search.c.front_version, search.c.hypervolume, search.c.n_objectives).where(search.c.id == search_id)
    head = conn.execute(query).one_or_none()
    if head is None:
        raise NotFound("search", search_id)
    version, volume, n_objectives = head
    if view is not FrontView.BELIEVED:
        latest = select(front_log.c.hypervolume).where(front_log.c.search_id == search_id, front_log.c.view == view)
        volume = conn.execute(latest.order_by(front_log.c.version.desc()).limit(1)).scalar_one_or_none()
    numbers, values, keys = _members(conn, search_id, view, n_objectives)
    for column in (numbers, values):
        column.flags.writeable = False  # shared between callers
    return FrontRecord(
        search_id=search_id,
        view=view,
        version=version,
        hypervolume=volume,
        numbers=numbers,
        values=values,
        keys=tuple(keys),
    )


def history(conn: Connection, search_id: str, view: FrontView, *, after: int, limit: int) -> list[FrontLogEntry]:
    """A front's log by version."""
    if conn.execute(select(search.c.id).where(search.c.id == search_id)).one_or_none() is None:
        raise NotFound("search", search_id)
    log = front_log.c
    query = select(front_log).where(log.search_id == search_id, log.view == view, log.version > after)
    return [
        FrontLogEntry(
            view=FrontView(row.view),
            version=row.version,
            n_trials=row.n_trials,
            hypervolume=row.hypervolume,
            added=tuple(row.added),
            removed=tuple(row.removed),
            at=moment(row.at),
        )
        for row in conn.execute(query.order_by(log.version).limit(limit))
    ]


def curve(conn: Connection, search_id: str, view: FrontView, points: int) -> list[CurvePoint]:
    """Hypervolume over trials, thinned evenly to about `points` entries; the last one is always there."""
    latest = conn.execute(select(search.c.front_version).where(search.c.id == search_id)).scalar_one_or_none()
    if latest is None:
        raise NotFound("search", search_id)
    log = front_log.c
    mine = (log.search_id == search_id, log.view == view)
    last = select(func.max(log.version)).where(*mine).scalar_subquery()
    step = -(-latest // points) or 1
    query = select(log.n_trials, log.hypervolume, log.at).where(
        *mine, or_(log.version % step == 0, log.version == last)
    )
    return [
        CurvePoint(n_trials=row.n_trials, hypervolume=row.hypervolume, at=moment(row.at))
        for row in conn.execute(query.order_by(log.version))
    ]
