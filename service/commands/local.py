"""`run` and `resume`: the whole job in this process, against the embedded store."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ..client.client import Client
from ..client.searches import SearchHandle
from ..client.transport import ApiError, ConnectionLostError
from ..jobfile import load_job, read_job
from ..measuring import Lab, registered_names
from ..settings import Settings
from ..store.faults import Conflict
from ..store.records import JobState, SearchRecord
from ..store.store import Store
from ..worker.runner import Worker
from .connection import ServerFile, serve_in_thread, store_or_server
from .output import console, errors
from .show import print_front, print_report

__all__ = ["default_output", "resume", "run"]

API_KEY = "ARCHSMITH_API_KEY"
MENDABLE = ("ConfigError", "InfeasibleError")
"""Reasons of a failure that lie in the job itself."""


def run(
    settings: Settings,
    job_file: Path,
    output: Path | None,
    *,
    quiet: bool = False,
    smoke: bool = False,
    data: Path | None = None,
) -> int:
    """Run a job from its file to its deliverables, on other data than the file says where `data` is given.

    Where a server owns the store, the job goes through that server, whose rules hold (registered data, its own pool).

    Returns:
        The exit code: 0 succeeded, 1 failed, 2 cannot work as it was asked, 130 interrupted.
    """
    with contextlib.ExitStack() as stack:
        found = store_or_server(settings, stack)
        if isinstance(found, str):
            client = stack.enter_context(Client(found, os.environ.get(API_KEY)))
            job_data = read_job(job_file, smoke=smoke, data=data)
            return _attend(settings, client.searches.create(job_data), output=output, quiet=quiet)
        from ..api.admission import admit

        job = load_job(job_file, local=True, registered=registered_names(found), smoke=smoke, data=data)
        lab = Lab(found, patience_s=None, server=settings.url)
        record = found.create_search(admit(job, lab))
        return _work(settings, found, record, output=output, quiet=quiet)


def resume(settings: Settings, search_id: str, output: Path | None, *, quiet: bool = False) -> int:
    """Continue an interrupted or paused search here, or ask the server that owns the store to."""
    with contextlib.ExitStack() as stack:
        found = store_or_server(settings, stack)
        if isinstance(found, str):
            search = stack.enter_context(Client(found, os.environ.get(API_KEY))).searches.get(search_id)
            if search.state not in (JobState.QUEUED, JobState.RUNNING):
                search.resume()
            return _attend(settings, search, output=output, quiet=quiet)
        record = found.search(search_id)
        if record.state is JobState.PAUSED:
            found.resume(record.id)
        elif record.state is not JobState.QUEUED and record.state is not JobState.RUNNING:
            raise Conflict(f"resume search {record.number}", record.state, ["paused", "queued", "running"])
        return _work(settings, found, found.search(record.id), output=output, quiet=quiet)


def default_output(settings: Settings, search: SearchHandle) -> Path:
    """``<runs>/<name>-<number>``."""
    return settings.runs_dir / f"{search.resource.name}-{search.resource.number}"


def _work(settings: Settings, store: Store, record: SearchRecord, *, output: Path | None, quiet: bool) -> int:
    """Work on one search here, while a thread shows how it goes."""
    shutdown = threading.Event()
    worker = Worker(store, settings, shutdown=shutdown, interrupted_state=JobState.PAUSED)
    lease = store.claim(worker.name, job_id=record.id, ttl_s=settings.lease_ttl_s)
    if lease is None:
        raise Conflict(f"run search {record.number}", store.search(record.id).state, ["queued"])
    with serve_in_thread(settings, store) as url, ServerFile(settings).told(url), Client(url) as client:
        search = client.searches.get(record.id)
        watcher = threading.Thread(target=_show, args=(search, not quiet), name="watcher", daemon=True)
        watcher.start()
        try:
            with _gentle_interrupt(shutdown):
                worker.execute(lease)
        except KeyboardInterrupt:
            _say_how_to_resume(record.number, "was stopped")
            return 130
        watcher.join(timeout=10)
        return _conclude(settings, search.refresh(), output)


def _show(search: SearchHandle, progress: bool) -> None:
    """Follow a search on the terminal; where the command ends before the search does, so does this."""
    with contextlib.suppress(ConnectionLostError, ApiError):
        search.wait(progress=progress)


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


def _attend(settings: Settings, search: SearchHandle, *, output: Path | None, quiet: bool) -> int:
    """Follow a search that a server works on."""
    number = search.resource.number
    try:
        search.wait(progress=not quiet)
    except KeyboardInterrupt:
        errors.print(f"\nSearch {number} goes on at the server; look at it with: archsmith show {number}")
        return 130
    return _conclude(settings, search, output)


def _conclude(settings: Settings, search: SearchHandle, output: Path | None) -> int:
    """Say how a search has ended, and fetch its files."""
    resource = search.resource
    if resource.state == "paused":
        _say_how_to_resume(resource.number, "is paused")
        return 130
    if resource.state != "succeeded":
        problem = resource.error or {}
        errors.print(f"Search {resource.number} {resource.state}: {problem.get('message', 'no message')}", style="red")
        return 2 if problem.get("reason") in MENDABLE else 1
    print_front(search.front(view="verified"))
    print_report(search.report or {})
    folder = output or default_output(settings, search)
    files = search.download(folder)
    console.print(f"\n{len(files)} files in {folder}/")
    return 0


def _say_how_to_resume(number: int, what: str) -> None:
    console.print(f"Search {number} {what}; continue it with: archsmith resume {number}")
