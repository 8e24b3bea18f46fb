"""What the pages show: plain, immutable values that templates and charts read, free of storage and HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from .format import QuantityFormat

__all__ = [
    "Action",
    "Axis",
    "Cell",
    "DeviceRow",
    "Download",
    "FailureCause",
    "Filter",
    "FrontView",
    "GeneGrid",
    "JobRow",
    "Kpi",
    "LogLine",
    "LogView",
    "Member",
    "SearchRow",
    "SearchView",
    "SearchesTable",
    "StageView",
    "TrialValue",
    "TrialView",
    "Verdict",
]

Kind = Literal["measured", "predicted", "exact"]
Tone = Literal["good", "warn", "bad", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value of one architecture, with how it came about.

    Attributes:
        value: in the quantity's stored unit.
        error: one standard deviation (predicted) or half the interquartile range (measured); None where not stated.
        source: ``measured:<instrument>``, ``predicted:<method>`` or ``exact``.
    """

    value: float
    error: float | None
    source: str

    @property
    def kind(self) -> Kind:
        """Whether the value was measured, predicted, or is exact by construction (parameters, MACs)."""
        head = self.source.partition(":")[0]
        return "measured" if head == "measured" else "predicted" if head == "predicted" else "exact"

    @property
    def description(self) -> str:
        """The source in words, with what the error means."""
        head, _, how = self.source.partition(":")
        text = f"{head} by {how}" if how else head
        if self.error is None:
            return text if self.kind == "exact" else f"{text}; its error is not stated"
        meaning = "half the interquartile range" if self.kind == "measured" else "one standard deviation"
        return f"{text}; ± is {meaning}"

    def to_json(self) -> dict[str, object]:
        """What the charts read."""
        return {"value": self.value, "error": self.error, "source": self.source, "kind": self.kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A quantity that can be plotted: an objective, or a size of the architecture.

    Attributes:
        key: label as in the store, e.g. ``latency_ms@host``.
        title: plain words, e.g. ``Latency on host``.
        direction: better way, or None where the quantity is neither an objective nor a size.
        objective: True for the search's own objectives.
    """

    key: str
    title: str
    direction: Literal["min", "max"] | None
    objective: bool
    format: QuantityFormat

    def to_json(self) -> dict[str, object]:
        """What the charts read."""
        return {
            **self.format.to_json(),
            "key": self.key,
            "label": self.title,
            "direction": self.direction,
            "objective": self.objective,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A stored file offered for download."""

    name: str
    short: str
    title: str
    href: str
    size: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One trial on the front: what the search believed, and what was measured where it was verified."""

    number: int
    href: str
    believed: Mapping[str, Cell]
    verified: Mapping[str, Cell] = field(default_factory=dict)
    downloads: tuple[Download, ...] = ()

    @property
    def evidence(self) -> str:
        """What an unverified member's values rest on, in one word."""
        kinds = {cell.kind for cell in self.believed.values()} - {"exact"}
        return "mixed" if len(kinds) > 1 else next(iter(kinds), "exact")

    def to_json(self) -> dict[str, object]:
        """What the charts read."""
        return {
            "number": self.number,
            "href": self.href,
            "believed": {key: cell.to_json() for key, cell in self.believed.items()},
            "verified": {key: cell.to_json() for key, cell in self.verified.items()} or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """The front as table and chart show it."""

    axes: tuple[Axis, ...]
    members: tuple[Member, ...]
    knee: int | None
    summary: str
    empty_reason: str
    csv_href: str
    json_href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One choice of the state filter."""

    title: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One line of the list of searches."""

    name: str
    href: str
    subtitle: str
    state: str
    stage: str
    time_left: str
    fraction: float
    bar: str
    devices: str
    trials: str
    trial_budget: str
    front_size: str
    hypervolume: str
    created_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchesTable:
    """One page of the list; `filtered` is the state asked for, empty where every state is shown."""

    rows: tuple[SearchRow, ...]
    href: str
    filtered: str
    first_href: str
    next_href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageView:
    """One stage of the pipeline and how far it is; `bar` is the class of its progress bar."""

    title: str
    state: str
    text: str
    fraction: float
    bar: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """One headline figure; `kind` marks it measured or predicted where that applies."""

    key: str
    label: str
    value: str
    unit: str = ""
    note: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something a reader can ask of a search; `question` is asked first where it cannot be undone."""

    title: str
    href: str
    done: str
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchView:
    """The head of a search page and what its controls offer."""

    id: str
    name: str
    href: str
    events_href: str
    points_href: str
    event_kinds: str
    state: str
    facts: tuple[tuple[str, str], ...]
    created_at: datetime | None
    actions: tuple[Action, ...]
    notice: str
    notice_tone: str
    stages: tuple[StageView, ...]
    kpis: tuple[Kpi, ...]
    axes: tuple[Axis, ...]
    config: str

    @property
    def objectives(self) -> tuple[Axis, ...]:
        """The axes that are objectives."""
        return tuple(axis for axis in self.axes if axis.objective)

    @property
    def limitable(self) -> tuple[Axis, ...]:
        """The axes that a reader can bound: those with a better way."""
        return tuple(axis for axis in self.axes if axis.direction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One figure of the verification report with what it means in plain words."""

    figure: str
    caption: str
    title: str
    verdict: str
    tone: Tone
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCause:
    """How many trials failed for one reason."""

    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One event in words."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """Failures and events of a search."""

    failures: tuple[FailureCause, ...]
    failure_summary: str
    events: tuple[LogLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneGrid:
    """Genes that repeat per stage or block, as a table: rows are places, columns are what is chosen there."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialValue:
    """One quantity of a trial: believed beside measured, all in one unit."""

    title: str
    unit: str
    believed: str
    believed_error: str
    believed_source: str
    measured: str
    measured_error: str
    measured_source: str
    difference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """Everything on a trial's page; `picture_href` is empty where its architecture cannot be drawn."""

    number: int
    search_name: str
    search_href: str
    state: str
    on_front: bool
    verified: bool
    facts: tuple[tuple[str, str], ...]
    arch_key: str
    space: str
    picture_href: str
    notice: str
    globals: tuple[tuple[str, str], ...]
    grids: tuple[GeneGrid, ...]
    values: tuple[TrialValue, ...]
    values_note: str
    files: tuple[Download, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One line of the list of jobs."""

    id: str
    kind: str
    state: str
    search_name: str
    search_href: str
    worker: str
    attempts: int
    error: str
    updated_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One line of the list of devices."""

    name: str
    kind: str
    description: str
    agent: str
    tasks: str
    created_at: datetime | None
