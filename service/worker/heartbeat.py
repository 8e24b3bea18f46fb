"""The heartbeat: keeps a lease alive while its job runs, and says when to stop."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final

import structlog

from ...errors import LeaseLostError, StoreError
from ...search.pipeline.contracts import Interrupted
from ..store.records import Lease
from ..store.store import Store
from .interrupt import Interruptible

__all__ = ["Heartbeat", "StopReason"]

LOOK_S: Final = 1.0
"""A lease is renewed at least this often, whatever its time: the answer also says what users have asked for."""
FENCE: Final = 0.8
"""Share of the lease's time after which a worker that could not renew stops, before anyone else may claim."""


class StopReason:
    """Why a running job must stop; the words that `Interrupted.reason` carries."""

    CANCEL = "cancel"
    LOST = "lost"
    PAUSE = "pause"
    SHUTDOWN = "shutdown"
    WAITING = "waiting"


class Heartbeat:
    """Renews a lease from a thread of its own while the block runs.

    The worker trusts its own monotonic clock to stop in time and the database's clock for everything else.

    Args:
        store: where the lease is.
        lease: to renew every third of its time, or sooner.
        shutdown: set when the process wants to end.

    Attributes:
        killable: the block that a cancellation with mode `kill` ends at once, by Interrupted.
    """

    def __init__(self, store: Store, lease: Lease, shutdown: threading.Event) -> None:
        self._store = store
        self._lease = lease
        self._shutdown = shutdown
        self.killable = Interruptible(Interrupted(StopReason.CANCEL))
        self._done = threading.Event()
        self._lost = False
        self._asked: str | None = None
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
        if self._lost or time.monotonic() - self._renewed > FENCE * self._lease.ttl_s:
            self._lost = True  # for good: another worker may own the job by now
            return StopReason.LOST
        return self._asked or (StopReason.SHUTDOWN if self._shutdown.is_set() else None)

    def _run(self) -> None:
        log = structlog.get_logger().bind(job=self._lease.job_id, epoch=self._lease.epoch)
        while not self._done.wait(min(self._lease.ttl_s / 3, LOOK_S)):
            asked = time.monotonic()
            try:
                requests = self._store.renew(self._lease)
            except LeaseLostError:
                log.warning("lease lost")
                self._lost = True
                return
            except StoreError as error:
                log.warning("lease not renewed", error=str(error))
                continue  # the fence decides how long that may go on
            self._renewed = asked
            # Asked anew every time: a pause that nobody has honoured yet may be withdrawn.
            self._asked = StopReason.CANCEL if requests.cancel else StopReason.PAUSE if requests.pause else None
            if requests.kill:
                self.killable.stop()
