"""What a worker records while it holds a search: every function is fenced by the lease and runs in one transaction."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select, update

from ...errors import StoreError
from ...search.strategy import StrategyState, TrialStatus
from . import events, fronts, leases, points, results, searches
from .database import db_now
from .faults import NotFound
from .records import (
    FrontView,
    Json,
    Lease,
    SearchRecord,
    StrategyCheckpoint,
    TrialBatch,
    TrialState,
    VerifiedMember,
)
from .tables import OBJECTIVES, job, search, search_checkpoint, trial, trial_metric

__all__ = [
    "checkpoint",
    "record_report",
    "record_trials",
    "record_verification",
    "set_progress",
    "set_reference",
    "set_stage",
]

FULL_FIDELITY = 1.0
"""Only trials evaluated in full join a front: values at lower fidelities are not comparable."""

_STATES = {TrialStatus.FAILED: TrialState.FAILED, TrialStatus.PRUNED: TrialState.PRUNED}


def record_trials(
    conn: Connection,
    lease: Lease,
    batch: TrialBatch,
    state: StrategyCheckpoint | None,
    reference: Sequence[float] | None = None,
) -> tuple[int, ...]:
    """Insert trials, merge the believed front, count, and keep the checkpoint that has consumed them."""
    if reference is not None:
        set_reference(conn, lease, reference)
    record = _fenced_search(conn, lease)
    _check_columns(record, batch)
    first = record.n_trials
    numbers = np.arange(first, first + len(batch), dtype=np.int64)
    if len(batch):
        now = conn.execute(select(db_now())).scalar_one()
        conn.execute(insert(trial), _rows(record, lease, batch, numbers=numbers, now=now))
        points.keep_block(conn, record.id, first, batch=batch, states=_states(batch))
        _count(conn, record, batch)
    if state is not None:
        _keep_checkpoint(conn, lease, state)
    if len(batch):
        _announce(conn, record.id, batch, numbers)
    return tuple(numbers.tolist())


def _check_columns(record: SearchRecord, batch: TrialBatch) -> None:
    objectives, constraints = len(record.objectives), len(record.constraints)
    shapes = (batch.values.shape[1:], batch.violations.shape[1:], len(batch.sources))
    if shapes != ((objectives,), (constraints,), objectives):
        raise StoreError(
            f"search {record.number}: the batch has values {batch.values.shape}, violations "
            f"{batch.violations.shape} and {len(batch.sources)} sources; "
            f"expected [B, {objectives}], [B, {constraints}] and {objectives}."
        )


def _states(batch: TrialBatch) -> list[TrialState]:
    feasible = np.all(batch.violations <= 0, axis=1)
    ok = [TrialState.SUCCEEDED if good else TrialState.INFEASIBLE for good in feasible.tolist()]
    return [_STATES.get(TrialStatus(status), state) for status, state in zip(batch.status.tolist(), ok, strict=True)]


def _finite(rows: NDArray[np.float64]) -> list[list[float | None]]:
    """Rows as lists, None in place of NaN and infinity."""
    lists: list[list[float | None]] = rows.tolist()
    for row, column in zip(*np.nonzero(~np.isfinite(rows)), strict=True):
        lists[row][column] = None
    return lists


def _rows(
    record: SearchRecord, lease: Lease, batch: TrialBatch, *, numbers: NDArray[np.int64], now: float
) -> list[dict[str, Any]]:
    size = len(batch)
    genomes = np.ascontiguousarray(batch.genomes, dtype="<i2")
    totals = _finite(batch.violations.sum(axis=1, keepdims=True))
    empty = [None] * size
    params = empty if batch.params is None else batch.params.tolist()
    macs = empty if batch.macs is None else batch.macs.tolist()
    shared = {"search_id": record.id, "sources": list(batch.sources), "epoch": lease.epoch, "created": now}
    columns = zip(
        numbers.tolist(),
        _states(batch),
        batch.keys,
        genomes,
        batch.choices or empty,
        batch.fidelity.tolist(),
        _finite(batch.violations),
        totals,
        params,
        macs,
        batch.errors or empty,
        batch.cost_s.tolist(),
        _finite(batch.values),
        strict=True,
    )
    return [
        {
            **shared,
            "number": number,
            "state": state,
            "arch_key": key,
            "genome": genome.tobytes(),
            "choices": choice,
            "fidelity": fidelity,
            "violations": violations,
            "violation": total[0],
            "params": n_params,
            "macs": n_macs,
            "error": error,
            "cost_s": cost_s,
            **dict(zip(OBJECTIVES, values, strict=False)),
        }
        for (
            number, state, key, genome, choice, fidelity, violations, total, n_params, n_macs, error, cost_s, values,
        ) in columns
    ]  # fmt: skip


def _count(conn: Connection, record: SearchRecord, batch: TrialBatch) -> None:
    failed = int((batch.status == TrialStatus.FAILED).sum())
    counts = {"n_trials": search.c.n_trials + len(batch), "n_failed": search.c.n_failed + failed}
    conn.execute(update(search).where(search.c.id == record.id).values(counts))
    feasible = np.array([state is TrialState.SUCCEEDED for state in _states(batch)], dtype=np.bool_)
    chosen = np.flatnonzero(feasible & (batch.fidelity >= FULL_FIDELITY))
    if len(chosen):
        candidates = fronts.Candidates(
            numbers=record.n_trials + chosen,
            values=batch.values[chosen],
            keys=tuple(batch.keys[index] for index in chosen),
        )
        fronts.merge(conn, searches.get(conn, record.id), FrontView.BELIEVED, candidates)


def _announce(conn: Connection, search_id: str, batch: TrialBatch, numbers: NDArray[np.int64]) -> None:
    record = searches.get(conn, search_id)
    data = {
        "first": int(numbers[0]),
        "count": len(batch),
        "n_trials": record.n_trials,
        "n_failed": record.n_failed,
        "front_version": record.front_version,
        "hypervolume": record.hypervolume,
    }
    events.append(conn, search_id, "trials", data)


def record_verification(conn: Connection, lease: Lease, members: Sequence[VerifiedMember]) -> None:
    """Replace the members' metrics of the same quantity, device and source, link artifacts, merge the front."""
    record = _fenced_search(conn, lease)
    keys = _keys(conn, record, [member.trial_number for member in members])
    for member in members:
        _keep_metrics(conn, record.id, member)
        for role, artifact_id in member.artifacts.items():
            results.link(conn, record.id, role, artifact_id, trial_number=member.trial_number)
    known = [
        (member.trial_number, member.values) for member in members if member.values is not None and member.feasible
    ]
    if known:
        values = np.array([row for _, row in known], dtype=np.float64)
        if values.shape[1:] != (len(record.objectives),) or not np.isfinite(values).all():
            raise StoreError(
                f"verified values of search {record.number}: give {len(record.objectives)} finite ones each."
            )
        numbers = np.array([number for number, _ in known], dtype=np.int64)
        new = fronts.Candidates(numbers=numbers, values=values, keys=tuple(keys[number] for number, _ in known))
        fronts.merge(conn, record, FrontView.VERIFIED, new)
    for member in members:
        data = {"number": member.trial_number, "values": member.values, "roles": sorted(member.artifacts)}
        events.append(conn, record.id, "verified", data)


