"""Server time of every part of a search's page at a million stored trials; prints one JSON line.

Run it with ``python benchmarks/dashboard.py [--trials 1000000] [--batch 100]``; it uses a temporary folder. Trials,
fronts, events and progress are recorded through the store as a worker does. Then an application over a newly opened
store, which has cached nothing, answers each request of the page once, and 20 times more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from store import batch, new_search

from archsmith.search.strategy import StrategyState
from archsmith.service.api.app import create_app
from archsmith.service.settings import Settings
from archsmith.service.store.records import StrategyCheckpoint
from archsmith.service.store.store import Store

WARM = 20


def fill(store: Store, trials: int, batch_size: int) -> str:
    """Record a search as its worker does; returns its id."""
    rng = np.random.default_rng(0)
    search = store.create_search(new_search())
    lease = store.claim("benchmark", job_id=search.id, ttl_s=86_400.0)
    assert lease is not None
    store.set_stage(lease, "search")
    state = StrategyCheckpoint(state=StrategyState(scalars={}, arrays={}))
    for done in range(0, trials, batch_size):
        store.record_trials(lease, batch(batch_size, rng), state)
        store.set_progress(lease, "search", done + batch_size, trials, "")
        if done % (50 * batch_size) == 0:
            store.record_event(lease, "evaluations_failed", {"reason": f"cause {done % 7}", "count": 1})
    return search.id


async def measure(settings: Settings, store: Store, search_id: str) -> dict[str, dict[str, float]]:
    """Seconds of each request, the first one and the median of later ones."""
    api = f"/api/v1/searches/{search_id}"
    paths = {
        "page": f"/searches/{search_id}",
        "chart": f"/searches/{search_id}/chart",
        "points": f"{api}/points?x=f0&y=f1",
        "points_of_sizes": f"{api}/points?x=params&y=macs",
        "status": f"/searches/{search_id}/status",
        "log": f"/searches/{search_id}/log",
        "list": "/searches",
        "front_csv": f"{api}/front?format=csv",
        "trial": f"/searches/{search_id}/trials/999",
    }
    found = {}
    transport = httpx.ASGITransport(create_app(settings, store))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=120) as http:
        for name, path in paths.items():
            times = []
            for _ in range(1 + WARM):
                begun = time.perf_counter()
                response = await http.get(path)
                times.append(time.perf_counter() - begun)
                response.raise_for_status()
            found[name] = {"first_s": round(times[0], 3), "warm_s": round(float(np.median(times[1:])), 4)}
    return found


def main() -> None:
    """Parse arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(
            store_url=f"sqlite:///{folder}/store.db", artifacts_dir=folder / "artifacts", runs_dir=folder
        )
        with Store.open(settings.store_url, settings.artifacts_dir) as store:
            search_id = fill(store, options.trials, options.batch)
        with Store.open(settings.store_url, settings.artifacts_dir) as store:
            record = store.search(search_id)
            figures = {
                "benchmark": "dashboard",
                "cores": os.cpu_count(),
                "trials": record.n_trials,
                "front_size": record.front_size,
                "front_version": record.front_version,
                "requests": asyncio.run(measure(settings, store, search_id)),
            }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
