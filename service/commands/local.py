"""`run` and `resume`: the whole job in this process, against the embedded store."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ..client.client import Client
from ..client.searches import SearchHandle
from ..jobfile import load_job
from ..settings import Settings
from ..store.faults import Conflict, StoreBusy
from ..store.records import JobState, SearchRecord
from ..store.store import Store
from ..worker.runner import Worker
from .connection import ServerFile, own_store, serve_in_thread
from .output import console, errors
from .show import print_front, print_report

__all__ = ["resume", "run"]


def run(settings: Settings, job_file: Path, output: Path | None, *, quiet: bool = False) -> int:
    """Run a job from its file to its deliverables.

    Where a server owns the store, the job goes through that server, whose rules hold (registered data, its own pool).

    Returns:
        The exit code: 0 succeeded, 1 failed, 130 interrupted.
    """
    try:
        with own_store(settings) as (store, _):
            from ..api.admission import admit

            record = store.create_search(admit(load_job(job_file, local=True)))
            return _follow(settings, store, record, output=output, quiet=quiet)
    except StoreBusy:
        url = ServerFile(settings).read()
        if url is None:
            raise
        with Client(url) as client:
            search = client.searches.create(job_file)
            return _wait(search, output=output or default_output(settings, search), quiet=quiet)


def resume(settings: Settings, search_id: str, output: Path | None, *, quiet: bool = False) -> int:
    """Continue an interrupted or paused search here, or ask the server that owns the store to."""
    try:
        with own_store(settings) as (store, _):
            record = store.search(search_id)
            if record.state is JobState.PAUSED:
                store.resume(record.id)
            elif record.state is not JobState.QUEUED and record.state is not JobState.RUNNING:
                raise Conflict(f"resume search {record.number}", record.state, ["paused", "queued", "running"])
            return _follow(settings, store, store.search(record.id), output=output, quiet=quiet)
    except StoreBusy:
        url = ServerFile(settings).read()
        if url is None:
            raise
        with Client(url) as client:
            search = client.searches.get(search_id).resume()
            return _wait(search, output=output or default_output(settings, search), quiet=quiet)


def default_output(settings: Settings, search: SearchHandle) -> Path:
    """``<runs>/<name>-<number>``."""
    return settings.runs_dir / f"{search.resource.name}-{search.resource.number}"


def _follow(settings: Settings, store: Store, record: SearchRecord, *, output: Path | None, quiet: bool) -> int:
    """Work on one search here, while a thread shows how it goes."""
    shutdown = threading.Event()
    worker = Worker(store, settings, shutdown=shutdown, interrupted_state=JobState.PAUSED)
    lease = store.claim(worker.name, job_id=record.id, ttl_s=settings.lease_ttl_s)
    if lease is None:
        raise Conflict(f"run search {record.number}", store.search(record.id).state, ["queued"])
    with serve_in_thread(settings, store) as url, Client(url) as client:
        search = client.searches.get(record.id)
        watcher = threading.Thread(target=search.wait, kwargs={"progress": not quiet}, name="watcher", daemon=True)
        watcher.start()
        with _gentle_interrupt(shutdown):
            worker.execute(lease)
        watcher.join(timeout=10)
        return _wait(search.refresh(), output=output or default_output(settings, search), quiet=quiet)


@contextlib.contextmanager
def _gentle_interrupt(shutdown: threading.Event) -> Iterator[None]:
    """The first Ctrl-C asks for a stop at the next safe point; the second one stops at once, which is safe too."""

    def ask(number: int, frame: FrameType | None) -> None:
        if shutdown.is_set():
            raise KeyboardInterrupt
        shutdown.set()
        errors.print("\nStopping at the next safe point; press Ctrl-C again to stop at once.")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _wait(search: SearchHandle, *, output: Path, quiet: bool) -> int:
    """Wait until the search has settled, say how it ended, and fetch its files."""
    resource = search.wait(progress=not quiet).resource
    if resource.state == "paused":
        console.print(f"Search {resource.number} is paused; continue it with: archsmith resume {resource.number}")
        return 130
    if resource.state != "succeeded":
        message = (resource.error or {}).get("message", "no message")
        console.print(f"Search {resource.number} {resource.state}: {message}", style="red")
        return 1
    print_front(search.front(view="verified"))
    print_report(search.report or {})
    files = search.download(output)
    console.print(f"\n{len(files)} files in {output}/")
    return 0
