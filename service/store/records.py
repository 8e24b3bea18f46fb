"""What the store hands out: frozen domain records. Rows and SQLAlchemy objects never leave this package.

Notation: B rows of a batch, F front members, N trials of a search, G genes, M objectives, C constraints. Objective
values are minimised throughout (directions are converted at the edge). Times are aware UTC datetimes read from the
database's clock. One module although it is long: it is the vocabulary that every caller of the store reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import StoreError
from ...search.strategy import StrategyState, TrialStatus

__all__ = [
    "MAX_OBJECTIVES",
    "TERMINAL",
    "ApiKeyRecord",
    "ArtifactLink",
    "ArtifactRecord",
    "CancelMode",
    "CurvePoint",
    "DeviceRecord",
    "EventOverview",
    "EventRecord",
    "FrontLogEntry",
    "FrontRecord",
    "FrontView",
    "IdempotencyKey",
    "JobKind",
    "JobRecord",
    "JobState",
    "Json",
    "Lease",
    "MeasurementRecord",
    "MetricRecord",
    "NewMeasurement",
    "NewSearch",
    "Points",
    "Requests",
    "Role",
    "SearchRecord",
    "StoreCounts",
    "StoredResponse",
    "StoredResultRecord",
    "StrategyCheckpoint",
    "TrialBatch",
    "TrialRecord",
    "TrialState",
    "VerifiedMember",
]

Json = Mapping[str, Any]
"""A decoded JSON object."""

MAX_OBJECTIVES = 8
"""Objective columns of the trial table."""


class JobState(StrEnum):
    """Where a job (a search is one) stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""States that nothing leaves."""


class JobKind(StrEnum):
    """What a job does; further kinds are plain strings and need no migration."""

    SEARCH = "search"
    MEASUREMENT = "measurement"
    PROBE = "probe"
    EXPORT = "export"


class CancelMode(StrEnum):
    """How a running job is cancelled: `drain` finishes the batch in hand, `kill` stops at once and discards it."""

    DRAIN = "drain"
    KILL = "kill"


class TrialState(StrEnum):
    """How a trial ended; `infeasible` evaluated well but violates a constraint."""

    SUCCEEDED = "succeeded"
    INFEASIBLE = "infeasible"
    FAILED = "failed"
    PRUNED = "pruned"


class FrontView(StrEnum):
    """`believed`: values the search used. `verified`: values measured on retrained members."""

    BELIEVED = "believed"
    VERIFIED = "verified"


class Role(StrEnum):
    """What an API key may do; `device` is for agents, which may measure and nothing else."""

    VIEWER = "viewer"
    DEVICE = "device"
    EDITOR = "editor"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A unit of durable background work.

    Attributes:
        epoch: how often it was claimed; every write of a worker must name the current one.
        attempts: claims that ended with the worker lost; at the cap the job fails with reason ``poison``.
        error: why it failed, e.g. ``{"reason": "poison", "message": ...}``.
    """

    id: str
    kind: str
    state: JobState
    payload: Json
    epoch: int
    attempts: int
    worker: str | None
    lease_until: datetime | None
    cancel_requested_at: datetime | None
    cancel_mode: CancelMode | None
    pause_requested_at: datetime | None
    error: Json | None
    created: datetime
    started: datetime | None
    finished: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on a job until it expires or another epoch begins; `job_id` is a search's id as well."""

    job_id: str
    kind: str
    epoch: int
    worker: str
    ttl_s: float
    attempts: int
    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What users asked of a running job, as `renew` reports it; `kill` is a cancellation that does not wait."""

    cancel: bool
    pause: bool
    kill: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSearch:
    """A validated search to be created.

    Attributes:
        config: the resolved configuration, stored verbatim.
        space: identity of the search space (name, preset, hash…).
        objectives: one object per objective (`name`, `direction`, `device`), at most `MAX_OBJECTIVES`.
        reference: minimised reference point of the hypervolume, or None until `set_reference`.
    """

    name: str
    config: Json
    space: Json
    objectives: tuple[Json, ...]
    constraints: tuple[Json, ...] = ()
    seed: int = 0
    reference: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.objectives) <= MAX_OBJECTIVES:
            raise StoreError(
                f"search {self.name!r}: {len(self.objectives)} objectives; the store keeps 1 to {MAX_OBJECTIVES}."
            )
        if self.reference is not None and len(self.reference) != len(self.objectives):
            raise StoreError(
                f"search {self.name!r}: the reference point has {len(self.reference)} values for "
                f"{len(self.objectives)} objectives; give one per objective, minimised."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """One submitted search with its job's state and its counters.

    Attributes:
        number: 1, 2, 3… within this store.
        progress: per stage, ``{"train": {"done": 3.0, "total": 10.0, "message": "..."}, ...}``.
        front_version: grows with every change of either front view; the fronts' ETag.
        front_size: members of the believed front.
        hypervolume: of the believed front, None without a reference point or front.
        report: what `verify` found, or None so far.
    """

    id: str
    number: int
    name: str
    state: JobState
    config: Json
    space: Json
    objectives: tuple[Json, ...]
    constraints: tuple[Json, ...]
    seed: int
    stage: str | None
    progress: Json
    n_trials: int
    n_failed: int
    front_version: int
    front_size: int
    hypervolume: float | None
    reference: tuple[float, ...] | None
    report: Json | None
    epoch: int
    attempts: int
    worker: str | None
    cancel_requested_at: datetime | None
    cancel_mode: CancelMode | None
    pause_requested_at: datetime | None
    error: Json | None
    created: datetime
    started: datetime | None
    finished: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBatch:
    """Finished evaluations to be stored together.

    Attributes:
        genomes: [B, G] int16, canonical.
        keys: B architecture keys, hexadecimal.
        values: [B, M] float64, minimised; NaN where `status` is not OK.
        violations: [B, C] float64, 0 = satisfied.
        fidelity: [B] float64 in (0, 1].
        cost_s: [B] float64.
        status: [B] int8 of `TrialStatus`.
        sources: one per objective, ``measured:…`` or ``predicted:…``.
        params, macs: [B] int64, or None where not counted.
        errors: B causes of failure, None for a row without one; or None where no cause is known.
        choices: B decoded architectures (gene name → choice), or None.
    """

    genomes: NDArray[np.int16]
    keys: tuple[str, ...]
    values: NDArray[np.float64]
    violations: NDArray[np.float64]
    fidelity: NDArray[np.float64]
    cost_s: NDArray[np.float64]
    status: NDArray[np.int8]
    sources: tuple[str, ...]
    params: NDArray[np.int64] | None = None
    macs: NDArray[np.int64] | None = None
    choices: tuple[Json, ...] | None = None
    errors: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        rows = len(self.genomes)
        columns = {
            "keys": self.keys,
            "values": self.values,
            "violations": self.violations,
            "fidelity": self.fidelity,
            "cost_s": self.cost_s,
            "status": self.status,
            "params": self.params,
            "macs": self.macs,
            "choices": self.choices,
            "errors": self.errors,
        }
        if wrong := {
            name: len(column) for name, column in columns.items() if column is not None and len(column) != rows
        }:
            raise StoreError(f"trial batch: {rows} genomes but {wrong}; every column needs one row per genome.")
        ok = self.status == TrialStatus.OK
        if not (np.isfinite(self.values[ok]).all() and np.isfinite(self.violations[ok]).all()):
            raise StoreError("trial batch: a row with status OK holds NaN or infinity; mark such rows FAILED.")

    def __len__(self) -> int:
        return len(self.genomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyCheckpoint:
    """The strategy's memory after consuming all stored trials, and what had been spent by then."""

    state: StrategyState
    seconds: float = 0.0
    watt_hours: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecord:
    """One quantity of a trial on one device, measured or predicted as `source` says."""

    quantity: str
    device: str | None
    value: float
    spread: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """A stored file, named by the SHA-256 of its content."""

    id: str
    sha256: str
    size: int
    media_type: str
    name: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactLink:
    """An artifact in its role for a search (`trial_number` None) or one of its trials."""

    role: str
    trial_number: int | None
    artifact: ArtifactRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One architecture evaluated at one fidelity; `metrics` and `artifacts` are filled by `Store.trial` only."""

    search_id: str
    number: int
    state: TrialState
    arch_key: str
    genome: tuple[int, ...]
    choices: Json | None
    fidelity: float
    values: tuple[float | None, ...]
    violations: tuple[float | None, ...]
    violation: float | None
    params: int | None
    macs: int | None
    cost_s: float
    sources: tuple[str, ...]
    error: str | None
    epoch: int
    created: datetime
    metrics: tuple[MetricRecord, ...] = ()
    artifacts: tuple[ArtifactLink, ...] = ()

    @property
    def feasible(self) -> bool:
        """True where it succeeded and violates nothing."""
        return self.state is TrialState.SUCCEEDED


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedMember:
    """A front member after retraining and measuring.

    Attributes:
        trial_number: the believed member's trial.
        values: M verified values, minimised, or None where not all are known (it then joins no verified front).
        metrics: every measured value, with spread and source.
        artifacts: artifact id by role.
        feasible: False where a verified value violates a constraint; such a member joins no verified front.
    """

    trial_number: int
    values: tuple[float, ...] | None
    metrics: tuple[MetricRecord, ...] = ()
    artifacts: Mapping[str, str] = field(default_factory=dict)
    feasible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontRecord:
    """The non-dominated feasible trials of a search, by trial number.

    Attributes:
        numbers: [F] int64, ascending.
        values: [F, M] float64, minimised.
        keys: F architecture keys.
    """

    search_id: str
    view: FrontView
    version: int
    hypervolume: float | None
    numbers: NDArray[np.int64]
    values: NDArray[np.float64]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLogEntry:
    """How a front changed: trial numbers that entered and left, and the hypervolume after it."""

    view: FrontView
    version: int
    n_trials: int
    hypervolume: float | None
    added: tuple[int, ...]
    removed: tuple[int, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The hypervolume after that many trials."""

    n_trials: int
    hypervolume: float | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """All trials of a search as columns, in order of number; read-only arrays, shared between callers.

    Attributes:
        numbers: [N] int64.
        values: [N, M] float64, minimised; NaN where missing.
        violation: [N] float64, sum of relative excesses; NaN where the evaluation failed.
        fidelity: [N] float64.
        params, macs: [N] float64; NaN where not counted.
        feasible: [N] bool.
    """

    numbers: NDArray[np.int64]
    values: NDArray[np.float64]
    violation: NDArray[np.float64]
    fidelity: NDArray[np.float64]
    params: NDArray[np.float64]
    macs: NDArray[np.float64]
    feasible: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResultRecord:
    """A stage's output under its identity; `files` maps path within the result to artifact id."""

    kind: str
    identity: str
    summary: Json
    files: Mapping[str, str]
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A device the store knows; `name` is its id.

    Attributes:
        description: its figures; empty where the catalog's file describes it.
        agent: what its agent told about itself, None before there was one.
        seen: when its agent was last heard of.
        silent_s: seconds since then.
    """

    name: str
    description: Json
    created: datetime
    updated: datetime
    agent: Json | None = None
    seen: datetime | None = None
    silent_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMeasurement:
    """A value observed on a device: of a kernel or a whole architecture, as `subject` says."""

    subject: str
    quantity: str
    value: float
    iqr: float
    source: str
    conditions: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementRecord:
    """A stored `NewMeasurement`."""

    id: int
    device: str
    subject: str
    quantity: str
    value: float
    iqr: float
    source: str
    conditions: Json
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """An entry of the append-only log; ids grow within a search in commit order, so resuming after an id is exact."""

    id: int
    search_id: str
    kind: str
    data: Json
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOverview:
    """A log in brief, however long it is.

    Attributes:
        last_id: id of its last event, 0 without one.
        recent: the last events but those of progress, in order.
        stages: every event of kind ``stage``, in order.
        failures: by reason, how many evaluations failed.
    """

    last_id: int
    recent: tuple[EventRecord, ...]
    stages: tuple[EventRecord, ...]
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCounts:
    """What metrics tell: searches by state, trials of all searches, and jobs that wait for a worker."""

    searches: Mapping[JobState, int]
    trials: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """Who asked for what, so that a retried creation is answered and not repeated."""

    principal: str
    route: str
    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """The answer first given under an idempotency key."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRecord:
    """An API key; `digest` is the HMAC-SHA256 of its secret, never the secret; `device` is what it may act for."""

    id: str
    name: str
    role: Role
    digest: str
    created: datetime
    revoked: datetime | None
    device: str | None = None
