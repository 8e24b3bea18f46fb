"""Checkpoints of a training run: a folder per step, complete or absent.

A checkpoint is written beside its place and renamed into it when every byte is on disk, so a process killed at any
instant leaves either the old checkpoints or the old and the new. Tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import PredictorError

__all__ = ["CheckpointStore", "TrainingState", "load_optimizer", "optimizer_tensors", "write_tensors"]

_NAME = re.compile(r"step-(\d{9})")
_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Everything a run needs to continue.

    Attributes:
        step: optimiser steps done.
        weights: the module's `state_dict`.
        optimizer: as `optimizer_tensors` gives it.
        extra: JSON-able rest: history, seconds.
    """

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    extra: Mapping[str, Any]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        directory: their folder, made if missing.
        identity: hash of everything that decides the run; checkpoints of another run are refused.
    """

    def __init__(self, directory: Path, identity: str) -> None:
        self.directory = directory
        self.identity = identity
        directory.mkdir(parents=True, exist_ok=True)

    def steps(self) -> list[int]:
        """Steps that have a complete checkpoint, ascending."""
        found = (_NAME.fullmatch(entry.name) for entry in self.directory.iterdir() if entry.is_dir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.directory / f"step-{step:09d}"

    def last_good(self, failed: int) -> str:
        """In words: the newest checkpoint that a failure at step `failed` has not touched.

        Weights stored after that many steps are those that just failed, so it is an older one.
        """
        saved = [step for step in self.steps() if step < failed]
        return f"last good checkpoint: {self.path(saved[-1])}" if saved else "there is no good checkpoint yet"

    def save(self, state: TrainingState) -> Path:
        """Store a checkpoint and drop all but the last two."""
        target = self.path(state.step)
        if not target.exists():
            scratch = self.directory / f".writing-{state.step}-{os.getpid()}"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            write_tensors(scratch / "weights.safetensors", state.weights)
            write_tensors(scratch / "optimizer.safetensors", state.optimizer)
            content = {"identity": self.identity, "step": state.step, **state.extra}
            _write_synced(scratch / "state.json", json.dumps(content).encode())
            scratch.rename(target)
            _sync(self.directory)
        self._prune()
        return target

    def load_last(self, device: torch.device) -> TrainingState | None:
        """The newest checkpoint, or None if there is none.

        Raises:
            PredictorError: it belongs to another run, or cannot be read.
        """
        if not (steps := self.steps()):
            return None
        folder = self.path(steps[-1])
        try:
            content = json.loads((folder / "state.json").read_text())
            weights = load_file(folder / "weights.safetensors", device=str(device))
            optimizer = load_file(folder / "optimizer.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise PredictorError(
                f"checkpoint {folder}: cannot be read ({error}); remove this folder to go on from the one before it."
            ) from error
        if content.pop("identity") != self.identity:
            raise PredictorError(
                f"checkpoint {folder}: belongs to a run with another space, task, settings or seed; "
                "give this run a directory of its own, or remove the folder."
            )
        return TrainingState(step=content.pop("step"), weights=weights, optimizer=optimizer, extra=content)

    def _prune(self) -> None:
        for step in self.steps()[:-_KEPT]:
            shutil.rmtree(self.path(step))
        for leftover in self.directory.glob(".writing-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: ``<parameter index>.<key>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": value.contiguous()
        for index, entries in state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` gave; parameter groups keep their own options."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file so that `path` is either absent, old or complete, and on disk."""
    scratch = path.with_name(f".{path.name}.writing-{os.getpid()}")
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(content, scratch, metadata=None if metadata is None else dict(metadata))
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(path)
    _sync(path.parent)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
