"""Training one set of shared weights for every architecture of a space.

All randomness of a step follows from (seed, step), so a run that is killed and resumed on the CPU ends with the same
bits as one that never stopped.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import PredictorError
from ...spaces.space import SearchSpace
from ..optimization import accuracy, learning_rate, make_optimizer, pick_device, set_learning_rate
from ..runtime import thread_count, torch_threads
from ..tasks.task import Task
from .checkpoint import CheckpointStore, TrainingState, load_optimizer, optimizer_tensors, write_tensors
from .samplers import SAMPLERS
from .settings import SupernetSettings
from .step import backward

__all__ = ["Progress", "SupernetTrainer", "TrainedSupernet", "TrainingInterrupted"]

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in total, and a short message."""

_HISTORY_POINTS = 100


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
    ) -> None:
        self.space, self.task, self.settings, self.seed = space, task, settings, seed
        self.directory = Path(directory)
        self.device = pick_device(device)
        content = [space.identity, task.identity, settings.to_json(), seed]
        self.identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def run(self, progress: Progress | None = None, should_stop: Callable[[], bool] | None = None) -> TrainedSupernet:
        """Train, from the last checkpoint if there is one.

        Args:
            progress: told after every step.
            should_stop: asked before every step.

        Raises:
            TrainingInterrupted: `should_stop` said so; the state is checkpointed.
            PredictorError: the loss is no number any more, or the checkpoints belong to another run.
        """
        store = CheckpointStore(self.directory, self.identity)
        run = _Run(self)
        if (state := store.load_last(self.device)) is not None:
            run.restore(state)
        with torch_threads(run.threads):
            self._train(run, store, progress, should_stop)
        weights = self.directory / "weights.safetensors"
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
        run: _Run,
        store: CheckpointStore,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        while run.step < self.settings.steps:
            if should_stop is not None and should_stop():
                raise TrainingInterrupted(run.step, store.save(run.state()))
            run.advance(store)
            if run.step % self.settings.checkpoint_every == 0 or run.step == self.settings.steps:
                store.save(run.state())
            if progress is not None:
                progress(run.step, self.settings.steps, run.message())


class _Run:
    """The moving parts of one call of `SupernetTrainer.run`."""

    def __init__(self, trainer: SupernetTrainer) -> None:
        settings = trainer.settings
        self.trainer, self.settings, self.device = trainer, settings, trainer.device
        self.supernet = trainer.space.supernet(seed=trainer.seed).to(self.device)
        self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on both devices
        self.optimizer = make_optimizer(self.supernet, settings.optimizer, weight_decay=settings.weight_decay)
        self.sampler = SAMPLERS[settings.sampler](trainer.space, settings, trainer.seed)
        macs = int(trainer.space.macs(trainer.space.largest()[None])[0])
        self.threads = thread_count(macs * settings.batch_size, torch.get_num_threads())
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []

    def advance(self, store: CheckpointStore) -> None:
        """One optimiser step."""
        started = time.perf_counter()
        rate = learning_rate(self.step, self.settings.steps, self.settings.learning_rate, self.settings.warmup)
        set_learning_rate(self.optimizer, rate)
        batch = self.trainer.task.batch(self.step, self.settings.batch_size, self.trainer.seed, self.device)
        self.supernet.train()
        self.optimizer.zero_grad(set_to_none=True)
        paths = self.sampler.paths(self.step)
        with self._autocast():
            losses, logits = backward(self.supernet, paths, batch, self.settings)
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise PredictorError(self._diverged(loss, rate, store))
        if self.settings.max_grad_norm:
            nn.utils.clip_grad_norm_(self.supernet.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.step += 1
        if self.step % max(1, self.settings.steps // _HISTORY_POINTS) == 0 or self.step == self.settings.steps:
            point = {"step": float(self.step), "learning_rate": rate, "loss": loss}
            accuracies = [accuracy(*batch.labelled(outputs)) for outputs in logits]
            point |= {"first_accuracy": accuracies[0], "last_accuracy": accuracies[-1]}
            self.history.append(point)
        self.seconds += time.perf_counter() - started

    def state(self) -> TrainingState:
        """What a checkpoint holds."""
        return TrainingState(
            step=self.step,
            weights=self.supernet.state_dict(),
            optimizer=optimizer_tensors(self.optimizer),
            extra={
                "seconds": self.seconds,
                "history": self.history,
                "seed": self.trainer.seed,
                "threads": self.threads,
            },
        )

    def restore(self, state: TrainingState) -> None:
        """Continue from a checkpoint."""
        self.supernet.load_state_dict(state.weights)
        load_optimizer(self.optimizer, state.optimizer)
        self.step, self.seconds = state.step, state.extra["seconds"]
        self.threads = state.extra["threads"]  # another number would split sums differently, and change the last bits
        self.history = list(state.extra["history"])

    def message(self) -> str:
        """The last figures, for a progress bar."""
        if not self.history:
            return "training the supernet"
        return f"loss {self.history[-1]['loss']:.3f}"

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def _diverged(self, loss: float, rate: float, store: CheckpointStore) -> str:
        # Weights stored after this many steps are those that just failed: the last good ones are older.
        saved = [step for step in store.steps() if step < self.step]
        last = f"last good checkpoint: {store.path(saved[-1])}" if saved else "there is no good checkpoint yet"
        return (
            f"supernet training diverged: the loss is {loss} at step {self.step} with learning rate {rate:.3g}; "
            f"{last}. Lower supernet.learning_rate (now {self.settings.learning_rate:g}) or set supernet.max_grad_norm."
        )
