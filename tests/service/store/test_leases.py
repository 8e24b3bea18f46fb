"""The queue under loss: fencing, expiry, racing, and a state machine against a model."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from service.store.samples import checkpoint, claimed, expire, new_search, random_batch

from archsmith.errors import LeaseLostError
from archsmith.service.store.faults import Conflict, NotFound
from archsmith.service.store.leases import MAX_ATTEMPTS
from archsmith.service.store.records import JobState, VerifiedMember
from archsmith.service.store.store import Store


def test_claim_takes_the_oldest_and_counts_epochs(store: Store) -> None:
    first = store.enqueue("export", {"n": 1})
    second = store.enqueue("export", {"n": 2})
    one, two = store.claim("a"), store.claim("b")
    assert one is not None
    assert two is not None
    assert (one.job_id, two.job_id) == (first.id, second.id)
    assert (one.epoch, one.payload) == (1, {"n": 1})
    assert store.claim("c") is None
    assert store.job(first.id).state is JobState.RUNNING


def test_claim_by_kind_leaves_other_kinds(store: Store) -> None:
    store.enqueue("export", {})
    assert store.claim("a", kinds=["measurement"]) is None
    assert store.claim("a", kinds=["export"]) is not None


WRITES = {
    "renew": lambda store, lease: store.renew(lease),
    "finish": lambda store, lease: store.finish(lease),
    "fail": lambda store, lease: store.fail(lease, {"reason": "x"}),
    "retry": lambda store, lease: store.fail(lease, {"reason": "x"}, retry=True),
    "release": lambda store, lease: store.release(lease, JobState.QUEUED),
    "record_trials": lambda store, lease: store.record_trials(lease, random_batch(3, 1), checkpoint(1)),
    "record_verification": lambda store, lease: store.record_verification(
        lease, [VerifiedMember(trial_number=0, values=(0.1, 0.1))]
    ),
    "record_report": lambda store, lease: store.record_report(lease, {"tau": 0.5}),
    "set_reference": lambda store, lease: store.set_reference(lease, (1.0, 1.0)),
    "set_stage": lambda store, lease: store.set_stage(lease, "train"),
    "set_progress": lambda store, lease: store.set_progress(lease, "train", 1, 2),
    "record_event": lambda store, lease: store.record_event(lease, "note", {}),
    "put_stored": lambda store, lease: store.put_stored("supernet", "id", summary={}, lease=lease),
    "keep_evaluated": lambda store, lease: store.keep_evaluated(lease, "recipe", {"k": 0.5}, seed=0),
    "link_artifact": lambda store, lease: store.link_artifact(lease, "log", "none"),
}


@pytest.mark.parametrize("write", WRITES)
def test_stale_epoch_is_rejected_on_every_write(store: Store, write: str) -> None:
    search, zombie = claimed(store)
    expire(store, search)
    owner = store.claim("worker-2")
    assert owner is not None
    assert owner.epoch == zombie.epoch + 1
    before = (store.search(search.id), store.events_after(search.id))
    with pytest.raises(LeaseLostError, match="epoch"):
        WRITES[write](store, zombie)
    assert (store.search(search.id), store.events_after(search.id)) == before
    store.finish(owner)


def test_renewal_extends_by_the_database_clock(store: Store) -> None:
    search, lease = claimed(store, ttl_s=1000.0)
    expire(store, search)
    assert store.renew(lease).cancel is False
    assert store.claim("worker-2") is None
    record = store.job(search.id)
    assert record.lease_until is not None
    assert (record.lease_until - record.created).total_seconds() >= 1000.0


def test_renew_reports_what_users_asked(store: Store) -> None:
    search, lease = claimed(store)
    store.pause(search.id)
    assert (store.renew(lease).pause, store.renew(lease).cancel) == (True, False)
    store.cancel(search.id)
    assert store.renew(lease).cancel is True


def test_pause_release_resume_continues_in_a_new_epoch(store: Store) -> None:
    search, lease = claimed(store)
    store.pause(search.id)
    store.release(lease, JobState.PAUSED)
    assert store.search(search.id).state is JobState.PAUSED
    assert store.claim("w") is None
    assert store.resume(search.id).state is JobState.QUEUED
    again = store.claim("w")
    assert again is not None
    assert (again.epoch, store.renew(again).pause) == (2, False)


def test_cancellation_of_a_lost_worker_is_settled_by_the_sweep(store: Store) -> None:
    search, _ = claimed(store)
    store.cancel(search.id)
    expire(store, search)
    assert store.sweep() == 1
    assert store.search(search.id).state is JobState.CANCELLED


def test_poison_job_fails_after_its_attempts(store: Store) -> None:
    search, _ = claimed(store)
    for _ in range(MAX_ATTEMPTS - 1):
        expire(store, search)
        assert store.claim("w") is not None
    expire(store, search)
    assert store.claim("w") is None
    record = store.search(search.id)
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert (record.error["reason"], record.attempts) == ("poison", MAX_ATTEMPTS)


def test_retry_counts_attempts_and_then_fails(store: Store) -> None:
    job = store.enqueue("export", {})
    for attempt in range(1, MAX_ATTEMPTS + 1):
        lease = store.claim("w")
        assert lease is not None
        state = store.fail(lease, {"message": "no"}, retry=True).state
        assert state is (JobState.FAILED if attempt == MAX_ATTEMPTS else JobState.QUEUED)
    assert store.job(job.id).error == {"message": "no", "reason": "poison", "attempts": MAX_ATTEMPTS}


def test_reclaim_all_frees_what_other_workers_held(store: Store) -> None:
    search, _ = claimed(store, ttl_s=10_000.0)
    assert store.claim("owner") is None
    assert store.reclaim_all("owner") == 1
    lease = store.claim("owner")
    assert lease is not None
    assert lease.job_id == search.id


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_terminal_job_refuses_every_request(store: Store, action: str) -> None:
    search, lease = claimed(store)
    store.finish(lease)
    before = store.search(search.id)
    with pytest.raises(Conflict, match="succeeded"):
        getattr(store, action)(search.id)
    with pytest.raises(LeaseLostError):
        store.fail(lease, {})
    assert store.search(search.id) == before


def test_unknown_ids_are_not_found(store: Store) -> None:
    for call in (store.job, store.search, store.cancel, store.front, store.points, store.artifact, store.device):
        with pytest.raises(NotFound, match="nowhere"):
            call("nowhere")


def test_cancel_racing_completion_exactly_one_wins(store: Store) -> None:
    for _ in range(10):
        search = store.create_search(new_search())
        lease = store.claim("w", job_id=search.id)
        assert lease is not None
        barrier = threading.Barrier(2)
        outcome: list[str] = []

        def run(name: str, call, barrier=barrier, outcome=outcome) -> None:
            barrier.wait()
            try:
                call()
                outcome.append(name)
            except Conflict:
                outcome.append(f"{name} refused")

        def cancel_then_release(search=search, lease=lease) -> None:
            store.cancel(search.id)
            try:
                store.release(lease, JobState.CANCELLED)
            except LeaseLostError:
                raise Conflict("release", "lost", ()) from None

        def finish(lease=lease) -> None:
            try:
                store.finish(lease)
            except LeaseLostError:
                raise Conflict("finish", "lost", ()) from None

        threads = [
            threading.Thread(target=run, args=("cancel", cancel_then_release)),
            threading.Thread(target=run, args=("finish", finish)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [name for name in outcome if "refused" not in name]
        expected = {"cancel": JobState.CANCELLED, "finish": JobState.SUCCEEDED}
        assert len(winners) == 1
        assert store.search(search.id).state is expected[winners[0]]


CLAIMER = """
import sys
from pathlib import Path
from archsmith.service.store.store import Store
store = Store(sys.argv[1], Path(sys.argv[2]))
while (lease := store.claim(sys.argv[3])) is not None:
    store.finish(lease)
    print(lease.job_id, lease.epoch)
"""


def test_eight_processes_claim_every_job_once(store: Store, database_url: str, tmp_path: Path) -> None:
    ids = {store.enqueue("export", {"n": number}).id for number in range(60)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, database_url, str(tmp_path / "artifacts"), f"w{number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    lines = [line for worker in workers for line in worker.communicate()[0].splitlines()]
    assert [worker.returncode for worker in workers] == [0] * 8
    assert sorted(line.split()[0] for line in lines) == sorted(ids)
    assert {line.split()[1] for line in lines} == {"1"}
    assert {job.state for job in store.jobs(limit=100)} == {JobState.SUCCEEDED}
