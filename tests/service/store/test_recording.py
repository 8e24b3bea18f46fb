"""Trials, fronts and checkpoints: nothing lost, nothing twice, and the front always the recomputed one."""

from __future__ import annotations

import numpy as np
import pytest
from service.store.samples import batch, checkpoint, claimed, new_search, random_batch
from sqlalchemy import event

from archsmith.errors import StoreError
from archsmith.search.pareto import hypervolume, nondominated_mask
from archsmith.search.strategy import TrialStatus
from archsmith.service.store.faults import Conflict, NotFound
from archsmith.service.store.records import FrontView, JobState, MetricRecord, TrialState, VerifiedMember
from archsmith.service.store.store import Store


def test_trials_and_checkpoint_come_back_as_stored(store: Store) -> None:
    search, lease = claimed(store)
    first = random_batch(5, 1)
    assert store.record_trials(lease, first, checkpoint(1)) == (0, 1, 2, 3, 4)
    assert store.record_trials(lease, random_batch(2, 2), checkpoint(2)) == (5, 6)
    kept = store.checkpoint(search.id)
    assert kept is not None
    assert kept.state.scalars == checkpoint(2).state.scalars
    np.testing.assert_array_equal(kept.state.arrays["population"], np.full((2, 3), 2))
    everything = store.trial_batch(search.id)
    assert everything is not None
    np.testing.assert_array_equal(everything.genomes[:5], first.genomes)
    np.testing.assert_array_equal(everything.values[:5], first.values)
    assert store.search(search.id).n_trials == 7


