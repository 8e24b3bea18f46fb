"""Trials ingested per second and front read latency of a large search; prints one JSON line.

Run it with ``python benchmarks/store.py [--trials 1000000] [--front both] [--postgres URL]``; it writes to a temporary
folder. The trials lie above a sphere's octant in three objectives, the rarer the closer to it, so that the front has
hundreds of members and keeps changing; `--front large` turns the octant over and puts the first 17,000 trials on
its very edge, which makes them the front. Latencies are warm: 500 reads each of the front (as a server reads it, and
once more past its cache), of a page of 50 trials, and of the cached columns.
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
from archsmith.service.store.fronts import FrontCache
from archsmith.service.store.records import FrontView, NewSearch, StrategyCheckpoint, TrialBatch
from archsmith.service.store.store import Store

OBJECTIVES, GENES, READS = 3, 20, 500
LARGE = 17_000
"""Members of the large front."""


def new_search() -> NewSearch:
    """A search with three objectives and one constraint."""
    objectives = tuple({"name": f"f{index}", "direction": "min"} for index in range(OBJECTIVES))
    return NewSearch(
        name="benchmark", config={}, space={}, objectives=objectives, constraints=({"name": "params", "bound": 1.0},),
        reference=(2.0,) * OBJECTIVES,
    )  # fmt: skip


def batch(size: int, rng: np.random.Generator, *, bulged: bool = False, edge: bool = False) -> TrialBatch:
    """Random trials above a sphere's octant, the rarer the closer to it.

    Args:
        size: how many.
        rng: draws them.
        bulged: turn the octant over (1 - x), so that its edge is a front that bulges towards the ideal point.
        edge: put all of them on the edge.
    """
    direction = np.abs(rng.normal(size=(size, OBJECTIVES)))
    sphere = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    away = np.ones((size, 1)) if edge else 1 + rng.gamma(3.0, 0.2, (size, 1))
    values = 1 - sphere / away if bulged else sphere * away
    return TrialBatch(
        genomes=rng.integers(0, 5, (size, GENES)).astype(np.int16),
        keys=tuple(rng.bytes(16).hex() for _ in range(size)),
        values=values,
        violations=np.zeros((size, 1)),
        fidelity=np.ones(size),
        cost_s=np.ones(size),
        status=np.full(size, TrialStatus.OK, dtype=np.int8),
        sources=("predicted:supernet", "predicted:lookup", "predicted:energy-model"),
        params=rng.integers(1_000, 200_000, size),
        macs=rng.integers(10_000, 2_000_000, size),
    )


def uncached(store: Store, search_id: str) -> object:
    """The front as the first reader of a version gets it."""
    with store.database.read() as conn:
        return FrontCache().read(conn, search_id, FrontView.BELIEVED)


def latency_ms(call: Callable[[], object], *, reads: int = READS) -> dict[str, float]:
    """Median and 99th percentile of repeated calls."""
    times = []
    for _ in range(reads):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return {"p50_ms": round(float(np.percentile(times, 50)), 3), "p99_ms": round(float(np.percentile(times, 99)), 3)}


def run(url: str, folder: Path, *, trials: int, batch_size: int, large: bool) -> dict[str, object]:
    """Fill one search and read it."""
    rng = np.random.default_rng(0)
    with Store.open(url, folder / "artifacts") as store:
        search = store.create_search(new_search())
        lease = store.claim("benchmark", job_id=search.id, ttl_s=86_400.0)
        assert lease is not None
        state = StrategyCheckpoint(state=StrategyState(scalars={}, arrays={"population": np.zeros((100, GENES))}))
        seconds = 0.0
        for index in range(trials // batch_size):
            new_trials = batch(batch_size, rng, bulged=large, edge=large and index * batch_size < LARGE)
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
            "front_uncached": latency_ms(lambda: uncached(store, search.id), reads=50),
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
    parser.add_argument("--front", choices=["usual", "large", "both"], default="both")
    options = parser.parse_args()
    sizes = {"usual": [False], "large": [True], "both": [False, True]}[options.front]
    figures: dict[str, object] = {"benchmark": "store", "cores": os.cpu_count()}
    for large in sizes:
        # A large front makes every merge slower and no read of a page: a tenth of the trials shows the same latencies.
        trials = options.trials // 10 if large else options.trials
        with tempfile.TemporaryDirectory() as name:
            folder, key = Path(name), "large_front" if large else "usual_front"
            urls = {"sqlite": f"sqlite:///{folder / 'store.db'}"}
            if options.postgres:
                urls["postgresql"] = options.postgres
            figures[key] = {
                backend: run(url, folder, trials=trials, batch_size=options.batch, large=large)
                for backend, url in urls.items()
            }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
