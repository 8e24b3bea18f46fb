"""The heartbeat: keeps a lease alive while its job runs, and says when to stop."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final

import structlog

from ...errors import LeaseLostError
from ..store.faults import StoreUnavailable
from ..store.records import Lease
from ..store.store import Store

__all__ = ["Heartbeat", "StopReason"]

FENCE: Final = 0.8
"""Share of the lease's time after which a worker that could not renew stops, before anyone else may claim."""


class StopReason:
    """Why a running job must stop; the words that `Interrupted.reason` carries."""

    CANCEL = "cancel"
    LOST = "lost"
    PAUSE = "pause"
    SHUTDOWN = "shutdown"


class Heartbeat:
    """Renews a lease from a thread of its own while the block runs.

    The worker trusts its own monotonic clock to stop in time and the database's clock for everything else.

    Args:
        store: where the lease is.
        lease: to renew every third of its time.
        shutdown: set when the process wants to end.
    """

    def __init__(self, store: Store, lease: Lease, shutdown: threading.Event) -> None:
        self._store = store
        self._lease = lease
        self._shutdown = shutdown
        self._done = threading.Event()
        self._reason: str | None = None
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{lease.job_id[:8]}", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def reason(self) -> str | None:
        """Why to stop, or None; cheap enough to ask in every training step."""
        if self._reason is None:
            if self._shutdown.is_set():
                return StopReason.SHUTDOWN
            if time.monotonic() - self._renewed > FENCE * self._lease.ttl_s:
                self._reason = StopReason.LOST
        return self._reason

    def _run(self) -> None:
        log = structlog.get_logger().bind(job=self._lease.job_id, epoch=self._lease.epoch)
        while not self._done.wait(self._lease.ttl_s / 3 if self._lease.ttl_s < 6 else 2.0):
            asked = time.monotonic()
            try:
                requests = self._store.renew(self._lease)
            except LeaseLostError:
                log.warning("lease lost")
                self._reason = StopReason.LOST
                return
            except StoreUnavailable as error:
                log.warning("store unavailable", error=str(error))
                continue  # the fence decides how long that may go on
            self._renewed = asked
            if requests.cancel:
                self._reason = StopReason.CANCEL
            elif requests.pause:
                self._reason = StopReason.PAUSE
