"""A local pool's worker process: reads items from standard input, writes results to what was standard output.

Protocol, one JSON line each way per request: first the evaluator's spec, answered by ``{"ready": true}`` or
``{"refused": why}``; then any number of items, each answered by its result. End of input ends the worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import TextIO

from ...errors import ArchsmithError
from .evaluation import Evaluation, EvaluatorSpec

__all__ = ["main"]

_PARENT_POLL_S = 0.25


def main(parent_pid: int) -> None:
    """Serve the process `parent_pid` until it closes our input or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it decides what is drained
    _die_with(parent_pid)
    requests, replies = _take_streams()
    try:
        evaluation = Evaluation(EvaluatorSpec.from_json(requests.readline()))
    except ArchsmithError as error:
        _reply(replies, json.dumps({"refused": str(error)}))
        return
    _reply(replies, json.dumps({"ready": True}))
    for item in requests:
        _reply(replies, evaluation.run(item))


def _die_with(parent_pid: int) -> None:
    """End this process soon after its parent is gone, even in the middle of an item.

    Polling beats PR_SET_PDEATHSIG, which fires when the *thread* that started us ends, and beats watching a pipe, which
    any process forked by the parent would hold open.
    """

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_PARENT_POLL_S)
        os.killpg(os.getpgrp(), signal.SIGKILL)  # a worker leads its group: whatever the evaluator started goes with it

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _take_streams() -> tuple[TextIO, TextIO]:
    """Keep the two pipes for the protocol; evaluators that print do so to standard error, and read nothing."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _reply(replies: TextIO, text: str) -> None:
    replies.write(text + "\n")
    replies.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
