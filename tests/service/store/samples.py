"""Searches and batches for the store's tests."""

from __future__ import annotations

import numpy as np

from archsmith.search.strategy import StrategyState, TrialStatus
from archsmith.service.store.records import NewSearch, SearchRecord, StrategyCheckpoint, TrialBatch
from archsmith.service.store.store import Store


def new_search(name: str = "digits", n_objectives: int = 2, n_constraints: int = 1, **changes: object) -> NewSearch:
    values: dict[str, object] = {
        "name": name,
        "config": {"budget": {"trials": 100}},
        "space": {"name": "mobilenet"},
        "objectives": tuple({"name": f"f{index}", "direction": "min"} for index in range(n_objectives)),
        "constraints": tuple({"name": f"c{index}", "bound": 1.0} for index in range(n_constraints)),
        "seed": 7,
        "reference": (1.0,) * n_objectives,
    }
    return NewSearch(**(values | changes))  # type: ignore[arg-type]


def claimed(store: Store, worker: str = "worker-1", ttl_s: float = 60.0, **changes: object):
    record = store.create_search(new_search(**changes))
    lease = store.claim(worker, job_id=record.id, ttl_s=ttl_s)
    assert lease is not None
    return record, lease


def batch(values: np.ndarray, *, violations: np.ndarray | None = None, status: np.ndarray | None = None) -> TrialBatch:
    size = len(values)
    return TrialBatch(
        genomes=np.arange(size * 3, dtype=np.int16).reshape(size, 3),
        keys=tuple(f"{index:032x}" for index in range(size)),
        values=values,
        violations=np.zeros((size, 1)) if violations is None else violations,
        fidelity=np.ones(size),
        cost_s=np.full(size, 0.5),
        status=np.full(size, TrialStatus.OK, dtype=np.int8) if status is None else status.astype(np.int8),
        sources=("predicted:supernet",) * values.shape[1],
        params=np.arange(size, dtype=np.int64),
    )


def random_batch(size: int, seed: int, n_objectives: int = 2) -> TrialBatch:
    return batch(np.random.default_rng(seed).random((size, n_objectives)))


def checkpoint(step: int) -> StrategyCheckpoint:
    generator = np.random.default_rng(step).bit_generator.state
    state = StrategyState(
        scalars={"step": step, "rng": generator}, arrays={"population": np.full((2, 3), step, np.int16)}
    )
    return StrategyCheckpoint(state=state, seconds=float(step), watt_hours=0.1)


def expire(store: Store, search: SearchRecord | str) -> None:
    """Let the lease of a running job lie in the past, as if its time had gone by."""
    from sqlalchemy import update

    from archsmith.service.store.tables import job

    job_id = search if isinstance(search, str) else search.id
    with store.database.write() as conn:
        conn.execute(update(job).where(job.c.id == job_id).values(lease_until=1.0))
