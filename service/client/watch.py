"""Following a search: server-sent events while they come, polling where they do not, through restarts of the server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..schemas import resources
from .transport import ApiError, ConnectionLostError, Transport

__all__ = ["StreamEvent", "parse_events", "watch"]

SETTLED: Final = frozenset({"succeeded", "failed", "cancelled", "paused"})
"""States in which waiting ends."""

READ_TIMEOUT_S: Final = 45.0
"""The server sends a sign of life every 15 seconds."""

PATIENCE: Final = 60
"""How often in a row the server may be away before waiting is given up; with pauses, a few minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """One server-sent event."""

    id: str | None
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


def parse_events(lines: Iterable[str]) -> Iterator[StreamEvent]:
    """Events from the lines of a stream.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

    >>> [event.kind for event in parse_events(["event: state", 'data: {"a": 1}', "", ": ping", ""])]
    ['state']
    """
    event_id, kind, data = None, "message", []
    for line in lines:
        if not line:
            if data:
                yield StreamEvent(id=event_id, kind=kind, data=json.loads("\n".join(data)))
            kind, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            event_id = value


def watch(
    transport: Transport, search: resources.Search, *, progress: bool, timeout_s: float | None
) -> resources.Search:
    """Follow `search` until it has settled; returns it as last seen.

    Raises:
        ConnectionLostError: the server stayed away.
        TimeoutError: `timeout_s` have passed.
    """
    follower = _Follower(transport, search, None if timeout_s is None else time.monotonic() + timeout_s)
    if not progress:
        for _ in follower.updates():
            pass
        return follower.search
    display = _Display()
    console = Console(stderr=True)
    with Live(display.bars, console=console, refresh_per_second=8):
        display.show(search)
        for seen in follower.updates():
            display.show(seen)
    if not console.is_terminal:
        console.line()  # Live leaves the last line open there
    return follower.search


class _Follower:
    """Yields the search whenever something may have changed."""

    def __init__(self, transport: Transport, search: resources.Search, deadline: float | None) -> None:
        self.transport = transport
        self.search = search
        self.deadline = deadline
        self._last_event: str | None = None
        self._seen = time.monotonic()

    def updates(self) -> Iterator[resources.Search]:
        """Until the search has settled."""
        failures = 0
        while self.search.state not in SETTLED:
            try:
                for event in self._events():
                    failures = 0
                    if self._look(force=event.kind in ("state", "end")):
                        yield self.search
                    if self.search.state in SETTLED:
                        return
                self._look(force=True)  # the stream has ended: polling takes its place until it can be opened again
                yield self.search
                self._sleep(0.5)
            except (httpx.TransportError, ConnectionLostError) as error:
                failures += 1
                if failures > PATIENCE:
                    raise ConnectionLostError(
                        f"search {self.search.id}: the server has not answered {PATIENCE} times in a row ({error}). "
                        "The search itself is stored; start the server again and wait for it anew."
                    ) from error
                self._sleep(min(0.2 * failures, 5.0))

    def _events(self) -> Iterator[StreamEvent]:
        headers = {"Accept": "text/event-stream"}
        if self._last_event is not None:
            headers["Last-Event-ID"] = self._last_event
        path = f"searches/{self.search.id}/events"
        try:
            with self.transport.stream(path, headers, self._read_timeout()) as response:
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    return  # something in between does not pass streams on
                for event in parse_events(self._in_time(response.iter_lines())):
                    self._last_event = event.id or self._last_event
                    yield event
        except ApiError as error:
            if error.status < 500:
                raise
            raise ConnectionLostError(str(error)) from error

    def _look(self, *, force: bool = False) -> bool:
        """Fetch the search, at most a few times a second however many events come."""
        self._check_deadline()
        if not force and time.monotonic() - self._seen < 0.2:
            return False
        path = f"searches/{self.search.id}"
        self.search = resources.Search.model_validate_json(self.transport.get(path).content)
        self._seen = time.monotonic()
        return True

    def _in_time(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines while there is time; the server's signs of life are lines too."""
        for line in lines:
            self._check_deadline()
            yield line

    def _read_timeout(self) -> float:
        return READ_TIMEOUT_S if self.deadline is None else min(READ_TIMEOUT_S, self._left() + 0.1)

    def _left(self) -> float:
        return float("inf") if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def _check_deadline(self) -> None:
        if self._left() <= 0.0:
            raise TimeoutError(f"search {self.search.id} is still {self.search.state}; it goes on, wait again later.")

    def _sleep(self, seconds: float) -> None:
        self._check_deadline()
        time.sleep(min(seconds, self._left()))


class _Display:
    """One bar per stage, with trials and hypervolume beside the search's."""

    def __init__(self) -> None:
        self.bars = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>4.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}"),
        )
        self._tasks: dict[str, TaskID] = {}

    def show(self, search: resources.Search) -> None:
        """Bring the bars up to date."""
        for stage, state in search.progress.items():
            if stage not in self._tasks:
                self._tasks[stage] = self.bars.add_task(stage, total=None, message="")
            message = str(state.get("message", ""))
            if stage == "search":
                volume = "" if search.hypervolume is None else f", hypervolume {search.hypervolume:.4g}"
                message = f"{search.n_trials} trials{volume}"
            total = state.get("total") or None
            done = total if state.get("reused") else state.get("done", 0.0)
            self.bars.update(self._tasks[stage], total=total, completed=done or 0.0, message=message)
