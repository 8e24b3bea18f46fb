"""Training one set of shared weights for every architecture of a space.

All randomness of a step follows from (seed, step), so a run that is killed and resumed on the CPU ends with the same
bits as one that never stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import PredictorError
from ...spaces.space import SearchSpace
from ..optimization import pick_device
from ..runtime import torch_threads
from ..tasks.task import Task
from .checkpoint import CheckpointStore, write_tensors
from .distributed import ALONE, Group
from .settings import SupernetSettings
from .training_run import TrainingRun

__all__ = ["Progress", "SupernetTrainer", "TrainedSupernet", "TrainingInterrupted"]

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in total, and a short message."""


class TrainingInterrupted(Exception):  # noqa: N818  # a request that was honoured, not an error
    """Training was asked to stop and did; its last step is checkpointed and `run` continues from there.

    Args:
        step: steps done.
        checkpoint: the folder that holds them.
    """

    def __init__(self, step: int, checkpoint: Path) -> None:
        super().__init__(f"training stopped after step {step}; it resumes from {checkpoint}")
        self.step = step
        self.checkpoint = checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedSupernet:
    """What training leaves.

    Attributes:
        weights: the shared weights, safetensors.
        steps: optimiser steps done.
        seconds: wall time of all runs together.
        history: at most about a hundred points: step, learning_rate, loss (mean over the step's paths), and
            first_accuracy and last_accuracy, those of the first path (with the sandwich rule the largest network)
            and of the last (a random one) on the step's training batch.
        device: type of the device, ``cpu`` or ``cuda``.
    """

    weights: Path
    steps: int
    seconds: float
    history: tuple[dict[str, float], ...]
    device: str

    def summary(self) -> dict[str, Any]:
        """JSON-able: everything but the path."""
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "history": list(self.history),
            "device": self.device,
        }


class SupernetTrainer:
    """Trains the supernet of `space` on `task`.

    Args:
        space: must have a supernet.
        task: gives training batches.
        settings: how.
        seed: decides initial weights, batches and paths.
        directory: holds the checkpoints and, in the end, ``weights.safetensors``; may hold those of an earlier run.
        device: None = CUDA where there is one, else the CPU.
        group: the processes that train together, each of which runs a trainer with the same arguments; `directory`
            is one that all of them see.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        settings: SupernetSettings,
        *,
        seed: int,
        directory: Path,
        device: torch.device | str | None = None,
        group: Group = ALONE,
    ) -> None:
        self.space, self.task, self.settings, self.seed = space, task, settings, seed
        self.directory = Path(directory)
        self.device = pick_device(device)
        self.group = group
        content = [space.identity, task.identity, settings.content(), seed]
        self.identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def run(self, progress: Progress | None = None, should_stop: Callable[[], bool] | None = None) -> TrainedSupernet:
        """Train, from the last checkpoint if there is one.

        Args:
            progress: told after every step.
            should_stop: asked before every step.

        Raises:
            TrainingInterrupted: `should_stop` said so; the state is checkpointed.
            PredictorError: the loss is no number any more, memory ran out, the checkpoints belong to another run, or a
                file does not hold the network it should.
        """
        store = CheckpointStore(self.directory, self.identity)
        run = TrainingRun(self)
        if (state := store.load_last(self.device)) is not None:
            run.restore(state)
        self._check_together(run)
        with torch_threads(run.threads):
            self._train(run, store, progress, should_stop)
        weights = self.directory / "weights.safetensors"
        if self.group.rank == 0:
            write_tensors(weights, run.supernet.state_dict())
        return TrainedSupernet(
            weights=weights,
            steps=run.step,
            seconds=run.seconds,
            history=tuple(run.history),
            device=self.device.type,
        )

    def _train(
        self,
        run: TrainingRun,
        store: CheckpointStore,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        while run.step < self.settings.steps:
            if self.group.any(should_stop is not None and should_stop(), self.device):
                raise TrainingInterrupted(run.step, self._save(run, store))
            run.advance(store)
            if run.step % self.settings.checkpoint_every == 0 or run.step == self.settings.steps:
                self._save(run, store)
            if progress is not None:
                progress(run.step, self.settings.steps, run.message())

    def _save(self, run: TrainingRun, store: CheckpointStore) -> Path:
        """Store a checkpoint, by one process for all."""
        return store.save(run.state()) if self.group.rank == 0 else store.path(run.step)

    def _check_together(self, run: TrainingRun) -> None:
        steps = float(self.group.total(torch.tensor(float(run.step), device=self.device)))
        if self.group.any(steps != run.step * self.group.size, self.device):
            raise PredictorError(
                f"supernet training: process {self.group.rank} of {self.group.size} found its last checkpoint at step "
                f"{run.step}, others at another; {self.directory} must be one folder that all of them see."
            )
