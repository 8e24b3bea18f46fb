"""All trials of a search as numeric columns, cached in this process: a repeated read fetches only what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from sqlalchemy import Connection, select

from .records import Points, SearchRecord, TrialState
from .tables import OBJECTIVES, trial

__all__ = ["PointsCache"]


class PointsCache:
    """Keeps the columns of the most recently read searches; trials are append-only, so what is cached stays true.

    Args:
        searches: how many searches are kept.
    """

    def __init__(self, searches: int = 8) -> None:
        self._limit = searches
        self._kept: OrderedDict[str, Points] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, conn: Connection, record: SearchRecord) -> Points:
        """The search's columns as of this transaction or later."""
        with self._lock:
            known = self._kept.get(record.id)
        if known is None or len(known) < record.n_trials:
            new = _fetch(conn, record, after=-1 if known is None else len(known) - 1)
            known = new if known is None else _append(known, new)
        with self._lock:
            current = self._kept.get(record.id)
            if current is None or len(current) < len(known):
                self._kept[record.id] = known
            self._kept.move_to_end(record.id)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return known

    def forget(self, search_id: str) -> None:
        """Drop a deleted search."""
        with self._lock:
            self._kept.pop(search_id, None)


def _fetch(conn: Connection, record: SearchRecord, *, after: int) -> Points:
    width = len(record.objectives)
    columns = [trial.c[name] for name in OBJECTIVES[:width]]
    query = select(trial.c.number, trial.c.violation, trial.c.fidelity, trial.c.state, *columns)
    query = query.where(trial.c.search_id == record.id, trial.c.number > after).order_by(trial.c.number)
    rows = [tuple(row) for row in conn.execute(query)]
    return _frozen(
        numbers=np.array([row[0] for row in rows], dtype=np.int64),
        values=np.array([row[4:] for row in rows], dtype=np.float64).reshape(len(rows), width),
        violation=np.array([row[1] for row in rows], dtype=np.float64),
        fidelity=np.array([row[2] for row in rows], dtype=np.float64),
        feasible=np.array([row[3] == TrialState.SUCCEEDED for row in rows], dtype=np.bool_),
    )


def _append(known: Points, new: Points) -> Points:
    return _frozen(
        numbers=np.concatenate([known.numbers, new.numbers]),
        values=np.concatenate([known.values, new.values]),
        violation=np.concatenate([known.violation, new.violation]),
        fidelity=np.concatenate([known.fidelity, new.fidelity]),
        feasible=np.concatenate([known.feasible, new.feasible]),
    )


def _frozen(**columns: np.ndarray) -> Points:
    for column in columns.values():
        column.flags.writeable = False
    return Points(**columns)
