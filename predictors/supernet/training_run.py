"""A training run in progress: the supernet, its optimiser, sampler and teacher, step by step.

Whatever a step depends on follows from (seed, step) or is part of `TrainingState`, so that a run that is restored
computes the same bits as one that never stopped.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from ...errors import PredictorError
from ..optimization import accuracy, learning_rate, make_optimizer, set_learning_rate
from ..runtime import thread_count
from ..tasks.task import Samples
from .calibration import Calibration
from .checkpoint import CheckpointStore, TrainingState, load_optimizer, optimizer_tensors, write_tensors
from .files import initialise_from
from .memory import is_out_of_memory, more_parts
from .path import LearningSampler
from .path import Path as SampledPath
from .samplers import LargestFirst, build_sampler
from .step import backward
from .teacher import FrozenTeacher, largest_now, read_teacher

if TYPE_CHECKING:
    from .trainer import SupernetTrainer

__all__ = ["TEACHER_FILE", "TrainingRun"]

TEACHER_FILE: Final = "teacher.safetensors"
"""Where a run keeps the largest network that it trained first and learns from."""

_HISTORY_POINTS: Final = 100


class TrainingRun:
    """The moving parts of one call of `SupernetTrainer.run`.

    Attributes:
        step: optimiser steps done.
        seconds: wall time of all steps.
        threads: that the steps run on.
        history: points of the progress, as `TrainedSupernet` describes them.

    Args:
        trainer: says what to train, and how.
    """

    def __init__(self, trainer: SupernetTrainer) -> None:
        settings = trainer.settings
        self.trainer, self.settings, self.device = trainer, settings, trainer.device
        self.dtype = torch.float64 if settings.precision == "float64" else torch.float32
        self.supernet = trainer.space.supernet(seed=trainer.seed)
        if (file := settings.initial_file) is not None:
            initialise_from(self.supernet, trainer.space, file)
        self.supernet.to(self.device, self.dtype)
        trainer.group.join(self.supernet)
        self._set_norms()
        self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on both devices
        self.optimizer = make_optimizer(
            self.supernet, settings.optimizer, weight_decay=settings.weight_decay, decay_norms=settings.decay_norms
        )
        self.sampler = build_sampler(trainer.space, settings, trainer.seed)
        inner = self.sampler.then if isinstance(self.sampler, LargestFirst) else self.sampler
        self.learner = inner if isinstance(inner, LearningSampler) else None
        self.parts = settings.accumulate if isinstance(settings.accumulate, int) else 1
        macs = int(trainer.space.macs(trainer.space.largest()[None])[0])
        self.threads = thread_count(macs * settings.batch_size, torch.get_num_threads())
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        self._calibration: Calibration | None = None
        self._teacher: FrozenTeacher | None = None

    def advance(self, store: CheckpointStore) -> None:
        """One optimiser step.

        Raises:
            PredictorError: the loss is no number any more, or memory ran out.
        """
        started = time.perf_counter()
        settings, group = self.settings, self.trainer.group
        rate = learning_rate(
            self.step, settings.steps, settings.learning_rate, settings.warmup, schedule=settings.schedule
        )
        set_learning_rate(self.optimizer, rate)
        batch = self.trainer.task.batch(self.step, settings.batch_size, self.trainer.seed, self.device)
        batch = group.part(batch).map_inputs(self._precise)
        self._let_sampler_learn()
        self.supernet.train()
        losses, logits = self._gradients(self.sampler.paths(self.step), batch)
        group.add_gradients(self.supernet.parameters())
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise PredictorError(self._diverged(loss, rate, store))
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_(self.supernet.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        self.step += 1
        if self.step % max(1, settings.steps // _HISTORY_POINTS) == 0 or self.step == settings.steps:
            point = {"step": float(self.step), "learning_rate": rate, "loss": loss}
            told = [accuracy(*batch.labelled(outputs)) for outputs in (logits[0], logits[-1])]
            share = group.share(batch)
            accuracies = group.total(torch.tensor(told, dtype=torch.float64, device=self.device) * share).tolist()
            point |= {"first_accuracy": accuracies[0], "last_accuracy": accuracies[1]}
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
                "parts": self.parts,
                "sampler": self.learner.state() if self.learner is not None else {},
            },
        )

    def restore(self, state: TrainingState) -> None:
        """Continue from a checkpoint."""
        self.supernet.load_state_dict(state.weights)
        load_optimizer(self.optimizer, state.optimizer)
        self.step, self.seconds = state.step, state.extra["seconds"]
        # Other numbers of threads or parts would split sums differently, and change the last bits.
        self.threads, self.parts = state.extra["threads"], state.extra["parts"]
        self.history = list(state.extra["history"])
        if self.learner is not None:
            self.learner.restore(state.extra["sampler"])

    def message(self) -> str:
        """The last figures, for a progress bar."""
        if not self.history:
            return "training the supernet"
        return f"loss {self.history[-1]['loss']:.3f}"

    def _set_norms(self) -> None:
        for _, norm in self.supernet.batch_norms():
            norm.tracking = self.settings.norm_statistics == "tracked"
            if not self.settings.affine_norms:  # scale and shift stay at 1 and 0, or as `initial` gave them
                for parameter in norm.parameters():
                    parameter.requires_grad_(False)

    def _gradients(self, paths: tuple[SampledPath, ...], batch: Samples) -> tuple[list[Tensor], list[Tensor]]:
        """Losses and logits of the paths, their gradients in place; in more parts if memory runs out and it may be."""
        teacher = self._meet_teacher()
        retries = self.settings.accumulate == "auto" and self.trainer.group.size == 1
        statistics = self.supernet.statistics() if retries and self.settings.norm_statistics == "tracked" else None
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                with self._autocast():
                    return backward(
                        self.supernet,
                        paths,
                        batch,
                        self.settings,
                        group=self.trainer.group,
                        parts=self.parts,
                        teacher=teacher,
                    )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                cause = str(error) or type(error).__name__
            # Outside of the handler, whose traceback holds the activations that did not fit. Where a group waits for
            # sums of losses, a process must not begin the step anew.
            self.parts = more_parts(self.parts, len(batch), automatic=retries, cause=cause)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # blocks of sizes that smaller parts do not ask for
            if statistics is not None:
                self.supernet.load_statistics(statistics)

    def _meet_teacher(self) -> FrozenTeacher | None:
        """The network that teaches in this step; None where the step's first path does."""
        settings, space = self.settings, self.trainer.space
        if settings.teacher == "first_path" or (settings.teacher == "largest" and self.step < settings.largest_steps):
            return None
        if self._teacher is None:
            own = self.trainer.directory / TEACHER_FILE
            file: Path = settings.teacher_file or own
            if settings.teacher == "largest" and self.step == settings.largest_steps:
                network = largest_now(self.supernet, space, self._calibrating())
                if self.trainer.group.rank == 0:
                    write_tensors(own, network.state_dict())
                self._teacher = FrozenTeacher(network, self.device, self.dtype)
            else:
                self._teacher = read_teacher(space, file, self.device, self.dtype)
        return self._teacher

    def _let_sampler_learn(self) -> None:
        """Score what the sampler asks for."""
        if self.learner is not None and len(genomes := self.learner.asks(self.step)):
            scores = self._calibrating().scores(self.supernet, self.trainer.space, genomes)
            self.learner.learn(self.step, genomes, scores)

    def _calibrating(self) -> Calibration:
        if self._calibration is None:
            self._calibration = Calibration(self.trainer.task, self.settings, self.device, dtype=self.dtype)
        return self._calibration

    def _autocast(self) -> AbstractContextManager[object]:
        reduced = self.device.type == "cuda" and self.settings.precision == "auto"
        return torch.autocast("cuda", torch.bfloat16) if reduced else nullcontext()

    def _precise(self, inputs: Tensor) -> Tensor:
        """Numbers in the precision of the weights; tokens unchanged."""
        return inputs.to(self.dtype) if inputs.is_floating_point() else inputs

    def _diverged(self, loss: float, rate: float, store: CheckpointStore) -> str:
        return (
            f"supernet training diverged: the loss is {loss} at step {self.step} with learning rate {rate:.3g}; "
            f"{store.last_good(self.step)}. Lower supernet.learning_rate (now {self.settings.learning_rate:g}) "
            "or set supernet.max_grad_norm."
        )
