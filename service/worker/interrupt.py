"""Stopping a job at once: an exception in the thread that works on it, whatever that is waiting for.

Safe points come after a batch or a training step; someone who kills a search does not want to wait for the next one. A
signal to the working thread interrupts even a blocking wait for the pool, whose clean-up then ends its workers. What
was in progress is lost and nothing else: every write is a transaction or a new file, as after `kill -9`.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

__all__ = ["Interruptible"]

SIGNAL = signal.SIGUSR1


class Interruptible:
    """A block that another thread may end by raising an exception in it, once.

    Python handles signals in the main thread only; in another thread the block runs on to its next safe point.

    Args:
        error: raised in the block.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._lock = threading.Lock()
        self._thread: int | None = None

    def __enter__(self) -> Interruptible:
        if threading.current_thread() is threading.main_thread():
            signal.signal(SIGNAL, self._raise)
            self._thread = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._thread = None  # a signal that is still under way finds nothing to end

    def stop(self) -> None:
        """End the block, from any thread; too late or a second time it does nothing."""
        with self._lock:
            if self._thread is not None:
                signal.pthread_kill(self._thread, SIGNAL)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._thread is not None:
            self._thread = None
            raise self._error
