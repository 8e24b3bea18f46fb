"""A real server on a free port, over a fresh store, spoken to over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from archsmith.search.strategy import StrategyState
from archsmith.service.api.app import create_app, create_server
from archsmith.service.settings import Settings
from archsmith.service.store.records import NewSearch, StrategyCheckpoint, TrialBatch
from archsmith.service.store.store import Store


@dataclass
class Served:
    """A running server, its store, and a connection to it."""

    settings: Settings
    store: Store
    http: httpx.Client
    url: str


@contextmanager
def serving(settings: Settings, store: Store) -> Iterator[Served]:
    """Serve `store` until the block ends."""
    server = create_server(create_app(settings, store), settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30) as http:
            yield Served(settings, store, http, url)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def settings_for(folder: Path, **more: object) -> Settings:
    return Settings(runs_dir=folder, artifacts_dir=folder / "artifacts", port=0, event_poll_s=0.05, **more)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/archsmith.db", tmp_path / "artifacts") as opened:
        yield opened


@pytest.fixture
def served(sqlite: Store, tmp_path: Path) -> Iterator[Served]:
    with serving(settings_for(tmp_path), sqlite) as running:
        yield running


JOB = {
    "name": "small",
    "space": {"name": "mobilenet", "preset": "tiny"},
    "task": {"name": "digits_shifted"},
    "devices": ["host"],
    "objectives": [{"name": "accuracy"}, {"name": "latency_ms"}],
    "constraints": ["params <= 10000"],
    "budget": {"trials": 8},
}


@pytest.fixture
def job() -> dict[str, object]:
    return dict(JOB)


def new_search(name: str = "=stored") -> NewSearch:
    return NewSearch(
        name=name,
        config={"name": name},
        space={"name": "mobilenet"},
        objectives=(
            {"name": "accuracy", "direction": "max", "device": None},
            {"name": "latency_ms", "direction": "min", "device": "host"},
        ),
        constraints=({"name": "params", "operator": "<=", "bound": 10.0, "device": None},),
        reference=(0.0, 1.0),
    )


SOURCES = ("predicted:supernet", "predicted:lookup")


def fill(store: Store, count: int = 12) -> str:
    """A running search with `count` trials, of which the last violates its constraint."""
    record = store.create_search(new_search())
    lease = store.claim("worker", job_id=record.id)
    assert lease is not None
    share = np.linspace(0.1, 0.9, count)
    violations = np.zeros((count, 1))
    violations[-1] = 0.5
    batch = TrialBatch(
        genomes=np.arange(count, dtype=np.int16)[:, None],
        keys=tuple(f"{number:032x}" for number in range(count)),
        values=np.stack([-share, share**2], axis=1),
        violations=violations,
        fidelity=np.ones(count),
        cost_s=np.full(count, 0.25),
        status=np.zeros(count, dtype=np.int8),
        sources=SOURCES,
        params=np.full(count, 7),
        choices=tuple({"depth": number} for number in range(count)),
    )
    store.record_trials(lease, batch, StrategyCheckpoint(state=StrategyState(scalars={"step": 1})))
    artifact = store.add_artifact(b"0123456789", name="../weights.bin", media_type="application/octet-stream")
    store.link_artifact(lease, "weights", artifact.id, trial_number=3)
    return record.id


@pytest.fixture
def filled(served: Served) -> str:
    return fill(served.store)
