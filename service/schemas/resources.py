"""What the API returns and the SDK reads: searches, trials, fronts, artifacts, devices, spaces, jobs and events.

Objective values are in their natural direction and keyed by label (``accuracy``, ``latency_ms@host``); every group of
values says where it comes from (``measured:…`` or ``predicted:…``).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Artifact",
    "Device",
    "Event",
    "Front",
    "FrontHistory",
    "FrontHistoryEntry",
    "FrontMember",
    "Job",
    "Metric",
    "Objective",
    "Page",
    "Problem",
    "ProblemItem",
    "SampleRequest",
    "Search",
    "SearchChange",
    "SearchSummary",
    "Space",
    "SpaceSample",
    "Trial",
    "ValidateRequest",
    "Validation",
    "View",
]

View = Literal["believed", "verified"]
State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
Item = TypeVar("Item")


class Resource(BaseModel):
    """Base of all resources; clients ignore fields of newer servers."""

    model_config = ConfigDict(extra="ignore")


class Page(Resource, Generic[Item]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = None


class Objective(Resource):
    """A quantity that a search optimises."""

    label: str
    name: str
    direction: Literal["min", "max"]
    device: str | None = None


class SearchSummary(Resource):
    """A search as lists show it."""

    id: str
    number: int
    name: str
    state: State
    stage: str | None
    progress: dict[str, Any]
    objectives: list[Objective]
    n_trials: int
    n_failed: int
    front_version: int
    front_size: int = Field(description="Members of the believed front.")
    hypervolume: float | None
    cancel_requested_at: datetime | None
    cancel_mode: Literal["drain", "kill"] | None
    pause_requested_at: datetime | None
    error: dict[str, Any] | None
    created: datetime
    started: datetime | None
    finished: datetime | None


class Search(SearchSummary):
    """A search with its resolved job and its report."""

    job: dict[str, Any]
    space: dict[str, Any]
    constraints: list[dict[str, Any]]
    seed: int
    reference: dict[str, float] | None = Field(description="Reference point of the hypervolume, by objective label.")
    report: dict[str, Any] | None


class SearchChange(BaseModel):
    """What may be changed of a search."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1, max_length=120)


class Metric(Resource):
    """One quantity of a trial on one device."""

    quantity: str
    device: str | None
    value: float
    spread: float | None
    source: str


class Artifact(Resource):
    """A stored file, in its role for a search or one of its trials."""

    id: str
    name: str
    role: str | None = None
    trial_number: int | None = None
    sha256: str
    size: int
    media_type: str
    created: datetime


class Trial(Resource):
    """One evaluated architecture; `metrics` and `artifacts` only where a single trial was asked for."""

    search_id: str
    number: int
    state: Literal["succeeded", "infeasible", "failed", "pruned"]
    arch_key: str
    genome: list[int]
    choices: dict[str, Any] | None
    fidelity: float
    values: dict[str, float | None]
    sources: dict[str, str]
    violation: float | None = Field(
        description="Sum of the relative excesses over the constraints' bounds; 0 = feasible, null = evaluation failed."
    )
    params: int | None
    macs: int | None
    error: str | None = Field(description="Why the evaluation failed, where that is known.")
    cost_s: float
    created: datetime
    metrics: list[Metric] = []
    artifacts: list[Artifact] = []


class FrontMember(Resource):
    """A non-dominated feasible trial."""

    number: int
    arch_key: str
    values: dict[str, float]
    sources: dict[str, str]


class Front(Resource):
    """The non-dominated feasible trials, by values the search believed or by values measured afterwards."""

    search_id: str
    view: View
    version: int
    hypervolume: float | None
    objectives: list[Objective]
    members: list[FrontMember]


class FrontHistoryEntry(Resource):
    """How a front changed."""

    view: View
    version: int
    n_trials: int
    hypervolume: float | None
    added: list[int]
    removed: list[int]
    at: datetime


class FrontHistory(Resource):
    """Every change of a front, in order."""

    search_id: str
    items: list[FrontHistoryEntry]


class Device(Resource):
    """Named hardware; every figure of `description` carries its source."""

    name: str
    title: str
    kind: str
    description: dict[str, Any]
    registered: bool = Field(default=False, description="Whether a user or an agent has registered it here.")
    agent: dict[str, Any] | None = Field(default=None, description="What its agent told about itself.")
    seen: datetime | None = Field(default=None, description="When its agent was last heard of.")
    silent_s: float | None = Field(default=None, description="Seconds since then.")
    tasks: dict[str, int] = Field(default={}, description="How many of its measuring tasks are in which state.")


class Space(Resource):
    """A family of search spaces with its presets; sizes and genes are those of `preset`."""

    name: str
    presets: list[str]
    options: list[str]
    preset: str
    identity: str
    size: str = Field(description="Exact number of architectures, as text: it may exceed what JSON numbers hold.")
    genes: list[dict[str, Any]]


class SampleRequest(BaseModel):
    """How many architectures to draw, of which variant of the space."""

    model_config = ConfigDict(extra="forbid", strict=True)
    preset: str | None = None
    options: dict[str, bool | int | float | str] = {}
    n: int = Field(default=1, ge=1, le=1000)
    seed: int = Field(default=0, ge=0)


class SpaceSample(Resource):
    """Architectures drawn uniformly, with what they cost whatever the device."""

    identity: str
    choices: list[dict[str, Any]]
    genomes: list[list[int]]
    keys: list[str]
    params: list[int]
    macs: list[int]


class ValidateRequest(BaseModel):
    """An architecture to be checked: its choices by gene name."""

    model_config = ConfigDict(extra="forbid", strict=True)
    preset: str | None = None
    options: dict[str, bool | int | float | str] = {}
    choices: dict[str, Any]


class Validation(Resource):
    """A valid architecture: its genome, key and exact counts."""

    identity: str
    genome: list[int]
    key: str
    params: int
    macs: int


class Job(Resource):
    """A unit of durable background work; a search is one."""

    id: str
    kind: str
    state: State
    epoch: int
    attempts: int
    worker: str | None
    lease_until: datetime | None
    cancel_requested_at: datetime | None
    error: dict[str, Any] | None
    created: datetime
    started: datetime | None
    finished: datetime | None


class Event(Resource):
    """An entry of a search's log."""

    id: int
    search_id: str
    kind: str
    data: dict[str, Any]
    at: datetime


class ProblemItem(Resource):
    """One mistake of a refused request."""

    place: str
    value: bool | int | float | str | None
    allowed: str
    hint: str
    message: str


class Problem(Resource):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[ProblemItem] = []
