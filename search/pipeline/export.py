"""Export: each verified member becomes files that need no archsmith to run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from safetensors.torch import load_file

from ...spaces.export import export_network
from .alone import standalone_identity
from .contracts import Recorder, ResultStore, Stage, VerifiedMember, identity_of
from .prepare import Setting
from .verify import Verification

__all__ = ["export_members"]

EXPORT_VERSION = 1
"""Raise it when the exported files change: stored ones are then written anew."""


def export_members(
    setting: Setting, verification: Verification, recorder: Recorder, store: ResultStore
) -> tuple[VerifiedMember, ...]:
    """Write the four files of every member and tell the recorder; what the store has is not exported again."""
    recorder.stage(Stage.EXPORT)
    members = []
    total = len(verification.members)
    for done, (member, trained) in enumerate(zip(verification.members, verification.trained, strict=True), start=1):
        identity = identity_of(network=standalone_identity(setting, trained.architecture), version=EXPORT_VERSION)
        found = store.find("export", identity)
        if found is None:
            network = setting.space.network(trained.architecture)
            network.load_state_dict(load_file(trained.weights))
            folder = store.scratch("export", identity)
            export_network(network.eval(), setting.space, trained.architecture, folder)
            found = store.keep("export", identity, folder, {"key": trained.architecture.key})
        members.append(dataclasses.replace(member, files=_files(found.directory)))
        recorder.progress(done, total, f"{done} of {total} members exported")
    recorder.verified(members)
    return tuple(members)


def _files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
