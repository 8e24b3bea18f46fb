"""One owner per SQLite file: a lock that its worker children share, and that ends with the last of them.

The kernel holds the lock, so a killed owner leaves nothing to clean up; the pid in the file serves the message only.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ...errors import StoreError
from .faults import StoreBusy

__all__ = ["StoreLock"]


class StoreLock:
    """Exclusive ownership of a SQLite database file, by `flock` on ``<file>.lock``.

    A supervised child is started with ``pass_fds=[lock.fd]`` and calls `adopt`: it then shares the ownership, which
    lasts until parent and children have all ended.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def acquire(cls, database: Path) -> StoreLock:
        """Become the owner, or raise StoreBusy naming the process that is."""
        path = database.with_name(database.name + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"lock file {path} cannot be opened ({error.strerror}); the database's folder must be writable."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 64, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StoreBusy(
                f"{database} is owned by process {holder}: a SQLite store has one owner at a time. Submit to that "
                "server (archsmith submit), stop it first, or use PostgreSQL for several workers."
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return cls(path, fd)

    @classmethod
    def adopt(cls, database: Path, fd: int) -> StoreLock:
        """Share the parent's ownership through an inherited descriptor."""
        path = database.with_name(database.name + ".lock")
        try:
            same = os.path.samestat(os.fstat(fd), path.stat())
        except OSError as error:
            raise StoreError(
                f"descriptor {fd} is no lock on {path} ({error.strerror}); start the worker alone."
            ) from error
        if not same:
            raise StoreError(f"descriptor {fd} is open on another file than {path}; start the worker alone.")
        os.set_inheritable(fd, False)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(path, fd)

    def release(self) -> None:
        """Give up this process's share."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> StoreLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
