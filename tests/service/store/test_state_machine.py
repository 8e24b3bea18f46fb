"""Random sequences of everything that users and workers do to one search, against a model that fits in the head."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from service.store.samples import expire, new_search, random_batch

from archsmith.errors import LeaseLostError
from archsmith.service.store.faults import Conflict
from archsmith.service.store.leases import MAX_ATTEMPTS
from archsmith.service.store.records import TERMINAL, JobState, Lease
from archsmith.service.store.store import Store

PAUSED, QUEUED, RUNNING = JobState.PAUSED, JobState.QUEUED, JobState.RUNNING


class SearchMachine(RuleBasedStateMachine):
    """The model: state, epoch, attempts, requests, trials, whether the lease expired, and every lease given."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(f"sqlite:///{self.folder.name}/store.db", Path(self.folder.name) / "artifacts")
        self.id = self.store.create_search(new_search()).id
        self.state, self.epoch, self.attempts, self.trials = QUEUED, 0, 0, 0
        self.cancel = self.pause = self.expired = False
        self.leases: list[Lease] = []

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def _leave(self, state: JobState) -> None:
        self.state, self.cancel, self.pause, self.expired = state, False, False, False

    def _asked(self) -> JobState:
        return JobState.CANCELLED if self.cancel else PAUSED if self.pause else QUEUED

    def _settle(self) -> None:
        if self.state is RUNNING and self.expired and (self.cancel or self.pause or self.attempts + 1 >= MAX_ATTEMPTS):
            self.attempts += 1
            asked = self._asked()
            self._leave(JobState.FAILED if asked is QUEUED else asked)

    @rule()
    def claim(self) -> None:
        lease = self.store.claim("w")
        self._settle()
        if self.state is QUEUED or (self.state is RUNNING and self.expired):
            self.attempts += self.state is RUNNING
            self.state, self.epoch, self.expired = RUNNING, self.epoch + 1, False
            assert lease is not None
            assert lease.epoch == self.epoch
            self.leases.append(lease)
        else:
            assert lease is None

    @rule()
    def sweep(self) -> None:
        self.store.sweep()
        self._settle()

    @precondition(lambda self: self.state is RUNNING)
    @rule()
    def time_passes(self) -> None:
        expire(self.store, self.id)
        self.expired = True

    def _user(self, call, allowed: bool) -> None:
        try:
            call(self.id)
        except Conflict:
            assert not allowed
        else:
            assert allowed

    @rule()
    def user_cancels(self) -> None:
        self._user(self.store.cancel, self.state in (QUEUED, PAUSED, RUNNING))
        if self.state is RUNNING:
            self.cancel = True
        elif self.state in (QUEUED, PAUSED):
            self._leave(JobState.CANCELLED)

    @rule()
    def user_pauses(self) -> None:
        running = self.state is RUNNING and not self.cancel
        self._user(self.store.pause, running or self.state in (QUEUED, PAUSED))
        if running:
            self.pause = True
        elif self.state is QUEUED:
            self._leave(PAUSED)

    @rule()
    def user_resumes(self) -> None:
        withdraws = self.state is RUNNING and self.pause
        self._user(self.store.resume, withdraws or self.state is PAUSED)
        if withdraws:
            self.pause = False
        elif self.state is PAUSED:
            self._leave(QUEUED)

    def _worker(self, data: st.DataObject, call) -> bool:
        """Whether the call, made with any lease ever given, is expected to succeed and did."""
        lease = data.draw(st.sampled_from(self.leases))
        owns = self.state is RUNNING and lease.epoch == self.epoch
        try:
            call(lease)
        except LeaseLostError:
            assert not owns
            return False
        assert owns
        return True

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def worker_renews(self, data: st.DataObject) -> None:
        if self._worker(data, self.store.renew):
            self.expired = False

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def worker_records(self, data: st.DataObject) -> None:
        if self._worker(data, lambda lease: self.store.record_trials(lease, random_batch(2, self.trials))):
            self.trials += 2

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def worker_finishes(self, data: st.DataObject) -> None:
        if self._worker(data, self.store.finish):
            self._leave(JobState.SUCCEEDED)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), retry=st.booleans())
    def worker_fails(self, data: st.DataObject, retry: bool) -> None:
        if not self._worker(data, lambda lease: self.store.fail(lease, {"message": "no"}, retry=retry)):
            return
        self.attempts += retry
        exhausted = not retry or self.attempts >= MAX_ATTEMPTS
        self._leave(JobState.FAILED if exhausted else self._asked())

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), state=st.sampled_from([QUEUED, PAUSED]))
    def worker_releases(self, data: st.DataObject, state: JobState) -> None:
        if self._worker(data, lambda lease: self.store.release(lease, state)):
            asked = self._asked()
            self._leave(state if asked is QUEUED else asked)

    @invariant()
    def store_and_model_agree(self) -> None:
        job, search = self.store.job(self.id), self.store.search(self.id)
        assert (job.state, job.epoch, job.attempts) == (self.state, self.epoch, self.attempts)
        assert search.n_trials == self.trials == len(self.store.points(self.id))
        assert (job.lease_until is not None) == (self.state is RUNNING)
        assert (job.finished is not None) == (self.state in TERMINAL)
        if self.state is RUNNING:
            asked = (job.cancel_requested_at is not None, job.pause_requested_at is not None)
            assert asked == (self.cancel, self.pause)


SearchMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSearchMachine = SearchMachine.TestCase
