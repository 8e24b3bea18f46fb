"""Real processes of archsmith for tests: a small job, a finished store to start from, commands and servers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import sqlalchemy
import yaml

from archsmith.service.client.client import Client
from archsmith.service.store.records import JobState, SearchRecord
from archsmith.service.store.store import Store

TRIALS = 48
JOB: dict[str, Any] = {
    "name": "small",
    "space": {"name": "mobilenet", "preset": "tiny"},
    "task": {"name": "digits_shifted", "options": {"placements": 1}},
    "objectives": [{"name": "accuracy"}, {"name": "latency_ms", "device": "host"}],
    "constraints": ["params <= 10000"],
    "strategy": {"name": "nsga2", "options": {"population": 16}},
    "budget": {"trials": TRIALS},
    "supernet": {"steps": 10, "batch_size": 16, "checkpoint_every": 2, "calibration_batches": 1},
    "cost_model": {"kernels": 20, "calibration_networks": 12, "held_out_networks": 4},
    "verify": {"members": 5, "audit": 2, "steps": 4},
}
PATIENCE_S = 120.0
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def write_job(folder: Path, **changes: Any) -> Path:
    """`job.yaml` in a folder, some of its keys changed."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(JOB | changes), encoding="utf-8")
    return path


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: one thread, evaluation in the process itself, nothing of ours from outside."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ARCHSMITH_")}
    return clean | THREADS | {"ARCHSMITH_POOL": "serial", "ARCHSMITH_EVENT_POLL_S": "0.05"} | more


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "archsmith.service.cli", *(str(argument) for argument in arguments)]


def archsmith(folder: Path, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(**more), capture_output=True, text=True, check=False
    )


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` returns as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
        time.sleep(0.02)
    return found


# --- what is stored ------------------------------------------------------------------------------------------------


def store_url(folder: Path) -> str:
    return f"sqlite:///{folder}/runs/archsmith.db"


@contextlib.contextmanager
def opened(folder: Path, url: str | None = None) -> Iterator[Store]:
    with Store.open(url or store_url(folder), folder / "runs" / "artifacts") as store:
        yield store


@dataclass(frozen=True)
class Found:
    """What a search has stored that must not depend on where and how often it was started."""

    record: SearchRecord
    genomes: np.ndarray
    values: np.ndarray
    front: list[int]
    front_values: np.ndarray


def found(folder: Path, number: int, url: str | None = None) -> Found:
    """A search's trials and believed front; every trial is there once."""
    with opened(folder, url) as store:
        record = store.search(str(number))
        batch = store.trial_batch(record.id)
        front = store.front(record.id)
    assert batch is not None
    assert len(batch.genomes) == record.n_trials
    assert len(np.unique(batch.genomes, axis=0)) == record.n_trials
    return Found(record, batch.genomes, batch.values, front.numbers.tolist(), front.values)


def assert_same(one: Found, other: Found) -> None:
    """Genomes, believed values and front are equal to the last bit."""
    np.testing.assert_array_equal(one.genomes, other.genomes)
    np.testing.assert_array_equal(one.values, other.values)
    assert one.front == other.front
    np.testing.assert_array_equal(one.front_values, other.front_values)
    assert one.record.hypervolume == other.record.hypervolume
    assert one.record.reference == other.record.reference


def forget(folder: Path, *kinds: str) -> None:
    """Remove stored results of these kinds, so that their stage has to be done again, and every remembered score."""
    engine = sqlalchemy.create_engine(store_url(folder))
    with engine.begin() as conn:
        conn.execute(sqlalchemy.text("DELETE FROM evaluation"))
        for kind in kinds:
            for table in ("stored_result_file", "stored_result"):
                conn.execute(sqlalchemy.text(f"DELETE FROM {table} WHERE kind = :kind"), {"kind": kind})
    engine.dispose()


@dataclass(frozen=True)
class Finished:
    """A folder in which `archsmith run job.yaml` has run to its end: search 1."""

    folder: Path
    found: Found

    def copy(self, folder: Path, *without: str) -> Path:
        """A folder with the same store, for one test; stored results of the kinds `without` are removed."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        forget(folder, *without)
        return folder


def finish(folder: Path) -> Finished:
    done = archsmith(folder, "run", write_job(folder), "--quiet")
    assert done.returncode == 0, done.stderr
    return Finished(folder, found(folder, 1))


# --- servers -------------------------------------------------------------------------------------------------------


class Server:
    """A server with its worker, as processes of their own."""

    def __init__(self, folder: Path, *arguments: str, **more: str) -> None:
        told = folder / "runs" / "server.json"
        told.unlink(missing_ok=True)  # a killed server could not
        self.log = folder / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command("serve", "--port", "0", *arguments), cwd=folder, env=environment(**more), stdout=log, stderr=log
            )
        wait_for(lambda: told.exists() or self.process.poll() is not None, "the server")
        assert self.process.poll() is None, self.log.read_text()
        self.url = json.loads(told.read_text())["url"]
        self.client = Client(self.url)

    def worker(self) -> int:
        """Process id of its worker."""
        return wait_for(lambda: psutil.Process(self.process.pid).children(), "the worker")[0].pid

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.process.wait()
        self.client.close()

    def stop(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=PATIENCE_S)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def reached(folder: Path, number: int, stage: str, url: str | None = None, done: float = 0.0) -> bool:
    """Whether a search is in a stage, at least `done` far, or has passed it; read from the store itself."""
    engine = sqlalchemy.create_engine(url or store_url(folder))
    query = "SELECT search.stage, search.progress, job.state FROM search JOIN job USING (id) WHERE number = :number"
    try:
        with engine.connect() as conn:
            now, progress, state = conn.execute(sqlalchemy.text(query), {"number": number}).one()
    finally:
        engine.dispose()
    assert state not in (JobState.FAILED, JobState.CANCELLED), progress
    progress = json.loads(progress) if isinstance(progress, str) else progress
    stages = ["prepare", "train", "model", "search", "verify", "export"]
    if state == JobState.SUCCEEDED or (now and stages.index(now) > stages.index(stage)):
        return True
    return now == stage and progress.get(stage, {}).get("done", 0.0) >= done
