"""Serial pool: everything in the calling process, for debugging and for evaluators that keep all cores busy alone."""

from __future__ import annotations

import json
from typing import Any

from ..pool import OnDone, Pool
from .evaluation import Evaluation, EvaluatorSpec

__all__ = ["SerialPool"]


class SerialPool(Pool):
    """Evaluates items one after the other, in order.

    The process keeps its own thread settings: with more than one torch thread, sums may round differently than in the
    single-threaded workers of the other pools.
    """

    def __init__(self, workers: int, spec: EvaluatorSpec) -> None:
        super().__init__(workers)
        self._evaluation = Evaluation(spec)

    def map(self, items: list[dict[str, Any]], on_done: OnDone | None = None) -> list[dict[str, Any]]:
        """Evaluate `items`; see `Pool.map`."""
        self._check_open()
        results: list[dict[str, Any]] = []
        for index, text in enumerate([json.dumps(item) for item in items]):
            results.append(json.loads(self._evaluation.run(text)))
            if on_done is not None:
                on_done(index, results[-1])
        return results

    def close(self) -> None:
        """Nothing runs outside this process."""
        self._closed = True
