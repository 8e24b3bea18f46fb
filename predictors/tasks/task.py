"""The contract of tasks: what networks are trained and scored on.

Lifecycle. A task is cheap to build and loads its data once, on first use. Training asks for `batch(step, ...)`, a pure
function of its arguments, so a run that resumes at step k needs no iterator state. Scoring takes ``split("valid")``.
The test split has a method of its own, so that nothing reaches it by passing a wrong name: only verification calls it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import TaskError

__all__ = ["SPLITS", "Samples", "Task", "step_generator"]

SPLITS = ("train", "valid")
"""What `Task.split` gives; the test split is `Task.test_split`."""

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs with their labels.

    Attributes:
        inputs: [N, *input_shape] float32, normalised.
        labels: [N] int64 class indices.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Samples:
        """The same samples on another device."""
        return Samples(self.inputs.to(device), self.labels.to(device))


class Task(ABC):
    """A data set with its splits, its training batches and its metric.

    Attributes:
        name: its name in the catalog.
        input_shape: of one sample, without the batch: (C, H, W).
        classes: number of classes.
        metric: what `scoring` measures; in [0, 1], larger is better.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int
    metric: ClassVar[str] = "accuracy"

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


def step_generator(seed: int, step: int, stream: int, device: torch.device = _CPU) -> torch.Generator:
    """A generator that depends on (seed, step, stream) alone; different streams are independent."""
    state = np.random.SeedSequence([seed, step, stream]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed((int(state[0]) << 31) ^ int(state[1]))
