"""`serve` and `worker`: the service, and the process that does its work.

The server supervises its worker as a child process: the API answers while a network trains, and a crash of the one is
not the end of the other. On SQLite the child shares the server's ownership of the file through the inherited lock, so
that a new server cannot start while an orphan still works.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Final

import structlog

from ...errors import ConfigError, StoreError
from ..settings import Settings
from ..store.lock import StoreLock
from ..store.store import Store
from ..worker.runner import Worker
from .connection import ServerFile, own_store, sqlite_path
from .output import console

__all__ = ["serve", "work"]

TAKE_OVER_S: Final = 5.0
"""How long a server waits for its predecessor's worker to notice that it is alone."""
RESTART_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_S: Final = 120.0
"""A worker that lived this long starts again without delay."""
PR_SET_PDEATHSIG: Final = 1


def serve(settings: Settings, *, quiet: bool = False) -> int:
    """Run the server, and its worker where the settings ask for one, until SIGINT or SIGTERM."""
    from ..api.app import create_app, create_server

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        store, lock = stack.enter_context(own_store(settings, patience_s=TAKE_OVER_S))
        server = create_server(create_app(settings, store), settings)
        supervisor = Supervisor(settings, store, lock) if lock is not None or settings.worker_in_server else None
        stack.enter_context(ServerFile(settings).told(settings.url))
        if not quiet:
            console.print(f"Dashboard: {settings.url}  (store: {settings.store_url}; Ctrl-C stops)")
        if supervisor is not None:
            supervisor.start()
        try:
            server.run(sockets=[listener])
        finally:
            if supervisor is not None:
                supervisor.stop()
    return 0


def _listen(settings: Settings) -> socket.socket:
    """A socket on the settings' address, taken before anything is opened or written.

    Raises:
        ConfigError: the address is taken or is not this machine's.
    """
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        raise ConfigError(
            "host and port",
            f"{settings.host}:{settings.port}",
            "a free address of this machine",
            f"{error.strerror}. Is another server running? Choose another port with --port.",
        ) from error
    return listener


def work(settings: Settings, lock_fd: int | None = None, server_pid: int | None = None) -> int:
    """Run a worker until SIGINT or SIGTERM; with `lock_fd` and `server_pid` as the child of a server.

    Raises:
        StoreError: a SQLite file has an owner already; only that owner's own worker may join it.
    """
    if server_pid is not None and not _die_with(server_pid):
        return 1
    shutdown = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: shutdown.set())
    path = sqlite_path(settings)
    lock = None
    if path is not None:
        lock = StoreLock.acquire(path) if lock_fd is None else StoreLock.adopt(path, lock_fd)
    try:
        with Store.open(settings.store_url, settings.artifacts_dir) as store:
            if lock is not None:
                store.reclaim_all(f"worker {os.getpid()}")  # owning the file, it is the only worker
            Worker(store, settings, shutdown=shutdown).run()
    finally:
        if lock is not None:
            lock.release()
    return 0


def _die_with(server: int) -> bool:
    """Have the kernel kill this process when the server dies, however it dies; False: it is dead already.

    The kernel watches the thread that started us: the supervisor's, which lives as long as the server.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == server


class Supervisor:
    """Keeps one worker process running beside the server.

    Args:
        settings: passed on through the environment, and this process's arguments.
        store: to free the leases of a worker that died, where this process owns the store.
        lock: the ownership of a SQLite file that the worker shares; None = another database.
    """

    def __init__(self, settings: Settings, store: Store, lock: StoreLock | None) -> None:
        self._settings = settings
        self._store = store
        self._lock = lock
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the worker and watch it."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker at its next safe point, or after half a minute."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        log = structlog.get_logger().bind(part="supervisor")
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            child = self._spawn()
            while child.poll() is None and not self._stopping.wait(0.2):
                pass
            if self._stopping.is_set():
                _end(child)
                return
            failures = 0 if time.monotonic() - started > STEADY_S else failures + 1
            delay = RESTART_S[min(failures, len(RESTART_S)) - 1] if failures else 0.0
            log.error("worker ended", status=child.returncode, restart_in_s=delay)
            if self._lock is not None:
                self._free_leases(log)
            self._stopping.wait(delay)

    def _free_leases(self, log: structlog.stdlib.BoundLogger) -> None:
        try:
            self._store.reclaim_all("supervisor")  # its only worker is dead: nobody has to wait for the lease to expire
        except StoreError as error:
            log.warning("leases not freed", error=str(error))

    def _spawn(self) -> subprocess.Popen[bytes]:
        # The child binds itself to us. A function to run between fork and exec would take the locks of logging and of
        # imports here, in a thread, and could wait forever for a main thread that imports.
        command = [sys.executable, "-m", "archsmith.service.cli", "worker", "--server-pid", str(os.getpid())]
        descriptors: tuple[int, ...] = ()
        if self._lock is not None:
            command += ["--lock-fd", str(self._lock.fd)]
            descriptors = (self._lock.fd,)
        return subprocess.Popen(  # noqa: S603  # our own interpreter and module
            command,
            env=os.environ | self._settings.to_environment(),
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is the server's to handle
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