def _keys(conn: Connection, record: SearchRecord, numbers: Sequence[int]) -> dict[int, str]:
    query = select(trial.c.number, trial.c.arch_key).where(trial.c.search_id == record.id, trial.c.number.in_(numbers))
    keys = {row.number: row.arch_key for row in conn.execute(query)}
    if missing := sorted(set(numbers) - keys.keys()):
        raise NotFound(f"trial of search {record.number}", missing[0])
    return keys


def _keep_metrics(conn: Connection, search_id: str, member: VerifiedMember) -> None:
    columns = trial_metric.c
    for metric in member.metrics:
        identity = {
            "search_id": search_id,
            "number": member.trial_number,
            "quantity": metric.quantity,
            "device": metric.device or "",
            "source": metric.source,
        }
        conn.execute(delete(trial_metric).where(*(columns[name] == value for name, value in identity.items())))
        conn.execute(insert(trial_metric).values(**identity, value=metric.value, spread=metric.spread))


def record_report(conn: Connection, lease: Lease, report: Json) -> None:
    """Replace the report."""
    leases.fence(conn, lease)
    conn.execute(update(search).where(search.c.id == lease.job_id).values(report=dict(report)))
    events.append(conn, lease.job_id, "report", {"keys": sorted(report)})


def set_reference(conn: Connection, lease: Lease, reference: Sequence[float]) -> None:
    """Fix the reference point once."""
    record = _fenced_search(conn, lease)
    point = tuple(float(value) for value in reference)
    if record.reference == point:
        return
    if record.reference is not None or len(point) != len(record.objectives) or record.front_version:
        raise StoreError(
            f"reference point of search {record.number}: got {point}, it is {record.reference} at version "
            f"{record.front_version} of the front; it has {len(record.objectives)} values and is set once, while the "
            "front is empty."
        )
    conn.execute(update(search).where(search.c.id == record.id).values(reference=list(point)))
    events.append(conn, record.id, "reference", {"reference": list(point)})


