"""The result store of the service: stage outputs as content-addressed artifacts, laid out in folders when needed."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ...errors import StoreError
from ...search.pipeline.contracts import StoredResult
from ..store.faults import NotFound
from ..store.records import TERMINAL, Lease, StoredResultRecord
from ..store.store import Store

__all__ = ["DatabaseResultStore", "media_type", "tidy"]

WORK: Final = "work"

MEDIA_TYPES: Final = {
    ".json": "application/json",
    ".npz": "application/x-npz",
    ".onnx": "application/onnx",
    ".pt2": "application/zip",
    ".safetensors": "application/octet-stream",
}


def media_type(name: str) -> str:
    """Media type of a deliverable by its ending."""
    return MEDIA_TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def tidy(store: Store, runs: Path) -> None:
    """Remove the work folders of searches that have ended; what others may still need stays."""
    for folder in sorted((runs / WORK).glob("*")):
        with contextlib.suppress(NotFound):  # of another store
            if store.job(folder.name).state in TERMINAL:
                shutil.rmtree(folder, ignore_errors=True)


class DatabaseResultStore:
    """Keeps stage outputs in the store; a worker reads them as a folder of files.

    Args:
        store: database and artifact folder.
        lease: fences what is written.
        runs: holds ``work/<search>``, with stored folders laid out (`stored`) and unfinished work (`scratch`). Every
            search has its own, so that two that train the same supernet on one machine do not share checkpoints.
    """

    def __init__(self, store: Store, lease: Lease, runs: Path) -> None:
        self._store = store
        self._lease = lease
        self._runs = runs
        self._cache = runs / WORK / lease.job_id / "stored"
        self._scratch = runs / WORK / lease.job_id / "scratch"

    def evaluated(self, recipe: str, seed: int, keys: Sequence[str], *, fidelity: float = 1.0) -> Mapping[str, float]:
        """Values of architectures that were evaluated by this recipe and seed before."""
        return self._store.evaluated(recipe, keys, seed=seed, fidelity=fidelity)

    def keep_evaluated(self, recipe: str, seed: int, values: Mapping[str, float], *, fidelity: float = 1.0) -> None:
        """Remember them."""
        if values:
            self._store.keep_evaluated(self._lease, recipe, values, seed=seed, fidelity=fidelity)

    def find(self, kind: str, identity: str) -> StoredResult | None:
        """The stored result with its files in a folder, or None."""
        record = self._store.get_stored(kind, identity)
        return self._lay_out(record) if record is not None else None

    def keep(self, kind: str, identity: str, directory: Path, summary: Mapping[str, object]) -> StoredResult:
        """Store every file of `directory` with the summary, then drop the scratch folder of this result."""
        files = {
            path.relative_to(directory).as_posix(): self._store.add_artifact(
                path, name=path.name, media_type=media_type(path.name)
            ).id
            for path in sorted(directory.rglob("*"))
            if path.is_file() and not path.name.startswith(".")  # hidden: what a killed process was writing
        }
        record = self._store.put_stored(kind, identity, summary=dict(summary), files=files, lease=self._lease)
        stored = self._lay_out(record)
        shutil.rmtree(self._scratch / kind / identity, ignore_errors=True)
        return stored

    def scratch(self, kind: str, identity: str) -> Path:
        """A folder for unfinished work, the same one after a kill and a restart on this machine."""
        folder = self._scratch / kind / identity
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"runs_dir {self._runs}: {error.strerror}; it must be a folder that can be written. "
                "Set ARCHSMITH_RUNS_DIR."
            ) from error
        return folder

    def _lay_out(self, record: StoredResultRecord) -> StoredResult:
        folder = self._cache / record.kind / record.identity
        if not folder.is_dir():
            for leftover in folder.parent.glob(f"{record.identity}.new*"):
                shutil.rmtree(leftover, ignore_errors=True)
            fresh = folder.with_name(f"{record.identity}.new{os.getpid()}")
            fresh.mkdir(parents=True)
            for name, artifact in record.files.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._store.artifact_path(artifact), fresh / name)
            fresh.rename(folder)
        return StoredResult(directory=folder, summary=record.summary)
