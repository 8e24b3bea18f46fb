"""A search's event log, read once and kept: recent lines, when stages began, and failures by cause.

The log only grows and can hold a hundred thousand entries, so each process begins with the store's overview of it,
remembers a summary per search and reads what is new (`EventTail`).
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ...store.records import EventOverview, EventRecord, SearchRecord
from ...store.store import Store
from ..format import compact_count, significant
from ..views import FailureCause, LogLine, LogView

__all__ = ["EventTail", "Tail", "log_view"]

_KEPT_LINES: Final = 200
_KEPT_SEARCHES: Final = 64
_BATCH: Final = 2_000
_SILENT: Final = frozenset({"progress"})
"""Kinds that the progress bars already show."""


@dataclass(slots=True)
class Tail:
    """What is remembered of one search's log."""

    last_id: int = 0
    recent: deque[EventRecord] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    stage_began: dict[str, datetime] = field(default_factory=dict)
    stage_ended: dict[str, datetime] = field(default_factory=dict)
    stage_reused: set[str] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)

    @classmethod
    def begin(cls, overview: EventOverview) -> Tail:
        """From what the store says of the log so far."""
        tail = cls(last_id=overview.last_id, failures=Counter(overview.failures))
        tail.recent.extend(overview.recent)
        for event in overview.stages:
            tail._take_stage(str(event.data.get("stage", "")), event)
        return tail

    def take(self, event: EventRecord) -> None:
        """Add one event, in order."""
        self.last_id = event.id
        if event.kind not in _SILENT:
            self.recent.append(event)
        if event.kind == "stage":
            self._take_stage(str(event.data.get("stage", "")), event)
        reason = event.data.get("reason") or event.data.get("error")
        if reason and "fail" in event.kind:
            self.failures[str(reason)] += int(event.data.get("count", 1))

    def _take_stage(self, stage: str, event: EventRecord) -> None:
        for open_stage in self.stage_began:
            self.stage_ended.setdefault(open_stage, event.at)
        self.stage_began.setdefault(stage, event.at)
        self.stage_ended.pop(stage, None)  # a resumed search enters a stage again
        if event.data.get("reused"):
            self.stage_reused.add(stage)


class EventTail:
    """Summaries of the logs read lately; safe between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, search_id: str) -> Tail:
        """The summary of a search's log, brought up to date."""
        with self._lock:
            tail = self._tails.get(search_id)
            if tail is None:
                tail = self._tails[search_id] = Tail.begin(self._store.event_overview(search_id))
            self._tails.move_to_end(search_id)
            while len(self._tails) > _KEPT_SEARCHES:
                self._tails.popitem(last=False)
            while events := self._store.events_after(search_id, tail.last_id, _BATCH):
                for event in events:
                    tail.take(event)
                if len(events) < _BATCH:
                    break
            return tail


def log_view(search: SearchRecord, tail: Tail) -> LogView:
    """Failures, most frequent first, and recent events, newest first."""
    failed = compact_count(search.n_failed)
    named = sum(tail.failures.values())
    causes = [FailureCause(count=count, reason=reason) for reason, count in tail.failures.most_common(20)]
    if search.n_failed > named:
        causes.append(FailureCause(count=search.n_failed - named, reason="cause not recorded"))
    return LogView(
        failures=tuple(causes),
        failure_summary=f"{failed} of {compact_count(search.n_trials)} trials" if search.n_failed else "None so far",
        events=tuple(LogLine(at=event.at, kind=event.kind, text=_text(event)) for event in reversed(tail.recent)),
    )


def _text(event: EventRecord) -> str:
    """An event in words: of a known kind in a sentence, else its message, else its fields."""
    data: Mapping[str, Any] = event.data
    if event.kind in _SENTENCES:
        return _SENTENCES[event.kind](data)
    if message := data.get("message") or data.get("text"):
        return str(message)
    return ", ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in data.items() if _plain(value))


def _trials_text(data: Mapping[str, Any]) -> str:
    failed = f", {data['n_failed']} failed" if data.get("n_failed") else ""
    return f"{data.get('count', '')} more, {data.get('n_trials', '')} in all{failed}"


def _front_text(data: Mapping[str, Any]) -> str:
    volume = significant(data.get("hypervolume"), 4)
    return f"{data.get('view', '')} front of {data.get('size', '')}, hypervolume {volume}"


def _stage_text(data: Mapping[str, Any]) -> str:
    return f"{data.get('stage', '')} {'taken from the store' if data.get('reused') else 'began'}"


def _verified_text(data: Mapping[str, Any]) -> str:
    roles = data.get("roles") or ()
    return f"trial {data.get('number', '')} measured{f', {len(roles)} files kept' if roles else ''}"


def _state_text(data: Mapping[str, Any]) -> str:
    requested = f", {data['requested']} requested" if data.get("requested") else ""
    error = data.get("error") or {}
    reason = f": {error.get('message') or error.get('reason')}" if error else ""
    return f"{data.get('state', '')}{requested}{reason}"


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "evaluations_failed": lambda data: f"{data.get('count', '')} × {data.get('reason', '')}",
    "front": _front_text,
    "reference": lambda data: "hypervolume reference point fixed",
    "report": lambda data: f"now covers {', '.join(str(key).replace('_', ' ') for key in data.get('keys') or ())}",
    "stage": _stage_text,
    "state": _state_text,
    "trials": _trials_text,
    "verified": _verified_text,
}
"""By kind: what an event's data says, as a person would."""


def _plain(value: object) -> bool:
    return value is not None and not isinstance(value, list | dict)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return significant(value, 4) if isinstance(value, float) else str(value)
