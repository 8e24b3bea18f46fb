"""Measuring tasks on both databases: done once, fenced like every job, and never in the way of searches."""

from __future__ import annotations

import pytest

from archsmith.errors import LeaseLostError
from archsmith.service.store.device_tasks import NewTask
from archsmith.service.store.faults import Conflict, NotFound
from archsmith.service.store.records import JobKind, JobState
from archsmith.service.store.store import Store

from .samples import claimed, expire

RESULT = {"latency_ms": 1.0, "reference_ms": 0.5}


def task(key: str, threads: int = 1) -> NewTask:
    return NewTask(key=key, model={"data": key, "fills": []}, timing={"threads": threads})


@pytest.fixture
def board(store: Store) -> str:
    store.tasks.hello("board", {"runtime": "onnxruntime 1"})
    return "board"


def test_key_is_queued_once(store: Store, board: str) -> None:
    assert store.tasks.submit(board, [task("a"), task("b"), task("a")]) == 2
    assert store.tasks.submit(board, [task("b"), task("c")]) == 1
    assert [one.key for one in store.tasks.open(board)] == ["a", "b", "c"]
    assert store.tasks.counts(board) == {JobState.QUEUED: 3}
    with pytest.raises(NotFound):
        store.tasks.submit("nobody", [task("a")])


