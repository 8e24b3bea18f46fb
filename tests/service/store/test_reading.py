"""What pages and metrics read: counts, curves, overviews and cached fronts stay true and short."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from service.store.samples import batch, claimed, new_search, random_batch

from archsmith.search.strategy import TrialStatus
from archsmith.service.store.faults import Conflict, NotFound
from archsmith.service.store.records import CancelMode, FrontView, IdempotencyKey, JobState, StoredResponse
from archsmith.service.store.store import Store


def test_front_read_again_is_the_same_object_until_it_changes(store: Store) -> None:
    search, lease = claimed(store)
    store.record_trials(lease, batch(np.array([[0.5, 0.5]])))
    first = store.front(search.id)
    assert store.front(search.id) is first
    assert not first.values.flags.writeable
    store.record_trials(lease, batch(np.array([[0.9, 0.9]])))  # dominated: no new version
    assert store.front(search.id) is first
    store.record_trials(lease, batch(np.array([[0.1, 0.9]])))
    assert store.front(search.id).numbers.tolist() == [0, 2]
    assert store.front(search.id, FrontView.VERIFIED).numbers.tolist() == []
    assert store.search(search.id).front_size == 2
    store.finish(lease)
    store.delete_search(search.id)
    with pytest.raises(NotFound):
        store.front(search.id)


def test_points_hold_what_the_trials_hold(store: Store) -> None:
    search, lease = claimed(store)
    values = np.array([[0.5, 0.5], [np.nan, np.nan], [0.2, 0.3]])
    status = np.array([TrialStatus.OK, TrialStatus.FAILED, TrialStatus.OK])
    violations = np.array([[0.0], [np.inf], [0.25]])
    first = batch(values, violations=violations, status=status)
    errors = (None, "OutOfMemory: killed", None)
    store.record_trials(lease, dataclasses.replace(first, macs=np.array([10, 20, 30]), errors=errors))
    store.points(search.id)  # the rest is appended to what is cached
    store.record_trials(lease, dataclasses.replace(random_batch(4, 1), params=None))
    points, trials = store.points(search.id), store.trials(search.id)
    for row, trial in enumerate(trials):
        assert points.numbers[row] == trial.number
        assert points.feasible[row] == trial.feasible
        for name, known in (("params", trial.params), ("macs", trial.macs), ("violation", trial.violation)):
            np.testing.assert_equal(getattr(points, name)[row], np.nan if known is None else float(known))
        np.testing.assert_equal(points.values[row], [np.nan if value is None else value for value in trial.values])
    assert trials[1].error == "OutOfMemory: killed"
    kept = store.trial_batch(search.id)
    assert kept is not None
    assert kept.errors == (*errors, None, None, None, None)
    assert kept.macs is None  # not every trial has them


def test_front_curve_is_thinned_and_keeps_its_end(store: Store) -> None:
    search, lease = claimed(store)
    for step in range(40):
        store.record_trials(lease, batch(np.array([[0.9 - step / 100, 0.5]])))
    history = store.front_history(search.id)
    whole = [(entry.n_trials, entry.hypervolume) for entry in history]
    assert [(point.n_trials, point.hypervolume) for point in store.front_curve(search.id)] == whole
    thin = [(point.n_trials, point.hypervolume) for point in store.front_curve(search.id, points=7)]
    assert 7 <= len(thin) <= 8
    assert thin[-1] == whole[-1]
    assert set(thin) <= set(whole)


def test_event_overview_counts_failures_by_cause(store: Store) -> None:
    search, lease = claimed(store)
    assert store.event_overview(search.id).failures == {}
    store.set_stage(lease, "search")
    for count, reason in ((2, "no memory"), (1, "not finite"), (3, "no memory")):
        store.record_event(lease, "evaluations_failed", {"reason": reason, "count": count})
    for done in range(300):
        store.record_event(lease, "progress" if done % 2 else "trials", {"done": done})
    seen, log = store.event_overview(search.id), store.events_after(search.id)
    assert seen.failures == {"no memory": 5, "not finite": 1}
    assert [event.data["stage"] for event in seen.stages] == ["search"]
    assert seen.last_id == log[-1].id
    assert list(seen.recent) == [event for event in log if event.kind != "progress"][-200:]


def test_cancel_mode_is_kept_reported_and_only_gets_stronger(store: Store) -> None:
    search, lease = claimed(store)
    assert not store.renew(lease).kill
    store.cancel(search.id)
    assert (store.renew(lease).cancel, store.renew(lease).kill) == (True, False)
    store.cancel(search.id, CancelMode.KILL)
    assert store.renew(lease).kill
    store.cancel(search.id, CancelMode.DRAIN)
    assert store.search(search.id).cancel_mode is CancelMode.KILL
    requested = [event.data.get("requested") for event in store.events_after(search.id) if event.kind == "state"]
    assert requested[-2:] == ["cancel", "kill"]
    store.release(lease, JobState.QUEUED)
    assert store.search(search.id).state is JobState.CANCELLED


def test_counts_are_those_of_all_searches(store: Store) -> None:
    assert (store.counts().searches, store.counts().trials, store.counts().queued) == ({}, 0, 0)
    _, lease = claimed(store)
    store.record_trials(lease, random_batch(5, 0))
    store.create_search(new_search())
    store.enqueue("export", {})
    counts = store.counts()
    assert counts.searches == {JobState.RUNNING: 1, JobState.QUEUED: 1}
    assert (counts.trials, counts.queued) == (5, 2)


def test_idempotency_keys_are_forgotten_after_their_days(store: Store) -> None:
    key = IdempotencyKey(principal="p", route="r", key="k", body_sha256="0" * 64)
    store.create_search(new_search(), idempotency=key, respond=lambda _: StoredResponse(status=202, body={}))
    assert store.expire_idempotency(1.0) == 0
    assert store.replay(key) is not None
    assert store.expire_idempotency(0.0) == 1
    assert store.replay(key) is None


def test_rename_refuses_a_name_that_changed_meanwhile(store: Store) -> None:
    search = store.create_search(new_search("one"))
    assert store.rename_search(search.id, "two", expected="one").name == "two"
    with pytest.raises(Conflict):
        store.rename_search(search.id, "three", expected="one")
