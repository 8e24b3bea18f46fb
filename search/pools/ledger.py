"""The books of one `Pool.map`, shared by the back ends: here is decided what is retried and when an item has failed."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from ..pool import OnDone
from .evaluation import failure

__all__ = ["Ledger"]


class Ledger:
    """What waits, what is done, and which items have already cost a worker.

    Attributes:
        texts: the items as JSON.
        waiting: indices still to hand out, in order; a retried item comes first.
    """

    def __init__(self, items: list[dict[str, Any]], on_done: OnDone | None) -> None:
        self.texts = [json.dumps(item) for item in items]
        self.waiting = deque(range(len(items)))
        self._on_done = on_done
        self._results: dict[int, dict[str, Any]] = {}
        self._deaths: dict[int, str] = {}

    @property
    def unfinished(self) -> bool:
        """Whether an item still lacks its result."""
        return len(self._results) < len(self.texts)

    def done(self, index: int, result: dict[str, Any]) -> None:
        """Book an item's result and report progress."""
        self._results[index] = result
        if self._on_done is not None:
            self._on_done(index, result)

    def lost(self, index: int, cause: str) -> None:
        """Book a worker's death on an item: retried the first time, failed the second."""
        if index in self._deaths:
            self.done(index, failure(f"WorkerDied: two workers were lost on this item; the last one {cause}"))
        else:
            self._deaths[index] = cause
            self.waiting.appendleft(index)

    def results(self) -> list[dict[str, Any]]:
        """All results, in the items' order."""
        return [self._results[index] for index in range(len(self.texts))]
