"""How a command reaches a store: through the server that owns it, or through one of its own for as long as it runs.

Commands speak to a `Client` only. Where no server owns the store, the command owns it for a moment: it takes the lock,
serves the API on a free loopback port from a thread, and speaks to that. There is one way to read a search, not two.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from ...errors import StoreError
from ..client.client import Client
from ..settings import Settings
from ..store.faults import StoreBusy
from ..store.lock import StoreLock
from ..store.store import Store

__all__ = ["ServerFile", "connect", "own_store", "serve_in_thread", "sqlite_path", "store_or_server"]

START_LIMIT_S: Final = 30.0
PATIENCE_S: Final = 5.0


def sqlite_path(settings: Settings) -> Path | None:
    """The store's file, or None where the store is no file."""
    url = make_url(settings.store_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


class ServerFile:
    """Where the server of this store listens, for commands of the same user; advice, not proof.

    Args:
        settings: name the folder and the store.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.runs_dir / "server.json"
        path = sqlite_path(settings)
        self._store = make_url(settings.store_url).render_as_string() if path is None else str(path.resolve())

    def write(self, url: str) -> None:
        """Tell where the server listens."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps({"url": url, "store": self._store}), encoding="utf-8")
        draft.replace(self._path)

    def read(self) -> str | None:
        """The address last told by a server of this store, or None."""
        try:
            told = json.loads(self._path.read_text(encoding="utf-8"))
            return str(told["url"]) if told["store"] == self._store else None
        except (OSError, ValueError, KeyError):
            return None

    def clear(self) -> None:
        """The server has ended."""
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def told(self, url: str) -> Iterator[None]:
        """Tell where the server listens for as long as the block runs."""
        self.write(url)
        try:
            yield
        finally:
            self.clear()


@contextlib.contextmanager
def own_store(settings: Settings, *, patience_s: float = 0.0) -> Iterator[tuple[Store, StoreLock | None]]:
    """The store, opened by its owner; a SQLite file is locked for as long as the block runs.

    Args:
        settings: name the store.
        patience_s: how long to wait for an owner that is about to end.

    Raises:
        StoreBusy: another process owns the file.
        StoreError: it cannot be opened.
    """
    path = sqlite_path(settings)
    lock = None if path is None else _acquire(path, patience_s)
    try:
        store = Store.open(settings.store_url, settings.artifacts_dir)
        try:
            if lock is not None:
                store.reclaim_all(f"owner of {path}")  # the lock proves that no worker of this file is alive
            yield store, lock
        finally:
            store.close()
    finally:
        if lock is not None:
            lock.release()


def _acquire(path: Path, patience_s: float) -> StoreLock:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return StoreLock.acquire(path)
        except StoreBusy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def serve_in_thread(settings: Settings, store: Store) -> Iterator[str]:
    """Serve the API on a free loopback port from a thread; yields its address."""
    from ..api.app import create_app, create_server

    private = settings.model_copy(
        update={"host": "127.0.0.1", "port": 0, "require_api_key": False, "log_level": "warning"}
    )
    server = create_server(create_app(private, store), private)
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_LIMIT_S
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise StoreError("The embedded server did not start; run `archsmith serve` to see why.")
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def store_or_server(settings: Settings, stack: contextlib.ExitStack) -> Store | str:
    """The store, owned until `stack` closes, or the address of the server that owns it.

    Another command may own the store for a moment, so a short while is waited.

    Raises:
        StoreBusy: something else owns the store, and goes on.
        StoreError: it cannot be opened.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return stack.enter_context(own_store(settings))[0]
        except StoreBusy:
            if url := ServerFile(settings).read():
                return url
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def connect(settings: Settings, server: str | None, api_key: str | None = None) -> Iterator[Client]:
    """A client of the server named, of the one that owns the store, or of one in this process."""
    with contextlib.ExitStack() as stack:
        found = store_or_server(settings, stack) if server is None else server
        url = found if isinstance(found, str) else stack.enter_context(serve_in_thread(settings, found))
        yield stack.enter_context(Client(url, api_key))
