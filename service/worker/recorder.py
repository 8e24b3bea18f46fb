"""The recorder of the service: what the pipeline tells goes into the store, fenced by the lease."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...search.pipeline.contracts import Checkpoint, Stage, VerifiedMember
from ...search.strategy import Results, StrategyState
from ...spaces.digest import hex_digest
from ...spaces.space import SearchSpace
from ..store import records
from ..store.records import Lease, MetricRecord, StrategyCheckpoint, TrialBatch
from ..store.store import Store
from .heartbeat import Heartbeat
from .results import media_type

__all__ = ["DatabaseRecorder", "results_of"]

PROGRESS_EVERY_S: Final = 0.5
"""A stage's progress is stored at most this often, and when it ends."""


class DatabaseRecorder:
    """Writes what one run of the pipeline tells into the store.

    Args:
        store: where to.
        lease: of the search's job; every write is refused once it is lost.
        space: the search's space, for keys and parameter counts.
        heartbeat: knows when to stop.
    """

    def __init__(self, store: Store, lease: Lease, space: SearchSpace, heartbeat: Heartbeat) -> None:
        self._store = store
        self._lease = lease
        self._space = space
        self._heartbeat = heartbeat
        self._stage = Stage.PREPARE
        self._last_progress = 0.0
        self._spent = (0.0, 0.0)
        self._reference: list[float] | None = None
        self._artifacts: dict[tuple[int, str], str] = {}

    def stage(self, stage: Stage, *, reused: bool = False) -> None:
        """A stage begins."""
        self._stage = stage
        self._last_progress = 0.0
        self._store.set_stage(self._lease, stage, reused=reused)

    def progress(self, done: float, total: float, message: str) -> None:
        """Progress of the current stage, thinned out."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_EVERY_S or done >= total:
            self._last_progress = now
            self._store.set_progress(self._lease, self._stage, float(done), float(total), message)

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        """Append to the event log."""
        self._store.record_event(self._lease, kind, dict(data))

    def checkpoint(self) -> Checkpoint | None:
        """What earlier runs of this search recorded."""
        search_id = self._lease.job_id
        kept = self._store.checkpoint(search_id)
        batch = self._store.trial_batch(search_id)
        if kept is None or batch is None:
            return None
        reference = self._store.search(search_id).reference
        return Checkpoint(
            results=results_of(batch),
            state=kept.state,
            seconds=kept.seconds,
            watt_hours=kept.watt_hours,
            reference=None if reference is None else np.array(reference),
        )

    def spend(self, seconds: float, watt_hours: float) -> None:
        """Remember what was spent; it is stored with the next results."""
        self._spent = (seconds, watt_hours)

    def reference(self, reference: NDArray[np.float64]) -> None:
        """Remember the reference point; it is fixed in the transaction that stores the next results."""
        self._reference = reference.tolist()

    def results(self, results: Results, state: StrategyState) -> None:
        """Store trials, front and checkpoint in one transaction."""
        space = self._space
        batch = TrialBatch(
            genomes=results.genomes,
            keys=tuple(hex_digest(key) for key in space.keys(results.genomes)),
            values=results.values,
            violations=results.violations,
            fidelity=results.fidelity,
            cost_s=results.cost_s,
            status=results.status,
            sources=results.sources,
            params=space.params(results.genomes),
            macs=space.macs(results.genomes),
            choices=tuple(dict(space.decode(row).choices) for row in results.genomes),
            errors=results.errors,
        )
        seconds, watt_hours = self._spent
        checkpoint = StrategyCheckpoint(state=state, seconds=seconds, watt_hours=watt_hours)
        self._store.record_trials(self._lease, batch, checkpoint, reference=self._reference)
        self._reference = None

    def verified(self, members: Sequence[VerifiedMember]) -> None:
        """Store verified values, and exported files as artifacts of their trials."""
        self._store.record_verification(self._lease, [self._member(member) for member in members])

    def report(self, report: Mapping[str, object]) -> None:
        """Replace the report."""
        self._store.record_report(self._lease, dict(report))

    def should_stop(self) -> str | None:
        """What the heartbeat knows."""
        return self._heartbeat.reason()

    def _member(self, member: VerifiedMember) -> records.VerifiedMember:
        artifacts = {}
        for role, path in member.files.items():
            if (member.number, role) not in self._artifacts:
                artifact = self._store.add_artifact(path, name=path.name, media_type=media_type(path.name))
                self._artifacts[member.number, role] = artifact.id
            artifacts[role] = self._artifacts[member.number, role]
        metrics = tuple(
            MetricRecord(
                quantity=item.quantity, device=item.device, value=item.value, spread=item.spread, source=item.source
            )
            for item in member.observations
        )
        return records.VerifiedMember(
            trial_number=member.number,
            values=member.values,
            metrics=metrics,
            artifacts=artifacts,
            feasible=member.feasible,
        )


def results_of(batch: TrialBatch) -> Results:
    """Stored trials as the search knew them; causes of failure stay in the store."""
    return Results(
        genomes=batch.genomes,
        values=batch.values,
        violations=batch.violations,
        fidelity=batch.fidelity,
        cost_s=batch.cost_s,
        status=batch.status,
        sources=batch.sources,
    )
