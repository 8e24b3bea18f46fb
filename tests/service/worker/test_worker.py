"""The worker's parts on both databases: heartbeat, recorder, result store, and how a job is settled."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from running import JOB

from archsmith import spaces
from archsmith.errors import LeaseLostError, StoreError
from archsmith.search.pipeline.contracts import Stage
from archsmith.search.strategy import Results, StrategyState
from archsmith.service.api.admission import admit
from archsmith.service.schemas.check import check_job
from archsmith.service.settings import Settings
from archsmith.service.store.leases import MAX_ATTEMPTS
from archsmith.service.store.records import JobState, Lease
from archsmith.service.store.store import Store
from archsmith.service.worker.heartbeat import Heartbeat, StopReason
from archsmith.service.worker.recorder import DatabaseRecorder
from archsmith.service.worker.results import DatabaseResultStore, tidy
from archsmith.service.worker.runner import Worker, _unwritable

SPACE = spaces.get("mobilenet", "tiny")


def claimed(store: Store, ttl_s: float = 60.0) -> Lease:
    record = store.create_search(admit(check_job(JOB)))
    lease = store.claim("worker", job_id=record.id, ttl_s=ttl_s)
    assert lease is not None
    return lease


def eventually(reason: str | None, heartbeat: Heartbeat) -> None:
    deadline = time.monotonic() + 30
    while heartbeat.reason() != reason:
        assert time.monotonic() < deadline, f"never said {reason}"
        time.sleep(0.02)


# --- heartbeat -----------------------------------------------------------------------------------------------------


def test_heartbeat_keeps_a_short_lease_and_hears_what_is_asked(store: Store) -> None:
    lease = claimed(store, ttl_s=1.5)
    with Heartbeat(store, lease, threading.Event()) as heartbeat:
        time.sleep(2.0)  # longer than the lease
        assert heartbeat.reason() is None
        assert store.claim("another", job_id=lease.job_id) is None
        store.pause(lease.job_id)
        eventually(StopReason.PAUSE, heartbeat)
        store.resume(lease.job_id)  # nobody has honoured the pause yet: it is withdrawn
        eventually(None, heartbeat)
        store.cancel(lease.job_id)
        eventually(StopReason.CANCEL, heartbeat)


def test_heartbeat_of_a_lost_lease_stays_lost(store: Store) -> None:
    lease = claimed(store, ttl_s=1.5)
    shutdown = threading.Event()
    with Heartbeat(store, lease, shutdown) as heartbeat:
        store.reclaim_all("owner")
        assert store.claim("another", job_id=lease.job_id, ttl_s=60.0) is not None
        eventually(StopReason.LOST, heartbeat)
        shutdown.set()
        assert heartbeat.reason() == StopReason.LOST


def test_heartbeat_that_cannot_renew_stops_before_another_may_claim(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/store.db", tmp_path / "artifacts")
    lease = claimed(store, ttl_s=1.5)
    (tmp_path / "store.db").rename(tmp_path / "gone.db")
    (tmp_path / "store.db").mkdir()  # every new connection fails
    store.close()
    with Heartbeat(store, lease, threading.Event()) as heartbeat:
        eventually(StopReason.LOST, heartbeat)


# --- recorder ------------------------------------------------------------------------------------------------------


def results(first: int, size: int, *, feasible: bool = True) -> tuple[Results, StrategyState]:
    genomes = SPACE.sample(first + size, np.random.default_rng(3))[first:]
    values = np.random.default_rng(first).random((size, 2))
    columns = {"fidelity": np.ones(size), "cost_s": np.zeros(size), "status": np.zeros(size, dtype=np.int8)}
    violations = np.full((size, 1), 0.0 if feasible else 0.5)
    sources = ("predicted:supernet", "predicted:lookup")
    told = Results(genomes=genomes, values=values, violations=violations, sources=sources, **columns)  # type: ignore[arg-type]
    return told, StrategyState(scalars={"told": first + size})


def test_recorder_of_a_new_run_returns_what_an_earlier_one_recorded(store: Store) -> None:
    lease = claimed(store)
    with Heartbeat(store, lease, threading.Event()) as heartbeat:
        recorder = DatabaseRecorder(store, lease, SPACE, heartbeat)
        assert recorder.checkpoint() is None
        recorder.spend(4.0, 0.25)
        recorder.results(*results(0, 4, feasible=False))
        # The first feasible results may come late: the reference point is fixed with them, not before the first trial.
        recorder.reference(np.array([1.0, 2.0]))
        recorder.results(*results(4, 4))
        checkpoint = DatabaseRecorder(store, lease, SPACE, heartbeat).checkpoint()
    assert checkpoint is not None
    assert (checkpoint.state.scalars, checkpoint.seconds, checkpoint.watt_hours) == ({"told": 8}, 4.0, 0.25)
    assert checkpoint.reference is not None
    assert checkpoint.reference.tolist() == [1.0, 2.0]
    expected = Results.concatenate([results(0, 4, feasible=False)[0], results(4, 4)[0]])
    np.testing.assert_array_equal(checkpoint.results.genomes, expected.genomes)
    np.testing.assert_array_equal(checkpoint.results.values, expected.values)
    np.testing.assert_array_equal(checkpoint.results.violations, expected.violations)


def test_reference_point_is_stored_with_the_results_or_not_at_all(store: Store) -> None:
    lease = claimed(store)
    with Heartbeat(store, lease, threading.Event()) as heartbeat:
        recorder = DatabaseRecorder(store, lease, SPACE, heartbeat)
        recorder.reference(np.array([1.0, 2.0]))
        assert store.search(lease.job_id).reference is None  # a kill here leaves nothing behind
        recorder.results(*results(0, 4))
        assert store.search(lease.job_id).reference == (1.0, 2.0)
        assert store.search(lease.job_id).hypervolume is not None


def test_recorder_without_its_lease_stores_nothing(store: Store) -> None:
    lease = claimed(store)
    store.reclaim_all("owner")
    assert store.claim("another", job_id=lease.job_id) is not None
    with Heartbeat(store, lease, threading.Event()) as heartbeat:
        recorder = DatabaseRecorder(store, lease, SPACE, heartbeat)
        for write in (
            lambda: recorder.results(*results(0, 4)),
            lambda: recorder.stage(Stage.TRAIN),
            lambda: recorder.progress(1, 1, "done"),
            lambda: recorder.report({}),
        ):
            with pytest.raises(LeaseLostError):
                write()
    assert store.search(lease.job_id).n_trials == 0


def test_reused_stage_says_so_in_the_progress(store: Store) -> None:
    lease = claimed(store)
    with Heartbeat(store, lease, threading.Event()) as heartbeat:
        DatabaseRecorder(store, lease, SPACE, heartbeat).stage(Stage.TRAIN, reused=True)
    assert store.search(lease.job_id).progress["train"]["message"] == "reused"


def test_progress_clears_lost_workers_and_no_progress_ends_as_poison(store: Store) -> None:
    lease = claimed(store)
    for done in range(1, 2 * MAX_ATTEMPTS):  # far more kills than a job without progress may have
        store.set_progress(lease, "train", done, 100)
        store.reclaim_all("owner")
        again = store.claim("worker", job_id=lease.job_id)
        assert again is not None
        lease = again
    for _ in range(MAX_ATTEMPTS):
        store.set_progress(lease, "train", 3, 100)  # no farther than before
        store.reclaim_all("owner")
        again = store.claim("worker", job_id=lease.job_id)
        if again is None:
            break
        lease = again
    assert store.job(lease.job_id).state is JobState.FAILED
    assert (store.job(lease.job_id).error or {})["reason"] == "poison"


# --- results -------------------------------------------------------------------------------------------------------


def test_kept_result_is_found_by_another_search_and_leaves_no_scratch(store: Store, tmp_path: Path) -> None:
    lease = claimed(store)
    kept = DatabaseResultStore(store, lease, tmp_path)
    folder = kept.scratch("supernet", "abc")
    (folder / "part").mkdir()
    (folder / "part" / "weights.safetensors").write_bytes(b"weights")
    (folder / ".weights.safetensors.writing-1").write_bytes(b"half")
    kept.keep("supernet", "abc", folder, {"steps": 3})
    assert not folder.exists()
    other = DatabaseResultStore(store, claimed(store), tmp_path)
    found = other.find("supernet", "abc")
    assert found is not None
    assert found.summary == {"steps": 3}
    files = [path.relative_to(found.directory).as_posix() for path in found.directory.rglob("*") if path.is_file()]
    assert files == ["part/weights.safetensors"]
    assert other.find("supernet", "other") is None


def test_first_result_of_an_identity_stays(store: Store, tmp_path: Path) -> None:
    first, second = (DatabaseResultStore(store, claimed(store), tmp_path) for _ in range(2))
    for number, results_of in enumerate((first, second)):
        folder = results_of.scratch("cost_model", "abc")
        (folder / "model.json").write_text(str(number), encoding="utf-8")
    first.keep("cost_model", "abc", first.scratch("cost_model", "abc"), {"number": 0})
    again = second.keep("cost_model", "abc", second.scratch("cost_model", "abc"), {"number": 1})
    assert again.summary == {"number": 0}
    assert (again.directory / "model.json").read_text() == "0"


def test_tidy_removes_what_ended_searches_left(store: Store, tmp_path: Path) -> None:
    ended, running = claimed(store), claimed(store)
    for lease in (ended, running):
        DatabaseResultStore(store, lease, tmp_path).scratch("supernet", "abc")
    (tmp_path / "work" / "of-another-store").mkdir()
    store.finish(ended)
    tidy(store, tmp_path)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == sorted([running.job_id, "of-another-store"])


def test_scratch_in_a_closed_folder_is_a_store_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(StoreError, match=r"runs_dir .*Set ARCHSMITH_RUNS_DIR"):
        DatabaseResultStore(store, claimed(store), tmp_path).scratch("supernet", "abc")


# --- runner --------------------------------------------------------------------------------------------------------


def worker(store: Store, folder: Path, shutdown: threading.Event | None = None) -> Worker:
    settings = Settings(runs_dir=folder, pool="serial", ray_address="ray://nowhere:1")
    return Worker(store, settings, shutdown=shutdown or threading.Event())


def test_job_that_cannot_work_fails_with_its_reason(store: Store, tmp_path: Path) -> None:
    lease = claimed(store)
    (tmp_path / "work").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="runs_dir"):
        worker(store, tmp_path).execute(lease)
    assert store.job(lease.job_id).state is JobState.RUNNING  # not the job's fault: its lease will expire


def test_shutdown_hands_the_job_over(store: Store, tmp_path: Path) -> None:
    lease = claimed(store)
    shutdown = threading.Event()
    shutdown.set()
    worker(store, tmp_path, shutdown).execute(lease)
    assert store.job(lease.job_id).state is JobState.QUEUED


def test_withdrawn_pause_leaves_the_job_in_the_queue(store: Store, tmp_path: Path) -> None:
    lease = claimed(store)
    worker(store, tmp_path)._settle(lease, StopReason.PAUSE)
    assert store.job(lease.job_id).state is JobState.QUEUED


def test_infeasible_job_fails_with_the_tightest_value(store: Store, tmp_path: Path) -> None:
    """A constraint that was feasible when it was submitted need not be so for the space of a later version."""
    new = admit(check_job(JOB))
    config = dict(new.config) | {"constraints": [{"name": "params", "operator": "<=", "bound": 10.0}]}
    record = store.create_search(type(new)(**{name: getattr(new, name) for name in new.__slots__} | {"config": config}))
    lease = store.claim("worker", job_id=record.id)
    assert lease is not None
    worker(store, tmp_path).execute(lease)
    error = store.job(record.id).error or {}
    assert error["reason"] == "InfeasibleError"
    assert "tightest value reachable" in error["message"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full", "weights"), "No space left on device: weights"),
        (OSError(errno.EROFS, "ro"), "Read-only file system"),
        (RuntimeError("I/O error: File too large (os error 27)"), "File too large"),
        (OSError(errno.ENOENT, "gone"), None),
        (RuntimeError("a defect"), None),
    ],
)
def test_disk_trouble_is_told_from_defects(error: Exception, said: str | None) -> None:
    assert _unwritable(error) == said
