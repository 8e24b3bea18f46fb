"""The contract of tasks: what networks are trained and scored on.

Lifecycle. A task is cheap to build and loads its data once, on first use. Training asks for `batch(step, ...)`, a pure
function of its arguments, so a run that resumes at step k needs no iterator state. Scoring takes ``split("valid")``.
The test split has a method of its own, so that nothing reaches it by passing a wrong name: only verification calls it.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import TaskError

__all__ = ["IGNORED", "SPLITS", "Samples", "Task", "shuffled_rows", "step_generator"]

SPLITS = ("train", "valid")
"""What `Task.split` gives; the test split is `Task.test_split`."""

IGNORED: Final = -100
"""Label of a position that is not scored, such as padding; what `cross_entropy` ignores too."""

ORDER_STREAM: Final = 1
"""Stream of the shuffled epochs; a task's other streams have other numbers."""

_SHARE_SEED: Final = 20_180_624
"""Decides which training samples belong to which share; differs from the seeds users give."""

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs with their labels.

    Attributes:
        inputs: [N, *input_shape] float32, normalised; or int64 tokens.
        labels: [N] int64 class indices; of sequences [N, T], `IGNORED` where there is nothing to tell.
        extra: further inputs of networks that take several, each with N rows, in the order of their arguments.
    """

    inputs: Tensor
    labels: Tensor
    extra: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All inputs, as a network takes them: ``network(*samples.tensors)``."""
        return (self.inputs, *self.extra)

    def map_inputs(self, change: Callable[[Tensor], Tensor]) -> Samples:
        """The same samples with every input changed."""
        return Samples(change(self.inputs), self.labels, tuple(change(tensor) for tensor in self.extra))

    def take(self, rows: Tensor | slice) -> Samples:
        """Some of the samples, in this order."""
        return Samples(self.inputs[rows], self.labels[rows], tuple(tensor[rows] for tensor in self.extra))

    def to(self, device: torch.device | str) -> Samples:
        """The same samples on another device."""
        return Samples(
            self.inputs.to(device), self.labels.to(device), tuple(tensor.to(device) for tensor in self.extra)
        )

    def labelled(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [R, K] and labels [R] of all that has a label: the N samples, or every scored position of sequences.

        Args:
            logits: [N, K], or [N, T, K] for labels [N, T].
        """
        if self.labels.ndim == 1:
            return logits, self.labels
        scored = self.labels != IGNORED
        return logits[scored], self.labels[scored]


class Task(ABC):
    """A data set with its splits, its training batches and its metric.

    Attributes:
        name: its name in the catalog.
        input_shape: of one sample, without the batch: (C, H, W).
        classes: number of classes; of tokens, where sequences are told.
        metric: what `scoring` measures; in [0, 1], larger is better. Of sequences it is the share of tokens told right.
        share: where, in a fixed order of all training samples, those begin and end that batches are drawn from.
    """

    share: tuple[float, float] = (0.0, 1.0)
    name: str
    input_shape: tuple[int, ...]
    classes: int
    metric: ClassVar[str] = "accuracy"

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each tensor that networks take, without the batch; one unless the task says otherwise."""
        return (tuple(self.input_shape),)

    @property
    def sizes(self) -> Mapping[str, int]:
        """By name, options of a space that must be at least so large for its networks to tell all that is asked."""
        return {"classes": self.classes}

    @property
    @abstractmethod
    def options(self) -> Mapping[str, object]:
        """JSON-able options that decide the data; part of the identity."""

    @property
    def identity(self) -> str:
        """Stable name of exactly this task: equal identities give equal samples."""
        content = json.dumps({"name": self.name, "options": dict(self.options)}, sort_keys=True)
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    @abstractmethod
    def batch(self, step: int, size: int, seed: int, device: torch.device = _CPU) -> Samples:
        """The training batch of a step: always the same for the same arguments, augmented on `device`."""

    def sharing(self, low: float, high: float) -> Self:
        """This task with batches of a part of its training samples alone; parts that do not overlap share no sample.

        Raises:
            TaskError: the part is empty or lies outside [0, 1].
        """
        if not 0 <= low < high <= 1:
            raise TaskError(
                f"task {self.name!r}: got the share from {low} to {high} of the training samples; "
                "allowed: 0 <= low < high <= 1."
            )
        part = copy.copy(self)
        part.share = (low, high)
        return part

    def rows(self, count: int, step: int, size: int, seed: int) -> Tensor:
        """[size] int64, the rows of `count` training samples that the batch of a step holds: shuffled epochs.

        Raises:
            TaskError: there is no sample in this task's share.
        """
        if self.share == (0.0, 1.0):
            return shuffled_rows(count, step * size, size, seed)
        low, high = (round(part * count) for part in self.share)
        if low == high:
            raise TaskError(
                f"task {self.name!r}: no training sample of {count} is in the share {self.share}; widen it."
            )
        own = self._share_order(count)[low:high]
        return own[shuffled_rows(len(own), step * size, size, seed)]

    def _share_order(self, count: int) -> Tensor:
        """[count] the order of the training samples of which shares are cut."""
        return _epoch(count, 0, _SHARE_SEED)

    def split(self, name: str) -> Samples:
        """The fixed samples of ``train`` or ``valid``, on the CPU.

        Raises:
            TaskError: any other name; ``test`` is refused with a word on who may touch it.
        """
        if name not in SPLITS:
            hint = " The test split is for verification alone: call test_split()." if name == "test" else ""
            raise TaskError(f"task {self.name!r} has no split {name!r} here; allowed: {', '.join(SPLITS)}.{hint}")
        return self._samples(name)

    def test_split(self) -> Samples:
        """The fixed test samples. Choosing anything by them makes every reported test accuracy too good."""
        return self._samples("test")

    @abstractmethod
    def _samples(self, split: str) -> Samples:
        """The fixed samples of ``train``, ``valid`` or ``test``."""


def shuffled_rows(count: int, start: int, size: int, seed: int) -> Tensor:
    """[size] of `count` rows, from position `start` of an endless sequence of shuffled epochs.

    >>> sorted(torch.cat([shuffled_rows(6, 0, 4, seed=1), shuffled_rows(6, 4, 2, seed=1)]).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    epochs = range(start // count, (start + size - 1) // count + 1)
    return torch.cat([_epoch(count, epoch, seed) for epoch in epochs])[start - epochs[0] * count :][:size]


@functools.lru_cache(maxsize=8)
def _epoch(count: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=step_generator(seed, epoch, ORDER_STREAM))


def step_generator(seed: int, step: int, stream: int, device: torch.device = _CPU) -> torch.Generator:
    """A generator that depends on (seed, step, stream) alone; different streams are independent."""
    state = np.random.SeedSequence([seed, step, stream]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed((int(state[0]) << 31) ^ int(state[1]))