def test_infeasible_failed_and_cheap_trials_join_no_front(store: Store) -> None:
    search, lease = claimed(store)
    values = np.array([[0.1, 0.1], [np.nan, np.nan], [0.5, 0.5]])
    violations = np.array([[0.2], [np.inf], [0.0]])
    status = np.array([TrialStatus.OK, TrialStatus.FAILED, TrialStatus.OK])
    store.record_trials(lease, batch(values, violations=violations, status=status))
    assert store.front(search.id).numbers.tolist() == [2]
    states = [trial.state for trial in store.trials(search.id)]
    assert states == [TrialState.INFEASIBLE, TrialState.FAILED, TrialState.SUCCEEDED]
    record = store.search(search.id)
    assert (record.n_trials, record.n_failed) == (3, 1)
    assert [trial.number for trial in store.trials(search.id, feasible=False)] == [0, 1]
    assert store.trial(search.id, 1).values == (None, None)


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_front_equals_recomputed_front(store: Store, n_objectives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    search, lease = claimed(store, n_objectives=n_objectives)
    for _ in range(8):
        size = int(rng.integers(1, 12))
        values = rng.integers(0, 6, (size, n_objectives)) / 6  # a coarse grid, so that equal points occur
        store.record_trials(lease, batch(values, violations=rng.integers(0, 2, (size, 1)).astype(float)))
    points, front = store.points(search.id), store.front(search.id)
    feasible = np.flatnonzero(points.feasible)
    expected = feasible[nondominated_mask(points.values[feasible])]
    np.testing.assert_array_equal(front.numbers, expected)
    np.testing.assert_array_equal(front.values, points.values[expected])
    assert front.hypervolume == pytest.approx(hypervolume(front.values, np.ones(n_objectives)))
    alive: set[int] = set()
    for entry in store.front_history(search.id):
        assert set(entry.removed) <= alive
        alive = (alive - set(entry.removed)) | set(entry.added)
    assert sorted(alive) == expected.tolist()
    assert front.version == store.front_history(search.id)[-1].version


def test_a_refused_batch_leaves_nothing_behind(store: Store) -> None:
    search, lease = claimed(store)
    store.record_trials(lease, random_batch(3, 1), checkpoint(1))
    before = (store.search(search.id), store.events_after(search.id))
    broken = checkpoint(2)
    broken.state.scalars["bad"] = float("nan")  # type: ignore[index]
    with pytest.raises(StoreError, match="JSON"):
        store.record_trials(lease, batch(np.zeros((2, 2))), broken)
    with pytest.raises(StoreError, match="expected"):
        store.record_trials(lease, random_batch(3, 1, n_objectives=3))
    assert (store.search(search.id), store.events_after(search.id)) == before
    assert len(store.trials(search.id)) == 3


def test_verification_is_kept_beside_the_believed_values(store: Store) -> None:
    search, lease = claimed(store)
    store.record_trials(lease, batch(np.array([[0.1, 0.9], [0.9, 0.1], [0.5, 0.5]])))
    model = store.add_artifact(b"model", name="model.onnx", media_type="application/octet-stream")
    metric = MetricRecord(quantity="latency_ms", device="host", value=1.5, spread=0.1, source="measured:onnxruntime")
    members = [
        VerifiedMember(trial_number=0, values=(0.2, 0.8), metrics=(metric,), artifacts={"model.onnx": model.id}),
        VerifiedMember(trial_number=2, values=(0.3, 0.9)),
        VerifiedMember(trial_number=1, values=None),
    ]
    store.record_verification(lease, members)
    version = store.search(search.id).front_version
    store.record_verification(lease, members)
    assert store.search(search.id).front_version == version
    verified = store.front(search.id, FrontView.VERIFIED)
    assert (verified.numbers.tolist(), verified.values.tolist()) == ([0], [[0.2, 0.8]])
    assert store.front(search.id).numbers.tolist() == [0, 1, 2]
    trial = store.trial(search.id, 0)
    assert trial.metrics == (metric,)
    assert [link.artifact for link in trial.artifacts] == [model]
    assert store.artifact_path(model.id).read_bytes() == b"model"
    with pytest.raises(NotFound):
        store.record_verification(lease, [VerifiedMember(trial_number=9, values=None)])


def test_events_resume_exactly(store: Store) -> None:
    search, lease = claimed(store)
    store.set_stage(lease, "search")
    store.record_trials(lease, random_batch(3, 1))
    everything = store.events_after(search.id)
    assert [entry.kind for entry in everything] == ["state", "state", "stage", "front", "trials"]
    assert [entry.id for entry in everything] == sorted({entry.id for entry in everything})
    assert store.events_after(search.id, everything[2].id) == everything[3:]


def test_pages_meet_and_do_not_overlap(store: Store) -> None:
    search, lease = claimed(store)
    store.record_trials(lease, random_batch(25, 1))
    seen: list[int] = []
    while page := store.trials(search.id, limit=10, after=seen[-1] if seen else -1):
        seen += [trial.number for trial in page]
    assert seen == list(range(25))
    names = [store.create_search(new_search(f"s{number}")).name for number in range(3)]
    assert [record.name for record in store.searches(limit=2)] == names[:0:-1]
    assert [record.number for record in store.searches(before=2)] == [1]


def test_reference_is_set_once_before_the_first_trial(store: Store) -> None:
    search, lease = claimed(store, reference=None)
    store.set_reference(lease, (2.0, 2.0))
    store.set_reference(lease, (2.0, 2.0))
    with pytest.raises(StoreError, match="set once"):
        store.set_reference(lease, (3.0, 3.0))
    assert store.search(search.id).reference == (2.0, 2.0)


def test_deletion_needs_a_terminal_search(store: Store) -> None:
    search, lease = claimed(store)
    store.record_trials(lease, random_batch(5, 1), checkpoint(1))
    store.points(search.id)
    with pytest.raises(Conflict, match="running"):
        store.delete_search(search.id)
    store.finish(lease)
    store.delete_search(search.id)
    assert store.searches() == []
    with pytest.raises(NotFound):
        store.points(search.id)


def test_paused_export_is_refused_by_the_database_itself(store: Store) -> None:
    job = store.enqueue("export", {})
    with pytest.raises(Conflict, match="only a search"):
        store.pause(job.id)
    assert store.job(job.id).state is JobState.QUEUED


def test_query_counts_do_not_depend_on_trials(store: Store) -> None:
    search, lease = claimed(store)

    def count() -> dict[str, int]:
        counts: dict[str, int] = {}
        calls = {
            "front": lambda: store.front(search.id),
            "front_trials": lambda: store.front_trials(search.id),
            "trials": lambda: store.trials(search.id, limit=500),
            "points": lambda: store.points(search.id),
            "searches": lambda: store.searches(),
            "history": lambda: store.front_history(search.id),
        }
        for name, call in calls.items():
            statements: list[str] = []
            listener = lambda *args, kept=statements: kept.append(args[2])  # noqa: E731
            event.listen(store.database.engine, "before_cursor_execute", listener)
            call()
            event.remove(store.database.engine, "before_cursor_execute", listener)
            counts[name] = len([text for text in statements if text.startswith("SELECT")])
        return counts

    store.record_trials(lease, random_batch(2, 1))
    few = count()
    for seed in range(10):
        store.record_trials(lease, random_batch(40, seed))
    assert count() == few
    assert max(few.values()) <= 4