def test_agents_get_different_tasks_of_their_own_device(store: Store, board: str) -> None:
    store.tasks.hello("phone", {})
    store.tasks.submit(board, [task("a"), task("b")])
    first, second = (store.tasks.claim(board, f"agent-{number}", 60.0) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert [first[1].key, second[1].key] == ["a", "b"]
    assert first[1].model == {"data": "a", "fills": []}
    assert store.tasks.claim(board, "agent-3", 60.0) is None
    assert not store.tasks.waiting(board)
    assert not store.tasks.waiting("phone")


def test_lost_lease_stores_nothing(store: Store, board: str) -> None:
    store.tasks.submit(board, [task("a")])
    old = store.tasks.claim(board, "agent-1", 60.0)
    assert old is not None
    expire(store, old[0].job_id)
    assert store.tasks.waiting(board)
    new = store.tasks.claim(board, "agent-2", 60.0)
    assert new is not None
    with pytest.raises(LeaseLostError):
        store.tasks.finish(old[0], RESULT)
    store.tasks.finish(new[0], RESULT)
    with pytest.raises(LeaseLostError):
        store.tasks.finish(new[0], RESULT | {"latency_ms": 2.0})
    found = store.tasks.find(board, ["a", "other"])
    assert list(found) == ["a"]
    assert (found["a"].result, found["a"].state) == (RESULT, JobState.SUCCEEDED)
    assert store.tasks.open(board) == []


def test_expired_lease_still_counts_until_someone_else_claims(store: Store, board: str) -> None:
    """A result that was measured while the server was away for long is not thrown away for nothing."""
    store.tasks.submit(board, [task("a")])
    held = store.tasks.claim(board, "agent-1", 60.0)
    assert held is not None
    expire(store, held[0].job_id)
    store.tasks.finish(held[0], RESULT)
    assert store.tasks.find(board, ["a"])["a"].result == RESULT


def test_new_owner_of_the_store_leaves_agents_their_leases(store: Store, board: str) -> None:
    _, search = claimed(store)
    store.tasks.submit(board, [task("a")])
    held = store.tasks.claim(board, "agent-1", 60.0)
    assert held is not None
    assert store.reclaim_all("owner") == 1
    assert not store.tasks.waiting(board)
    assert store.claim("worker-2", job_id=search.job_id) is not None


def test_worker_never_claims_a_task_and_lists_leave_them_out(store: Store, board: str) -> None:
    store.tasks.submit(board, [task("a")])
    assert store.claim("worker", kinds=(JobKind.SEARCH,)) is None
    assert store.jobs() == []
    assert [job.kind for job in store.jobs(kind=JobKind.MEASUREMENT)] == ["measurement"]
    assert store.counts().queued == 0


def test_task_that_kills_its_agents_is_given_up(store: Store, board: str) -> None:
    store.tasks.submit(board, [task("a")])
    for _ in range(5):
        held = store.tasks.claim(board, "agent", 60.0)
        assert held is not None
        expire(store, held[0].job_id)
    assert store.tasks.claim(board, "agent", 60.0) is None
    found = store.tasks.find(board, ["a"])["a"]
    assert found.state is JobState.FAILED
    assert found.error is not None
    assert found.error["reason"] == "poison"
    assert store.tasks.submit(board, [task("a")]) == 0
    assert store.tasks.forget_failed(board) == 1
    assert store.tasks.submit(board, [task("a")]) == 1


def test_result_from_a_file_is_taken_once(store: Store, board: str) -> None:
    store.tasks.submit(board, [task("a"), task("b"), task("c")])
    a, b, c = (one.id for one in store.tasks.open(board))
    store.tasks.take(board, a, worker="file", result=RESULT)
    with pytest.raises(Conflict):
        store.tasks.take(board, a, worker="file", result=RESULT)
    with pytest.raises(NotFound):
        store.tasks.take("phone", b, worker="file", result=RESULT)
    held = store.tasks.claim(board, "agent", 60.0)
    assert held is not None
    with pytest.raises(Conflict):
        store.tasks.take(board, b, worker="file", result=RESULT)
    store.tasks.take(board, c, worker="file", result=None, message="no such kernel")
    assert (store.tasks.find(board, ["c"])["c"].error or {})["message"] == "no such kernel"


def test_probe_is_ready_when_its_device_has_nothing_left(store: Store, board: str) -> None:
    store.tasks.hello("phone", {})
    waiting = store.enqueue(JobKind.PROBE, {"device": board})
    store.tasks.submit(board, [task("a")])
    assert store.tasks.ready_probe() is None
    other = store.enqueue(JobKind.PROBE, {"device": "phone"})
    assert store.tasks.ready_probe() == other.id
    assert store.claim("worker", job_id=other.id) is not None
    assert store.tasks.ready_probe() is None
    held = store.tasks.claim(board, "agent", 60.0)
    assert held is not None
    store.tasks.finish(held[0], RESULT)
    assert store.tasks.ready_probe() == waiting.id


def test_cancel_ends_tasks_and_probes_of_one_device(store: Store, board: str) -> None:
    store.tasks.hello("phone", {})
    probe = store.enqueue(JobKind.PROBE, {"device": board})
    store.tasks.submit(board, [task("a"), task("b")])
    store.tasks.submit("phone", [task("a")])
    held = store.tasks.claim(board, "agent", 60.0)
    assert held is not None
    assert store.tasks.cancel(board) == 3
    assert store.job(probe.id).state is JobState.CANCELLED
    assert store.renew(held[0]).cancel
    assert store.tasks.find(board, ["b"])["b"].state is JobState.CANCELLED
    assert store.tasks.counts("phone") == {JobState.QUEUED: 1}


def test_first_result_and_models_are_those_of_the_device(store: Store, board: str) -> None:
    store.tasks.submit(board, [task("a", threads=2), task("b"), task("c")])
    for number in range(3):
        held = store.tasks.claim(board, "agent", 60.0)
        assert held is not None
        store.tasks.finish(held[0], RESULT | {"reference_ms": float(number + 1)})
    first = store.tasks.first_result(board, 1)
    assert first is not None
    assert (first.result or {})["reference_ms"] == 2.0
    job = store.enqueue(JobKind.PROBE, {"device": board})
    lease = store.claim("worker", job_id=job.id)
    assert lease is not None
    for identity in ("lookup-1", "lookup-2"):
        store.put_stored("cost_model", identity, summary={"identity": identity})
        store.tasks.keep_model(lease, board, "space-1", identity)
    assert [model.summary["identity"] for model in store.tasks.models(board)] == ["lookup-2"]


def test_agent_is_heard_of(store: Store, board: str) -> None:
    record = store.device(board)
    assert record.agent == {"runtime": "onnxruntime 1"}
    assert record.silent_s is not None
    assert record.silent_s < 60.0
    store.tasks.hello(board)
    assert store.device(board).agent == {"runtime": "onnxruntime 1"}
    assert store.put_device("silent", {}).silent_s is None
