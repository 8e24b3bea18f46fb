"""Export: each verified member becomes files that need no archsmith to run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from safetensors.torch import load_file

from ...spaces.export import export_network
from .alone import Trained
from .contracts import Interrupted, Recorder, ResultStore, Stage, StoredResult, VerifiedMember, identity_of
from .prepare import Setting
from .verify import Verification

__all__ = ["export_members"]

EXPORT_VERSION = 1
"""Raise it when the exported files change: stored ones are then written anew."""

KIND = "export"


def export_members(
    setting: Setting, verification: Verification, recorder: Recorder, store: ResultStore
) -> tuple[VerifiedMember, ...]:
    """Write the four files of every member and tell the recorder; what the store has is not exported again.

    Raises:
        Interrupted: the recorder asked to stop; what is written is kept.
    """
    chosen = list(zip(verification.members, verification.trained, strict=True))[: setting.plan.exported]
    stored = [store.find(KIND, _identity(trained)) for _, trained in chosen]
    recorder.stage(Stage.EXPORT, reused=None not in stored)
    members = list(verification.members)
    for index, ((member, trained), found) in enumerate(zip(chosen, stored, strict=True)):
        if reason := recorder.should_stop():
            raise Interrupted(reason)
        kept = found or _export(setting, trained, store)
        members[index] = dataclasses.replace(member, files=_files(kept.directory))
        recorder.progress(index + 1, len(chosen), f"{index + 1} of {len(chosen)} members exported")
    recorder.verified(members)
    return tuple(members)


def _identity(trained: Trained) -> str:
    return identity_of(network=trained.identity, version=EXPORT_VERSION)


def _export(setting: Setting, trained: Trained, store: ResultStore) -> StoredResult:
    network = setting.space.network(trained.architecture)
    network.load_state_dict(load_file(trained.weights))
    folder = store.scratch(KIND, _identity(trained)) / "output"
    shutil.rmtree(folder, ignore_errors=True)  # what a killed export has left half-written
    export_network(network.eval(), setting.space, trained.architecture, folder)
    return store.keep(KIND, _identity(trained), folder, {"key": trained.architecture.key})


def _files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
