"""Local pool: one process per worker, replaced when it dies.

Workers are fresh interpreters rather than forks (a fork of a process with CUDA or threads is not safe) and speak JSON
over pipes rather than pickles. The scheduler is the caller's thread: no helper threads, nothing to leak.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from typing import Any, Final

from ...errors import PoolError
from ..pool import WORKER_ENVIRONMENT, OnDone, Pool
from .evaluation import EvaluatorSpec
from .ledger import Ledger

__all__ = ["LocalPool"]

_START_ATTEMPTS: Final = 2
_EXIT_GRACE_S: Final = 2.0


class _WorkerDiedError(Exception):
    """The worker process ended without answering; the message says how."""


class LocalPool(Pool):
    """Evaluates items in `workers` processes of this machine.

    Args:
        workers: how many processes; at least one.
        spec: the evaluator every process builds once.

    Raises:
        PoolError: a worker could not build the evaluator, or died while it did so.
    """

    def __init__(self, workers: int, spec: EvaluatorSpec) -> None:
        super().__init__(workers)
        self._spec = spec
        self._idle: list[_Worker] = []
        try:
            self._idle.extend(_Worker(spec) for _ in range(workers))
            self._idle = [self._ready(worker) for worker in self._idle]
        except BaseException:
            self.close()
            raise

    def map(self, items: list[dict[str, Any]], on_done: OnDone | None = None) -> list[dict[str, Any]]:
        """Evaluate `items`; see `Pool.map`."""
        self._check_open()
        ledger = Ledger(items, on_done)
        busy = selectors.DefaultSelector()
        try:
            while ledger.unfinished:
                while ledger.waiting and self._idle:
                    index = ledger.waiting.popleft()
                    worker = self._next_worker()
                    worker.index = index
                    busy.register(worker.replies, selectors.EVENT_READ, worker)
                    worker.send(ledger.texts[index])
                for key, _ in busy.select():
                    worker = key.data
                    busy.unregister(worker.replies)
                    self._collect(worker, ledger)
        finally:
            # Reached with busy workers only when the caller was interrupted: their answers have no reader any more.
            for key in list(busy.get_map().values()):
                key.data.kill()
                self._idle.append(key.data)
            busy.close()
        return ledger.results()

    def close(self) -> None:
        """End all workers; idle ones leave by themselves, others are killed."""
        workers, self._idle = self._idle, []
        self._closed = True
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.kill(grace_s=_EXIT_GRACE_S)

    def _next_worker(self) -> _Worker:
        """An idle worker that is alive; one that died while idle is replaced first."""
        worker = self._idle.pop()
        if worker.process.poll() is None:
            return worker
        worker.kill()
        try:
            return self._ready(_Worker(self._spec))
        except BaseException:
            self._idle.append(worker)
            raise

    def _collect(self, worker: _Worker, ledger: Ledger) -> None:
        """Take a worker's answer, or its death: the item is retried once, then failed with the cause."""
        try:
            answer = worker.receive()
        except _WorkerDiedError as death:
            self._idle.append(worker)  # found dead and replaced when it is next needed
            ledger.lost(worker.index, str(death))
        else:
            self._idle.append(worker)
            ledger.done(worker.index, answer)

    def _ready(self, worker: _Worker) -> _Worker:
        """Wait until a worker has built its evaluator; a start that is killed is tried once more."""
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                answer = worker.receive()
            except _WorkerDiedError as death:
                worker.kill()
                if attempt == _START_ATTEMPTS:
                    raise PoolError(
                        f"A pool worker for {self._spec.factory!r} died {attempt} times while starting: {death}. "
                        "Check the memory left and the messages above."
                    ) from death
                worker = _Worker(self._spec)
                continue
            if "refused" in answer:
                worker.kill()
                raise PoolError(answer["refused"])
            break
        return worker


class _Worker:
    """One worker process and its two pipes."""

    def __init__(self, spec: EvaluatorSpec) -> None:
        module = f"{__package__}.worker"
        # -P: a `json.py` in the user's folder must not shadow the standard library in the worker.
        # S603: the command is our own interpreter and module.
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", module, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | WORKER_ENVIRONMENT,
            process_group=0,  # out of the terminal's foreground group: Ctrl-C reaches the parent only
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self.replies = self.process.stdin, self.process.stdout
        self.index = -1
        self.send(spec.to_json())

    def send(self, text: str) -> None:
        """Hand over one request; a dead worker is noticed by `receive`, which reads the end of its pipe."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(text + "\n")
            self._requests.flush()

    def receive(self) -> dict[str, Any]:
        """Read the one answer to the last request."""
        line = self.replies.readline()
        if not line.endswith("\n"):
            self.kill(grace_s=_EXIT_GRACE_S)
            raise _WorkerDiedError(_how_it_ended(self.process.returncode))
        return json.loads(line)

    def dismiss(self) -> None:
        """Close its input: an idle worker then ends by itself."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()

    def kill(self, grace_s: float = 0.0) -> None:
        """Make sure that the process, and what it started, is gone and reaped; `grace_s` lets it leave by itself."""
        self.dismiss()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.replies.close()


def _how_it_ended(returncode: int) -> str:
    """Exit status in words.

    >>> _how_it_ended(-9)
    'was killed by SIGKILL (killed by hand, or out of memory)'
    >>> _how_it_ended(3)
    'left with exit code 3'
    """
    if returncode >= 0:
        return f"left with exit code {returncode}"
    name = signal.Signals(-returncode).name
    return f"was killed by {name}" + (" (killed by hand, or out of memory)" if name == "SIGKILL" else "")
