"""The worker: claims a job, runs it under a heartbeat, and settles it, one job after the other."""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
from pathlib import Path

import structlog

from ... import spaces
from ...errors import ArchsmithError, LeaseLostError, StoreError
from ...search.pipeline.contracts import Interrupted, PoolSpec
from ...search.pipeline.run import run_pipeline
from ..measuring import Lab, Waiting
from ..schemas.job import JobSpec
from ..schemas.resolve import plan_of
from ..settings import Settings
from ..store.faults import StoreUnavailable
from ..store.records import JobKind, JobState, Lease
from ..store.store import Store
from .earlier import earlier_search
from .heartbeat import Heartbeat, StopReason
from .probe import run_probe
from .recorder import DatabaseRecorder
from .results import DatabaseResultStore, tidy

__all__ = ["Worker", "worker_name"]

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
"""The world's doing, not the job's: it goes on once there is room again."""


def worker_name() -> str:
    """Host and process: enough to find the process that holds a lease."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Worker:
    """Runs jobs of the store until told to stop.

    Args:
        store: the queue.
        settings: pool, lease time, folders.
        shutdown: set it to end after the current safe point; the job in hand is queued again.
        interrupted_state: what a search becomes when `shutdown` interrupts it: `queued`, or `paused` for a run in the
            foreground, which someone will resume by hand.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        shutdown: threading.Event,
        interrupted_state: JobState = JobState.QUEUED,
    ) -> None:
        self.store = store
        self.settings = settings
        self.name = worker_name()
        self._shutdown = shutdown
        self._interrupted_state = interrupted_state
        self._log = structlog.get_logger().bind(worker=self.name)

    def run(self) -> None:
        """Claim and execute jobs until shutdown."""
        self._log.info("worker started")
        while not self._shutdown.is_set():
            lease = self._claim()
            if lease is None:
                self._shutdown.wait(self.settings.poll_s)
                continue
            try:
                self.execute(lease)
            except StoreError as error:
                # Nothing could be written any more (unreachable, disk full): the job waits for its lease to expire.
                self._log.error("job abandoned", job=lease.job_id, error=str(error))
                self._shutdown.wait(self.settings.poll_s)
        self._log.info("worker stopped")

    def _claim(self) -> Lease | None:
        """A search, or a probe whose device has measured all that it was asked for."""
        ttl_s = self.settings.lease_ttl_s
        try:
            if lease := self.store.claim(self.name, kinds=(JobKind.SEARCH,), ttl_s=ttl_s):
                return lease
            probe = self.store.tasks.ready_probe()
            return self.store.claim(self.name, job_id=probe, ttl_s=ttl_s) if probe else None
        except StoreUnavailable as error:
            self._log.warning("store unavailable", error=str(error))
            return None

    def execute(self, lease: Lease) -> None:
        """Run one job and settle it; its errors become the job's error.

        Raises:
            StoreError: the outcome could not be stored; whoever claims the job next continues from the last checkpoint.
        """
        log = self._log.bind(job=lease.job_id, epoch=lease.epoch)
        log.info("job started", kind=lease.kind)
        try:
            with Heartbeat(self.store, lease, self._shutdown) as heartbeat:
                outcome = self._run(lease, heartbeat)
            self._settle(lease, outcome)
            log.info("job ended", outcome=outcome or "succeeded")
            tidy(self.store, self.settings.runs_dir)
        except LeaseLostError as error:
            log.warning("job taken over by another worker", error=str(error))

    def _run(self, lease: Lease, heartbeat: Heartbeat) -> str | None:
        """Run the pipeline; None when it is done, the reason when it was interrupted."""
        try:
            with heartbeat.killable:
                if lease.kind == JobKind.PROBE:
                    run_probe(self.store, self.settings, lease, heartbeat)
                else:
                    self._search(lease, heartbeat)
        except Interrupted as stop:
            return stop.reason
        except Waiting as wait:
            self._log.info("probe waits", job=lease.job_id, message=str(wait))
            return StopReason.WAITING
        except StoreError:
            raise  # a lost lease included: there is nobody to tell
        except ArchsmithError as error:
            self.store.fail(lease, {"reason": type(error).__name__, "message": str(error)})
            return "failed"
        except Exception as error:
            if trouble := _unwritable(error):
                raise StoreError(
                    f"runs_dir {self.settings.runs_dir}: {trouble}. Free space or make the folder writable; the search "
                    "then goes on from its last checkpoint."
                ) from error
            # A defect of ours or of a library: kept with its type, and logged with its traceback for us.
            self._log.exception("job crashed", job=lease.job_id)
            self.store.fail(lease, {"reason": "internal", "message": f"{type(error).__name__}: {error}"})
            return "failed"
        return None

    def _search(self, lease: Lease, heartbeat: Heartbeat) -> None:
        settings = self.settings
        record = self.store.search(lease.job_id)
        job = JobSpec.model_validate(record.config)
        kind, workers = (job.pool.kind, job.pool.workers) if job.pool else (settings.pool, settings.workers)
        address = settings.ray_address if kind == "ray" else None
        plan = plan_of(job, PoolSpec(kind=kind, workers=workers, address=address))
        space = spaces.get(plan.space.name, plan.space.preset, **plan.space.options)
        recorder = DatabaseRecorder(self.store, lease, space, heartbeat)
        results = DatabaseResultStore(self.store, lease, Path(settings.runs_dir))
        lab = Lab(self.store, patience_s=settings.device_patience_s, server=settings.url)
        for name in plan.devices:
            self.store.tasks.forget_failed(name)  # whoever asks anew, asks for a new try
        earlier = [earlier_search(self.store, name) for name in job.warm_start]
        run_pipeline(plan, recorder, results, lab, earlier_searches=earlier)

    def _settle(self, lease: Lease, outcome: str | None) -> None:
        """Say how it ended; a request that still stands decides between cancelled, paused and queued again."""
        if outcome is None:
            self.store.finish(lease)
        elif outcome == StopReason.SHUTDOWN:
            self.store.release(lease, self._interrupted_state)
        elif outcome in (StopReason.CANCEL, StopReason.PAUSE, StopReason.WAITING):
            self.store.release(lease, JobState.QUEUED)


def _unwritable(error: BaseException) -> str | None:
    """Why a file could not be written, in words; None where something else went wrong."""
    if isinstance(error, OSError):
        number, place = error.errno, f": {error.filename}" if error.filename else ""
    else:  # safetensors reports the system's error in its text only
        found = re.search(r"\(os error (\d+)\)", str(error))
        number, place = int(found[1]) if found else None, ""
    return os.strerror(number) + place if number in UNWRITABLE else None
