"""Trials ingested per second and front read latency of a large search; prints one JSON line.

Run it with ``python benchmarks/store.py [--trials 1000000] [--postgres URL]``; it writes to a temporary folder. The
trials lie above a sphere's octant in three objectives, the rarer the closer to it, so that the front has hundreds of
members and keeps changing. Latencies are warm: 500 reads each of the front, of a page of 50 trials, and of the cached
columns.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from archsmith.search.strategy import StrategyState, TrialStatus
from archsmith.service.store.records import NewSearch, StrategyCheckpoint, TrialBatch
from archsmith.service.store.store import Store

OBJECTIVES, GENES, READS = 3, 20, 500


def batch(size: int, rng: np.random.Generator) -> TrialBatch:
    """Random trials whose distance to the ideal shrinks with luck."""
    direction = np.abs(rng.normal(size=(size, OBJECTIVES)))
    values = direction / np.linalg.norm(direction, axis=1, keepdims=True) * (1 + rng.gamma(3.0, 0.2, (size, 1)))
    return TrialBatch(
        genomes=rng.integers(0, 5, (size, GENES)).astype(np.int16),
        keys=tuple(rng.bytes(16).hex() for _ in range(size)),
        values=values,
        violations=np.zeros((size, 1)),
        fidelity=np.ones(size),
        cost_s=np.ones(size),
        status=np.full(size, TrialStatus.OK, dtype=np.int8),
        sources=("predicted:supernet", "predicted:lookup", "predicted:energy-model"),
    )


def latency_ms(call: Callable[[], object]) -> dict[str, float]:
    """Median and 99th percentile of repeated calls."""
    times = []
    for _ in range(READS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return {"p50_ms": round(float(np.percentile(times, 50)), 3), "p99_ms": round(float(np.percentile(times, 99)), 3)}


def run(url: str, folder: Path, trials: int, batch_size: int) -> dict[str, object]:
    """Fill one search and read it."""
    rng = np.random.default_rng(0)
    objectives = tuple({"name": f"f{index}", "direction": "min"} for index in range(OBJECTIVES))
    with Store.open(url, folder / "artifacts") as store:
        new = NewSearch(
            name="benchmark",
            config={},
            space={},
            objectives=objectives,
            constraints=({},),
            reference=(2.0,) * OBJECTIVES,
        )
        search = store.create_search(new)
        lease = store.claim("benchmark", job_id=search.id, ttl_s=86_400.0)
        assert lease is not None
        state = StrategyCheckpoint(state=StrategyState(scalars={}, arrays={"population": np.zeros((100, GENES))}))
        seconds = 0.0
        for _ in range(trials // batch_size):
            new_trials = batch(batch_size, rng)
            start = time.perf_counter()
            store.record_trials(lease, new_trials, state)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        points = store.points(search.id)
        cold_s = time.perf_counter() - start
        return {
            "trials": len(points),
            "batch": batch_size,
            "trials_per_s": round(len(points) / seconds),
            "front_size": len(store.front(search.id).numbers),
            "front": latency_ms(lambda: store.front(search.id)),
            "page": latency_ms(lambda: store.trials(search.id, limit=50, after=int(trials * 0.9))),
            "points_cold_s": round(cold_s, 2),
            "points_warm": latency_ms(lambda: store.points(search.id)),
        }


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--postgres", metavar="URL", help="an empty PostgreSQL database to measure as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {"benchmark": "store", "cores": os.cpu_count()}
        figures["sqlite"] = run(f"sqlite:///{folder / 'store.db'}", folder, options.trials, options.batch)
        if options.postgres:
            figures["postgresql"] = run(options.postgres, folder, options.trials, options.batch)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
