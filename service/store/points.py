"""All trials of a search as numeric columns, kept packed beside the trials and cached in this process.

Every batch of trials is stored a second time as one row of packed numbers (`trial_block`), in the same transaction:
reading a million trials one by one would take seconds, reading their blocks takes a fraction of one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select

from .records import Points, SearchRecord, TrialBatch, TrialState
from .tables import trial_block

__all__ = ["PointsCache", "keep_block"]


def _layout(n_objectives: int) -> np.dtype[np.void]:
    """One trial in a block, little-endian."""
    return np.dtype([
        ("values", "<f8", (n_objectives,)),
        ("violation", "<f8"),
        ("fidelity", "<f8"),
        ("params", "<f8"),
        ("macs", "<f8"),
        ("feasible", "?"),
    ])  # fmt: skip


def keep_block(
    conn: Connection, search_id: str, first: int, *, batch: TrialBatch, states: Sequence[TrialState]
) -> None:
    """Store a batch's numbers; `first` is the number of its first trial, `states` those of its trials."""
    rows = np.zeros(len(batch), dtype=_layout(batch.values.shape[1]))
    rows["values"] = _finite(batch.values)
    rows["violation"] = _finite(batch.violations.sum(axis=1))
    rows["fidelity"] = batch.fidelity
    rows["params"] = np.nan if batch.params is None else batch.params
    rows["macs"] = np.nan if batch.macs is None else batch.macs
    rows["feasible"] = [state is TrialState.SUCCEEDED for state in states]
    conn.execute(insert(trial_block).values(search_id=search_id, first=first, rows=rows.tobytes()))


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


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
    query = select(trial_block.c.rows).where(trial_block.c.search_id == record.id, trial_block.c.first > after)
    blocks = conn.execute(query.order_by(trial_block.c.first)).scalars()
    rows = np.frombuffer(b"".join(blocks), dtype=_layout(len(record.objectives)))
    return _frozen(
        numbers=np.arange(after + 1, after + 1 + len(rows), dtype=np.int64),
        **{name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()},
    )


def _append(known: Points, new: Points) -> Points:
    names = ("numbers", "values", "violation", "fidelity", "params", "macs", "feasible")
    return _frozen(**{name: np.concatenate([getattr(known, name), getattr(new, name)]) for name in names})


def _frozen(**columns: np.ndarray) -> Points:
    for column in columns.values():
        column.flags.writeable = False
    return Points(**columns)