def set_stage(conn: Connection, lease: Lease, stage: str, *, reused: bool) -> None:
    """Enter a stage."""
    leases.fence(conn, lease)
    conn.execute(update(search).where(search.c.id == lease.job_id).values(stage=stage))
    if reused:
        _keep_progress(conn, lease, stage, {"done": 1, "total": 1, "message": "reused", "reused": True})
    events.append(conn, lease.job_id, "stage", {"stage": stage, "reused": reused})


def set_progress(conn: Connection, lease: Lease, stage: str, progress: Mapping[str, Any]) -> None:
    """Replace one stage's progress."""
    leases.fence(conn, lease)
    _keep_progress(conn, lease, stage, progress)
    events.append(conn, lease.job_id, "progress", {"stage": stage} | dict(progress))


def _keep_progress(conn: Connection, lease: Lease, stage: str, progress: Mapping[str, Any]) -> None:
    """Store progress; where it is more than ever before, the workers lost so far were not the job's fault."""
    kept = searches.get(conn, lease.job_id).progress
    conn.execute(
        update(search).where(search.c.id == lease.job_id).values(progress=dict(kept) | {stage: dict(progress)})
    )
    if progress["done"] > (kept.get(stage) or {}).get("done", 0):
        conn.execute(update(job).where(job.c.id == lease.job_id, job.c.attempts > 0).values(attempts=0))


def checkpoint(conn: Connection, search_id: str) -> StrategyCheckpoint | None:
    """What the last `record_trials` kept."""
    searches.get(conn, search_id)
    query = select(search_checkpoint).where(search_checkpoint.c.search_id == search_id)
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    with np.load(io.BytesIO(row.arrays), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    state = StrategyState(scalars=row.scalars, arrays=arrays)
    return StrategyCheckpoint(state=state, seconds=row.seconds, watt_hours=row.watt_hours)


def _keep_checkpoint(conn: Connection, lease: Lease, kept: StrategyCheckpoint) -> None:
    blob = io.BytesIO()
    np.savez(blob, allow_pickle=False, **dict(kept.state.arrays))  # type: ignore[arg-type]  # names are free
    values = {
        "scalars": dict(kept.state.scalars),
        "arrays": blob.getvalue(),
        "seconds": kept.seconds,
        "watt_hours": kept.watt_hours,
        "epoch": lease.epoch,
    }
    where = search_checkpoint.c.search_id == lease.job_id
    if not conn.execute(update(search_checkpoint).where(where).values(values)).rowcount:
        conn.execute(insert(search_checkpoint).values(search_id=lease.job_id, **values))


def _fenced_search(conn: Connection, lease: Lease) -> SearchRecord:
    leases.fence(conn, lease)
    return searches.get(conn, lease.job_id)
