"""Artifact files: named by the SHA-256 of their content, written once and durably, never changed."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...errors import StoreError

__all__ = ["ArtifactFiles"]

_CHUNK = 1 << 20


class ArtifactFiles:
    """A folder of files ``ab/abcdef…``; nothing a caller says becomes part of a path.

    Args:
        folder: created when the first file is added.
        quota_bytes: total size that is not exceeded, or None.
    """

    def __init__(self, folder: Path, quota_bytes: int | None = None) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes

    def add(self, source: Path | bytes) -> tuple[str, int]:
        """Copy content in; returns its SHA-256 and size once it would survive a power cut.

        Raises:
            StoreError: the source cannot be read, the quota or the disk is full, or the folder is not writable.
        """
        temporary: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".incoming-")
            temporary = Path(name)
            digest, size = self._copy(source, handle)
            target = self._target(digest)
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                os.replace(temporary, target)
                _sync_folder(target.parent)
                _sync_folder(self.folder)
        except OSError as error:
            raise _explain(error, self.folder) from error
        finally:
            if temporary is not None:
                with suppress(FileNotFoundError):
                    temporary.unlink()
        return digest, size

    def path(self, sha256: str) -> Path:
        """Where content lies; raises StoreError if it is gone."""
        target = self._target(sha256)
        if not target.is_file():
            raise StoreError(
                f"artifact file {target} is missing; restore the artifact folder from the backup of this store."
            )
        return target

    def used_bytes(self) -> int:
        """Total size of the files."""
        if not self.folder.is_dir():
            return 0
        return sum(path.stat().st_size for path in self.folder.glob("??/*"))

    def _target(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _copy(self, source: Path | bytes, handle: int) -> tuple[str, int]:
        room = None if self.quota_bytes is None else self.quota_bytes - self.used_bytes()
        digest = hashlib.sha256()
        size = 0
        with os.fdopen(handle, "wb") as out:
            for chunk in _chunks(source):
                size += len(chunk)
                if room is not None and size > room:
                    raise StoreError(
                        f"artifact folder {self.folder}: its quota of {self.quota_bytes} bytes is full ({room} left). "
                        "Delete searches you no longer need, or raise the quota."
                    )
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        return digest.hexdigest(), size


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(error: OSError, folder: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(f"artifact folder {folder}: the disk is full ({error.strerror}); free space, then resume.")
    place = error.filename or folder
    return StoreError(
        f"artifact folder {folder}: {place}: {error.strerror}; name a folder that exists and is writable."
    )
