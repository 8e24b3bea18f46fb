"""Reading trials: pages by number, single ones with everything known, and all of them as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, RowMapping, select

from ...search.strategy import TrialStatus
from . import results, searches
from .database import moment
from .faults import NotFound
from .records import ArtifactLink, FrontView, MetricRecord, SearchRecord, TrialBatch, TrialRecord, TrialState
from .tables import OBJECTIVES, front_member, search, trial, trial_metric

__all__ = ["batch", "get", "of_front", "page"]

_STATUS = {TrialState.FAILED: TrialStatus.FAILED, TrialState.PRUNED: TrialStatus.PRUNED}


def _from_row(row: RowMapping) -> TrialRecord:
    return TrialRecord(
        search_id=row["search_id"],
        number=row["number"],
        state=TrialState(row["state"]),
        arch_key=row["arch_key"],
        genome=tuple(np.frombuffer(row["genome"], dtype="<i2").tolist()),
        choices=row["choices"],
        fidelity=row["fidelity"],
        values=tuple(row[name] for name in OBJECTIVES[: len(row["sources"])]),
        violations=tuple(row["violations"]),
        violation=row["violation"],
        params=row["params"],
        macs=row["macs"],
        cost_s=row["cost_s"],
        sources=tuple(row["sources"]),
        error=row["error"],
        epoch=row["epoch"],
        created=moment(row["created"]),
    )


def get(conn: Connection, search_id: str, number: int) -> TrialRecord:
    """One trial with metrics and artifacts."""
    row = conn.execute(select(trial).where(trial.c.search_id == search_id, trial.c.number == number)).mappings().first()
    if row is None:
        raise NotFound(f"trial of search {searches.get(conn, search_id).number}", number)
    return _complete(conn, search_id, [_from_row(row)])[0]


def page(
    conn: Connection,
    search_id: str,
    *,
    limit: int,
    after: int,
    state: TrialState | None,
    feasible: bool | None,
    on_front: FrontView | None,
) -> list[TrialRecord]:
    """Trials after a number, ascending."""
    query = select(trial).where(trial.c.search_id == search_id, trial.c.number > after)
    if state is not None:
        query = query.where(trial.c.state == state)
    if feasible is not None:
        succeeded = trial.c.state == TrialState.SUCCEEDED
        query = query.where(succeeded if feasible else ~succeeded)
    if on_front is not None:
        members = select(front_member.c.number)
        members = members.where(front_member.c.search_id == search_id, front_member.c.view == on_front)
        query = query.where(trial.c.number.in_(members))
    return [_from_row(row) for row in conn.execute(query.order_by(trial.c.number).limit(limit)).mappings()]


def of_front(conn: Connection, search_id: str, view: FrontView) -> list[TrialRecord]:
    """A front's trials, complete, by number."""
    if conn.execute(select(search.c.id).where(search.c.id == search_id)).one_or_none() is None:
        raise NotFound("search", search_id)
    joined = (front_member.c.search_id == trial.c.search_id) & (front_member.c.number == trial.c.number)
    query = select(trial).join(front_member, joined)
    query = query.where(front_member.c.search_id == search_id, front_member.c.view == view).order_by(trial.c.number)
    return _complete(conn, search_id, [_from_row(row) for row in conn.execute(query).mappings()])


def batch(conn: Connection, record: SearchRecord) -> TrialBatch | None:
    """All trials as columns."""
    query = select(trial).where(trial.c.search_id == record.id).order_by(trial.c.number)
    rows = [_from_row(row) for row in conn.execute(query).mappings()]
    if not rows:
        return None
    shape = (len(rows), -1)
    decoded = all(row.choices is not None for row in rows)
    return TrialBatch(
        genomes=np.array([row.genome for row in rows], dtype=np.int16).reshape(shape),
        keys=tuple(row.arch_key for row in rows),
        values=np.array([row.values for row in rows], dtype=np.float64),
        violations=np.array([row.violations for row in rows], dtype=np.float64).reshape(
            len(rows), len(record.constraints)
        ),
        fidelity=np.array([row.fidelity for row in rows]),
        cost_s=np.array([row.cost_s for row in rows]),
        status=np.array([_STATUS.get(row.state, TrialStatus.OK) for row in rows], dtype=np.int8),
        sources=rows[0].sources,
        params=_counts([row.params for row in rows]),
        macs=_counts([row.macs for row in rows]),
        choices=tuple(row.choices or {} for row in rows) if decoded else None,
        errors=tuple(row.error for row in rows) if any(row.error for row in rows) else None,
    )


def _counts(column: Sequence[int | None]) -> NDArray[np.int64] | None:
    """A column of counts, or None unless every row has one."""
    known = [value for value in column if value is not None]
    return np.array(known, dtype=np.int64) if len(known) == len(column) else None


def _complete(conn: Connection, search_id: str, found: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Add metrics and artifacts, in two queries for any number of trials."""
    numbers = {record.number for record in found}
    query = select(trial_metric).where(trial_metric.c.search_id == search_id)
    columns = trial_metric.c
    if len(numbers) == 1:
        query = query.where(columns.number == next(iter(numbers)))
    metrics: dict[int, list[MetricRecord]] = {}
    for row in conn.execute(query.order_by(columns.number, columns.quantity, columns.device, columns.source)):
        metric = MetricRecord(
            quantity=row.quantity, device=row.device or None, value=row.value, spread=row.spread, source=row.source
        )
        metrics.setdefault(row.number, []).append(metric)
    links: dict[int | None, list[ArtifactLink]] = {}
    for link in results.links(conn, search_id):
        links.setdefault(link.trial_number, []).append(link)
    return [
        replace(
            record,
            metrics=tuple(metrics.get(record.number, ())),
            artifacts=tuple(links.get(record.number, ())),
        )
        for record in found
    ]
