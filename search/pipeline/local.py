"""The pipeline without a service: a recorder in memory and a result store in a folder, for scripts and tests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..study import MemoryRecorder
from .contracts import Checkpoint, Stage, StoredResult, VerifiedMember

__all__ = ["FolderStore", "ScriptRecorder"]

SUMMARY = "summary.json"


class FolderStore:
    """Keeps results as folders ``<root>/<kind>/<identity>``, written beside and renamed into place.

    Args:
        root: made if needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, kind: str, identity: str) -> StoredResult | None:
        """The stored result, or None."""
        folder = self.root / kind / identity
        if not (folder / SUMMARY).is_file():
            return None
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return StoredResult(directory=folder / "files", summary=summary)

    def keep(self, kind: str, identity: str, directory: Path, summary: Mapping[str, object]) -> StoredResult:
        """Copy the files of `directory` and drop their scratch folder; the first result of an identity stays."""
        folder = self.root / kind / identity
        if not folder.exists():
            fresh = folder.with_name(f"{identity}.{os.getpid()}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(directory, fresh / "files")
            (fresh / SUMMARY).write_text(json.dumps(dict(summary), indent=2), encoding="utf-8")
            fresh.rename(folder)
        shutil.rmtree(self.root / "scratch" / kind / identity, ignore_errors=True)
        stored = self.find(kind, identity)
        assert stored is not None
        return stored

    def evaluated(self, recipe: str, seed: int, keys: Sequence[str], *, fidelity: float = 1.0) -> Mapping[str, float]:
        """Values of architectures that were evaluated by this recipe and seed, at this fidelity, before."""
        values = self._evaluations(recipe, seed, fidelity)
        return {key: values[key] for key in keys if key in values}

    def keep_evaluated(self, recipe: str, seed: int, values: Mapping[str, float], *, fidelity: float = 1.0) -> None:
        """Remember them, in one file per recipe, seed and fidelity that is replaced as a whole."""
        path = self._evaluation_file(recipe, seed, fidelity)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.new")
        draft.write_text(json.dumps(dict(values) | self._evaluations(recipe, seed, fidelity)), encoding="utf-8")
        draft.replace(path)

    def _evaluations(self, recipe: str, seed: int, fidelity: float) -> dict[str, float]:
        path = self._evaluation_file(recipe, seed, fidelity)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _evaluation_file(self, recipe: str, seed: int, fidelity: float) -> Path:
        return self.root / "evaluations" / f"{recipe}-{seed}-{fidelity!r}.json"

    def scratch(self, kind: str, identity: str) -> Path:
        """A folder for unfinished work, the same one after a restart."""
        folder = self.root / "scratch" / kind / identity
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class ScriptRecorder(MemoryRecorder):
    """Keeps everything in memory and, where asked, shows progress.

    Args:
        show: called with stage, done, total and message.
    """

    def __init__(self, show: Callable[[str, float, float, str], None] | None = None) -> None:
        super().__init__()
        self.stages: list[tuple[Stage, bool]] = []
        self.members: tuple[VerifiedMember, ...] = ()
        self.final: dict[str, object] = {}
        self.reference_point: NDArray[np.float64] | None = None
        self.spent = (0.0, 0.0)
        self._show = show

    def stage(self, stage: Stage, *, reused: bool = False) -> None:
        """Remember the stages that began."""
        self.stages.append((stage, reused))

    def progress(self, done: float, total: float, message: str) -> None:
        """Show progress where asked."""
        if self._show is not None and self.stages:
            self._show(self.stages[-1][0], done, total, message)

    def checkpoint(self) -> Checkpoint | None:
        """What this recorder was told in an earlier run of the same plan."""
        if self.state is None:
            return None
        return Checkpoint(
            results=self.all,
            state=self.state,
            seconds=self.spent[0],
            watt_hours=self.spent[1],
            reference=self.reference_point,
        )

    def spend(self, seconds: float, watt_hours: float) -> None:
        """Remember what was spent."""
        self.spent = (seconds, watt_hours)

    def reference(self, reference: NDArray[np.float64]) -> None:
        """Remember the reference point."""
        self.reference_point = reference

    def verified(self, members: Sequence[VerifiedMember]) -> None:
        """Remember the verified members."""
        self.members = tuple(members)

    def report(self, report: Mapping[str, object]) -> None:
        """Remember the report."""
        self.final = dict(report)
