"""Cancelling with mode `kill` stops a worker that waits for its pool; `drain` leaves it to its safe points."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest
from service.store.samples import new_search

from archsmith.search.pipeline.contracts import Interrupted
from archsmith.search.pool import open_pool
from archsmith.service.store.records import CancelMode, JobState
from archsmith.service.store.store import Store
from archsmith.service.worker.heartbeat import Heartbeat, StopReason
from archsmith.service.worker.interrupt import Interruptible

FACTORIES = str(Path(__file__).parents[2] / "search")


@pytest.fixture
def sqlite(tmp_path: Path):
    with Store.open(f"sqlite:///{tmp_path}/archsmith.db", tmp_path / "artifacts") as opened:
        yield opened


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_kill_ends_a_search_that_waits_for_its_pool(sqlite: Store, tmp_path: Path) -> None:
    search = sqlite.create_search(new_search())
    lease = sqlite.claim("worker", job_id=search.id, ttl_s=3.0)
    assert lease is not None
    started = tmp_path / "started"

    def kill_once_it_runs() -> None:
        while not started.exists():
            time.sleep(0.05)
        sqlite.cancel(search.id, CancelMode.KILL)

    before = children()
    user = threading.Thread(target=kill_once_it_runs)
    user.start()
    with Heartbeat(sqlite, lease, threading.Event()) as heartbeat:
        pool = open_pool("local", 1, "pool_factories:witness", {}, import_root=FACTORIES)
        with pytest.raises(Interrupted) as stopped, heartbeat.killable, pool:
            pool.map([{"started": str(started), "sleep_s": 3600}])
        user.join()
        assert stopped.value.reason == heartbeat.reason() == StopReason.CANCEL
    psutil.wait_procs([psutil.Process(pid) for pid in children() - before if psutil.pid_exists(pid)], timeout=30)
    assert children() <= before
    sqlite.release(lease, JobState.QUEUED)
    record = sqlite.search(search.id)
    assert (record.state, record.cancel_mode, record.n_trials) == (JobState.CANCELLED, CancelMode.KILL, 0)


def test_drain_raises_nothing_and_is_answered_at_the_next_safe_point(sqlite: Store) -> None:
    search = sqlite.create_search(new_search())
    lease = sqlite.claim("worker", job_id=search.id, ttl_s=0.6)
    assert lease is not None
    with Heartbeat(sqlite, lease, threading.Event()) as heartbeat, heartbeat.killable:
        sqlite.cancel(search.id)
        while heartbeat.reason() is None:
            time.sleep(0.02)
        assert heartbeat.reason() == StopReason.CANCEL


def test_stop_before_after_or_in_another_thread_does_nothing() -> None:
    block = Interruptible(Interrupted("cancel"))
    block.stop()
    with block:
        pass
    block.stop()

    def elsewhere() -> None:
        with block:
            block.stop()
        ended.set()

    ended = threading.Event()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ended.is_set()


def test_stop_ends_the_block_once() -> None:
    block = Interruptible(Interrupted("cancel"))
    threading.Timer(0.2, block.stop).start()
    with pytest.raises(Interrupted), block:
        time.sleep(3600)
    block.stop()
