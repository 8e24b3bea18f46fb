"""The store: every public operation on the database and the artifact folder, one transaction each.

What an operation does lives in the sibling modules, as functions of a connection; `Store` decides where a transaction
begins and ends. Writes of a worker take its `Lease` and raise LeaseLostError once another epoch owns the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import StoreError
from . import access, catalogue, evaluations, events, fronts, jobs, leases, recording, results, searches, trials
from .artifacts import ArtifactFiles
from .database import Database
from .device_tasks import DeviceTasks
from .migrate import upgrade
from .points import PointsCache
from .records import (
    ApiKeyRecord,
    ArtifactLink,
    ArtifactRecord,
    CancelMode,
    CurvePoint,
    DeviceRecord,
    EventOverview,
    EventRecord,
    FrontLogEntry,
    FrontRecord,
    FrontView,
    IdempotencyKey,
    JobRecord,
    JobState,
    Json,
    Lease,
    MeasurementRecord,
    NewMeasurement,
    NewSearch,
    Points,
    Requests,
    Role,
    SearchRecord,
    StoreCounts,
    StoredResponse,
    StoredResultRecord,
    StrategyCheckpoint,
    TrialBatch,
    TrialRecord,
    TrialState,
    VerifiedMember,
)

__all__ = ["Store"]


class Store:
    """One database with its artifact folder; safe to share between threads, never between forked processes.

    Use `open`, which also migrates; the constructor alone expects the current schema. Unknown ids raise NotFound,
    illegal transitions Conflict, an unreachable database StoreUnavailable; all are StoreErrors.

    Args:
        url: SQLAlchemy URL, ``sqlite:///path`` or ``postgresql+psycopg://…``.
        artifacts: folder of the content-addressed files.
        quota_bytes: refuse artifacts that would take the folder beyond this; None for no limit.

    Attributes:
        tasks: what devices have to measure, have measured, and the models fitted to it.
    """

    def __init__(self, url: str, artifacts: Path, *, quota_bytes: int | None = None) -> None:
        self.database = Database(url)
        self.files = ArtifactFiles(artifacts, quota_bytes)
        self.tasks = DeviceTasks(self.database)
        self._points = PointsCache()
        self._fronts = fronts.FrontCache()

    @classmethod
    def open(cls, url: str, artifacts: Path, *, quota_bytes: int | None = None) -> Store:
        """Create or migrate the schema to the current version, then return the store."""
        store = cls(url, artifacts, quota_bytes=quota_bytes)
        try:
            upgrade(store.database)
        except StoreError:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close all connections."""
        self.database.dispose()

    def ping(self) -> None:
        """Raise StoreUnavailable unless the database answers."""
        with self.database.read() as conn:
            searches.find_number(conn, 0)

    # Searches

    def create_search(
        self,
        new: NewSearch,
        *,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[SearchRecord], StoredResponse] | None = None,
    ) -> SearchRecord:
        """Store a search as queued. With `idempotency` and `respond`, keep the response in the same transaction.

        A caller first asks `replay`; of two that race here, one gets Conflict: the key is unique.
        """
        with self.database.write() as conn:
            record = searches.create(conn, new)
            if idempotency is not None and respond is not None:
                access.keep_response(conn, idempotency, respond(record))
            return record

    def search(self, search_id: str) -> SearchRecord:
        """The search with this id, or with this number where `search_id` is all digits."""
        with self.database.read() as conn:
            return searches.get(conn, search_id)

    def searches(
        self,
        *,
        limit: int = 50,
        before: int | None = None,
        state: JobState | None = None,
        name: str | None = None,
    ) -> list[SearchRecord]:
        """Newest first; `before` is the `number` of the last one already seen."""
        with self.database.read() as conn:
            return searches.page(conn, limit=limit, before=before, state=state, name=name)

    def delete_search(self, search_id: str) -> None:
        """Remove a terminal search with its trials, fronts, events and artifact links; Conflict in any other state."""
        with self.database.write() as conn:
            searches.delete(conn, search_id)
        self._points.forget(search_id)
        self._fronts.forget(search_id)

    def rename_search(self, search_id: str, name: str, *, expected: str | None = None) -> SearchRecord:
        """Give a search another name; with `expected`, Conflict unless that is its name now."""
        with self.database.write() as conn:
            return searches.rename(conn, search_id, name, expected)

    def counts(self) -> StoreCounts:
        """Searches by state, trials and queued jobs, for metrics."""
        with self.database.read() as conn:
            return searches.counts(conn)

    # Jobs: what users ask

    def enqueue(
        self,
        kind: str,
        payload: Json,
        *,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[JobRecord], StoredResponse] | None = None,
    ) -> JobRecord:
        """Queue a job that is no search (measurement, export…)."""
        with self.database.write() as conn:
            record = jobs.create(conn, kind, payload)
            if idempotency is not None and respond is not None:
                access.keep_response(conn, idempotency, respond(record))
            return record

    def job(self, job_id: str) -> JobRecord:
        """One job; searches are jobs too."""
        with self.database.read() as conn:
            return jobs.get(conn, job_id)

    def jobs(
        self, *, limit: int = 50, before: str | None = None, state: JobState | None = None, kind: str | None = None
    ) -> list[JobRecord]:
        """Newest first; `before` is the id of the last one already seen. Measuring tasks only by their kind."""
        with self.database.read() as conn:
            return jobs.page(conn, limit=limit, before=before, state=state, kind=kind)

    def cancel(self, job_id: str, mode: CancelMode = CancelMode.DRAIN) -> JobRecord:
        """Cancel a queued or paused job at once; ask the worker of a running one to stop (`cancel_requested_at`).

        With `kill` the worker does not finish the batch in hand; asking again may turn `drain` into `kill`.
        """
        with self.database.write() as conn:
            return jobs.cancel(conn, job_id, mode)

    def pause(self, job_id: str) -> JobRecord:
        """Pause a queued search at once; ask the worker of a running one (`pause_requested_at`)."""
        with self.database.write() as conn:
            return jobs.pause(conn, job_id)

    def resume(self, job_id: str) -> JobRecord:
        """Queue a paused search again; a pause request that no worker has honoured yet is withdrawn."""
        with self.database.write() as conn:
            return jobs.resume(conn, job_id)

    # Queue: what workers do

    def claim(
        self, worker: str, *, kinds: Sequence[str] = (), job_id: str | None = None, ttl_s: float = leases.TTL_S
    ) -> Lease | None:
        """Lease the oldest queued or abandoned job (of these kinds, or exactly this one), or None."""
        with self.database.write() as conn:
            leases.sweep(conn)
            return leases.claim(conn, worker, kinds=kinds, job_id=job_id, ttl_s=ttl_s)

    def renew(self, lease: Lease) -> Requests:
        """Extend the lease to its full time from now and report what users asked; call every third of `ttl_s`."""
        with self.database.write() as conn:
            return leases.renew(conn, lease)

    def finish(self, lease: Lease) -> None:
        """The work is done: `succeeded`."""
        with self.database.write() as conn:
            leases.close(conn, lease, JobState.SUCCEEDED)

    def fail(self, lease: Lease, error: Json, *, retry: bool = False) -> JobRecord:
        """The work failed: `failed`, or with `retry` queued again until the attempts are used up (then ``poison``)."""
        with self.database.write() as conn:
            return leases.fail(conn, lease, error, retry=retry)

    def release(self, lease: Lease, state: JobState) -> None:
        """Stop working: `cancelled` or `paused` (as was asked), or `queued` to hand over, e.g. on shutdown."""
        with self.database.write() as conn:
            leases.release(conn, lease, state)

    def sweep(self) -> int:
        """Settle expired leases (cancelled if asked to, failed at the attempts' cap); how many. `claim` does it too."""
        with self.database.write() as conn:
            return leases.sweep(conn)

    def reclaim_all(self, owner: str) -> int:
        """Expire every lease at once; only for the exclusive owner of an embedded store, who knows no worker lives."""
        with self.database.write() as conn:
            return leases.reclaim_all(conn, owner)

    # What a worker records

    def record_trials(
        self,
        lease: Lease,
        batch: TrialBatch,
        checkpoint: StrategyCheckpoint | None = None,
        *,
        reference: Sequence[float] | None = None,
    ) -> tuple[int, ...]:
        """Store trials, merge the believed front, and keep the checkpoint that has consumed them: all or nothing.

        With `reference` the hypervolume's reference point is fixed first, as by `set_reference`. Returns the trial
        numbers, consecutive in the order of the batch.
        """
        with self.database.write() as conn:
            return recording.record_trials(conn, lease, batch, checkpoint, reference)

    def record_verification(self, lease: Lease, members: Sequence[VerifiedMember]) -> None:
        """Store front members' measured values and artifacts, merge the verified front; repeating changes nothing."""
        with self.database.write() as conn:
            recording.record_verification(conn, lease, members)

    def record_report(self, lease: Lease, report: Json) -> None:
        """Replace the search's report by `report`."""
        with self.database.write() as conn:
            recording.record_report(conn, lease, report)

    def set_reference(self, lease: Lease, reference: Sequence[float]) -> None:
        """Fix the hypervolume's reference point (minimised), once; setting the same again changes nothing."""
        with self.database.write() as conn:
            recording.set_reference(conn, lease, reference)

    def set_stage(self, lease: Lease, stage: str, *, reused: bool = False) -> None:
        """A stage begins, or was found in the store."""
        with self.database.write() as conn:
            recording.set_stage(conn, lease, stage, reused=reused)

    def set_progress(self, lease: Lease, stage: str, done: float, total: float, message: str = "") -> None:
        """Progress of a stage in its own units; appends an event, so call it a few times per second at most."""
        with self.database.write() as conn:
            recording.set_progress(conn, lease, stage, {"done": done, "total": total, "message": message})

    def record_event(self, lease: Lease, kind: str, data: Json) -> int:
        """Append to the search's event log; returns the event's id."""
        with self.database.write() as conn:
            leases.fence(conn, lease)
            return events.append(conn, lease.job_id, kind, data)

    def checkpoint(self, search_id: str) -> StrategyCheckpoint | None:
        """What was stored with the last trials, or None."""
        with self.database.read() as conn:
            return recording.checkpoint(conn, search_id)

    # Trials and fronts

    def trial(self, search_id: str, number: int) -> TrialRecord:
        """One trial with its metrics and artifacts."""
        with self.database.read() as conn:
            return trials.get(conn, search_id, number)

    def trials(
        self,
        search_id: str,
        *,
        limit: int = 50,
        after: int = -1,
        state: TrialState | None = None,
        feasible: bool | None = None,
        on_front: FrontView | None = None,
    ) -> list[TrialRecord]:
        """By number, ascending; `after` is the last number already seen (numbers start at 0)."""
        with self.database.read() as conn:
            searches.get(conn, search_id)
            return trials.page(
                conn, search_id, limit=limit, after=after, state=state, feasible=feasible, on_front=on_front
            )

    def trial_batch(self, search_id: str) -> TrialBatch | None:
        """All trials of a search as one batch in order of number, e.g. to resume it; None while there are none."""
        with self.database.read() as conn:
            return trials.batch(conn, searches.get(conn, search_id))

    def points(self, search_id: str) -> Points:
        """All trials as numeric columns; cached, so that a repeated call reads only what is new."""
        with self.database.read() as conn:
            return self._points.read(conn, searches.get(conn, search_id))

    def front(self, search_id: str, view: FrontView = FrontView.BELIEVED) -> FrontRecord:
        """The front as kept in its table; cached until its version changes, with read-only arrays."""
        with self.database.read() as conn:
            return self._fronts.read(conn, search_id, view)

    def front_trials(self, search_id: str, view: FrontView = FrontView.BELIEVED) -> list[TrialRecord]:
        """The front's trials with metrics and artifacts, by number, in a fixed number of queries."""
        with self.database.read() as conn:
            return trials.of_front(conn, search_id, view)

    def front_history(
        self, search_id: str, view: FrontView = FrontView.BELIEVED, *, after: int = -1, limit: int = 10_000
    ) -> list[FrontLogEntry]:
        """How the front grew, by version; `after` is the last version already seen."""
        with self.database.read() as conn:
            return fronts.history(conn, search_id, view, after=after, limit=limit)

    def front_curve(
        self, search_id: str, view: FrontView = FrontView.BELIEVED, *, points: int = 1000
    ) -> list[CurvePoint]:
        """Hypervolume over trials from begin to end in about `points` entries, to be drawn."""
        with self.database.read() as conn:
            return fronts.curve(conn, search_id, view, points)

    # Events

    def event_overview(self, search_id: str) -> EventOverview:
        """A search's log in brief: its last events, its stages, and failures by cause."""
        with self.database.read() as conn:
            return events.overview(conn, search_id)

    def events_after(self, search_id: str, after: int = 0, limit: int = 500) -> list[EventRecord]:
        """A search's events with an id above `after`, in order."""
        with self.database.read() as conn:
            return events.after(conn, search_id, after, limit)

    # Stored results and artifacts

    def get_stored(self, kind: str, identity: str) -> StoredResultRecord | None:
        """A supernet, cost model, standalone training… computed before for the same inputs, or None."""
        with self.database.read() as conn:
            return results.get(conn, kind, identity)

    def put_stored(
        self,
        kind: str,
        identity: str,
        *,
        summary: Json,
        files: Mapping[str, str] | None = None,
        lease: Lease | None = None,
    ) -> StoredResultRecord:
        """Keep a result; `files` maps path within it to artifact id. The first one stored under an identity stays."""
        with self.database.write() as conn:
            if lease is not None:
                leases.fence(conn, lease)
            return results.put(conn, kind, identity, summary=summary, files=files or {})

    def evaluated(self, recipe: str, keys: Sequence[str], *, seed: int, fidelity: float = 1.0) -> dict[str, float]:
        """What these architectures were worth by this recipe before, by key; those never evaluated are left out."""
        with self.database.read() as conn:
            return evaluations.known(conn, recipe, keys, fidelity=fidelity, seed=seed)

    def keep_evaluated(
        self, lease: Lease, recipe: str, values: Mapping[str, float], *, seed: int, fidelity: float = 1.0
    ) -> None:
        """Remember values by architecture key, so that no search evaluates them again; the first one stays."""
        with self.database.write() as conn:
            leases.fence(conn, lease)
            evaluations.keep(conn, recipe, values, fidelity=fidelity, seed=seed)

    def add_artifact(self, source: Path | bytes, *, name: str, media_type: str) -> ArtifactRecord:
        """Copy a file (or bytes) into the artifact folder, durably, and register it; equal content is stored once."""
        digest, size = self.files.add(source)
        with self.database.write() as conn:
            return results.register(conn, sha256=digest, size=size, name=name, media_type=media_type)

    def artifact(self, artifact_id: str) -> ArtifactRecord:
        """One artifact's record."""
        with self.database.read() as conn:
            return results.artifact(conn, artifact_id)

    def artifact_path(self, artifact_id: str) -> Path:
        """Where the artifact's content lies; raises StoreError if the file is gone. Never modify it."""
        return self.files.path(self.artifact(artifact_id).sha256)

    def link_artifact(self, lease: Lease, role: str, artifact_id: str, *, trial_number: int | None = None) -> None:
        """Attach an artifact to a search or one of its trials; a role holds one artifact, the latest."""
        with self.database.write() as conn:
            leases.fence(conn, lease)
            results.link(conn, lease.job_id, role, artifact_id, trial_number=trial_number)

    def search_artifacts(self, search_id: str) -> list[ArtifactLink]:
        """All artifacts of a search and its trials."""
        with self.database.read() as conn:
            searches.get(conn, search_id)
            return results.links(conn, search_id)

    # Devices

    def put_device(self, name: str, description: Json) -> DeviceRecord:
        """Create a device or replace its description."""
        with self.database.write() as conn:
            return catalogue.put_device(conn, name, description)

    def device(self, name: str) -> DeviceRecord:
        """One device."""
        with self.database.read() as conn:
            return catalogue.device(conn, name)

    def devices(self) -> list[DeviceRecord]:
        """All devices by name."""
        with self.database.read() as conn:
            return catalogue.devices(conn)

    def add_measurements(self, device: str, measurements: Sequence[NewMeasurement]) -> None:
        """Append what was observed on a device."""
        with self.database.write() as conn:
            catalogue.add_measurements(conn, device, measurements)

    def measurements(
        self, device: str, *, quantity: str | None = None, after: int = 0, limit: int = 500
    ) -> list[MeasurementRecord]:
        """A device's measurements by id; `after` is the last id already seen."""
        with self.database.read() as conn:
            return catalogue.measurements(conn, device, quantity=quantity, after=after, limit=limit)

    # Access

    def replay(self, key: IdempotencyKey) -> StoredResponse | None:
        """The response first given under this key, or None; IdempotencyMismatch if the body differs."""
        with self.database.read() as conn:
            return access.replay(conn, key)

    def expire_idempotency(self, days: float = 7.0) -> int:
        """Forget keys older than that; how many."""
        with self.database.write() as conn:
            return access.expire(conn, days)

    def create_api_key(
        self, *, name: str, role: Role, digest: str, key_id: str | None = None, device: str | None = None
    ) -> ApiKeyRecord:
        """Keep a key's digest; the secret is the caller's to show once."""
        with self.database.write() as conn:
            return access.create_key(conn, name=name, role=role, digest=digest, key_id=key_id, device=device)

    def api_key(self, key_id: str) -> ApiKeyRecord:
        """One key, revoked or not."""
        with self.database.read() as conn:
            return access.get_key(conn, key_id)

    def api_keys(self) -> list[ApiKeyRecord]:
        """All keys, oldest first."""
        with self.database.read() as conn:
            return access.list_keys(conn)

    def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        """Make a key useless from now on; repeating it changes nothing."""
        with self.database.write() as conn:
            return access.revoke_key(conn, key_id)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
