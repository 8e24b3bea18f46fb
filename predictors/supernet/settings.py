"""Settings of supernet training and scoring, with the reasons for their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ...errors import ConfigError
from ..optimization import OPTIMIZERS, SCHEDULES
from .files import content_hash
from .losses import DISTILLATIONS
from .memory import LEAST_SAMPLES
from .samplers import SAMPLERS

__all__ = ["EXHAUSTIVE", "ONE_SHOT", "PRECISIONS", "RANDOM", "SHARINGS", "STATISTICS", "TEACHERS", "SupernetSettings"]

EXHAUSTIVE: Final = "exhaustive"
"""The value of `sharing` for a set of weights per value of a gene."""

ONE_SHOT: Final = "one_shot"
"""The value of `sharing` for one set of weights."""

SHARINGS: Final = (EXHAUSTIVE, "gradient_matching", ONE_SHOT)
"""How much of a space shares one set of weights."""

PRECISIONS: Final = ("auto", "float32", "float64")
"""What a supernet is trained in."""

STATISTICS: Final = ("batch", "calibrated", "tracked")
"""By what batch norms normalise while a subnet is scored."""

TEACHERS: Final = ("first_path", "largest")
"""Who teaches, beside a network from a file."""

RANDOM: Final = "random"
"""The value of `initial` for weights drawn from the seed."""

_SHRINKING, _ALONE = "progressive_shrinking", 0.3
"""The sampler whose schedule begins with the largest network alone, and its share of the steps."""


_INTEGERS: Final[Mapping[str, int]] = {
    "batch_size": LEAST_SAMPLES,
    "calibration_batch_size": LEAST_SAMPLES,
    "calibration_batches": 1,
    "checkpoint_every": 1,
    "predictor_fits": 1,
    "predictor_scores": 5,
    "random_paths": 0,
    "rivals": 1,
    "scoring_samples": 1,
    "split_steps": 1,
    "splits": 1,
    "steps": 1,
    "workers": 1,
}
"""Least value by name."""

_NUMBERS: Final[Mapping[str, tuple[float, float | None]]] = {
    "label_smoothing": (0.0, 0.999),
    "label_weight": (0.0, None),
    "learning_rate": (1e-9, None),
    "max_grad_norm": (0.0, None),
    "size_power": (0.0, None),
    "smallest_share": (0.0, 1.0),
    "split_learning_rate": (1e-9, None),
    "temperature": (1e-9, None),
    "warmup": (0.0, 0.999),
    "warmup_largest": (0.0, 0.999),
    "weight_decay": (0.0, None),
}
"""Least and largest value by name."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "distillation": tuple(DISTILLATIONS),
    "norm_statistics": STATISTICS,
    "optimizer": OPTIMIZERS,
    "precision": PRECISIONS,
    "sampler": tuple(SAMPLERS),
    "schedule": tuple(SCHEDULES),
    "sharing": SHARINGS,
}
"""Allowed values by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetSettings:
    """How a supernet is trained and how its subnets are scored.

    The defaults were chosen by how supernets rank on two small spaces, which `benchmarks/supernet_ranking.py` measures
    and ``docs/supernets.md`` tells: several random paths per step, from labels; a high learning rate; and batch norms
    without scale and shift. The sandwich rule ranks as well where larger choices are better, and worse on cells, whose
    "largest" network is one like others.

    Attributes:
        sharing: ``one_shot``, all architectures share one set of weights; or after a common beginning the space is
            split at a gene, and parts share apart: ``exhaustive``, a part for each of the gene's values;
            ``gradient_matching``, two parts of values whose gradients agree.
        splits: how often the space, and each of its parts, is split.
        split_steps: optimiser steps of every part, after the `steps` of the whole.
        split_learning_rate: peak, for the parts.
        workers: processes that share the training, each with its part of every batch, started by Ray Train; with more
            than one, the last bits of the weights may differ. `batch_size` is that of all together.
        precision: ``auto`` (bfloat16 products on CUDA, float32 on CPUs), ``float32``, or ``float64`` to compare runs.
        steps: optimiser steps; each trains every path that the sampler draws.
        batch_size: images per step; all paths of a step see the same images.
        sampler: which paths a step trains, one of `SAMPLERS`.
        random_paths: random paths per step, beside the largest and the smallest where the sampler runs these.
        rivals: candidates per random path of the attentive samplers.
        predictor_fits: how often the sampler ``predictor_weighted`` fits its predictor, evenly over the training.
        predictor_scores: architectures that the shared weights score for each fit.
        size_power: the sampler ``parallel`` weighs the loss of a sub-model by its share of the parameters to this
            power; 0 weighs all the same.
        smallest_share: of the steps that train the smallest path; 1 is the published sandwich rule. A path trained in
            every step is believed better than it becomes alone (94.7 % against 90.1 %), which misleads a search at
            the small end; never singled out, it scores 89.2 %.
        warmup_largest: share of the steps, at the beginning, that train the largest network alone, whatever the
            sampler. The sampler ``progressive_shrinking`` does so for 0.3 of them where this is 0.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: peak; reached after the warm-up.
        schedule: what follows the warm-up, one of `SCHEDULES`: ``cosine``, ``cosine_power`` and ``linear`` end at 0,
            ``step`` takes a tenth after a half and after three quarters.
        warmup: share of the steps with a rising learning rate.
        weight_decay: on weights.
        decay_norms: whether biases and norms decay, too.
        affine_norms: whether batch norms learn a scale and a shift; a scale that many subnets share fits none of them.
        norm_statistics: by what batch norms normalise while a subnet is scored: ``calibrated``, averages for exactly
            this subnet; ``tracked``, running averages over all paths of the training; ``batch``, those of the scored
            samples. Networks that leave the supernet are calibrated, but where the statistics are tracked.
        label_smoothing: in every loss of labels.
        distillation: the loss of paths that learn from a teacher, one of `DISTILLATIONS`.
        teacher: ``first_path`` of the step, in place; ``largest``, the largest network as it is after `warmup_largest`;
            or a path of safetensors with a trained network of the space. The latter two teach every path.
        label_weight: of the labels' loss, added to that of paths that learn from a teacher; 1 in once-for-all.
        temperature: of the soft targets; the gradient is scaled by its square.
        accumulate: ``none``; a number of parts that every batch is run in, one after the other, with the gradients
            added up; or ``auto``, which doubles the number of parts whenever memory runs out.
        initial: ``random``, or a path of safetensors with a network of the space, whose weights are shared at first.
        max_grad_norm: gradients longer than this are shortened; 0 = never.
        checkpoint_every: steps between two checkpoints.
        calibration_batches: training batches that a subnet's batch-norm statistics are averaged over.
        calibration_batch_size: samples in each of them.
        scoring_samples: validation samples a score is computed on, spread evenly over the split; all where it has
            fewer. 1000 resolve 0.1 %.
    """

    sharing: str = ONE_SHOT
    splits: int = 1
    split_steps: int = 350
    split_learning_rate: float = 0.2
    workers: int = 1
    precision: str = "auto"
    steps: int = 700
    batch_size: int = 64
    sampler: str = "uniform"
    random_paths: int = 4
    rivals: int = 3
    predictor_fits: int = 10
    predictor_scores: int = 32
    size_power: float = 0.0
    smallest_share: float = 1.0
    warmup_largest: float = 0.0
    optimizer: str = "sgd"
    learning_rate: float = 0.2
    schedule: str = "cosine"
    warmup: float = 0.1
    weight_decay: float = 5e-4
    decay_norms: bool = False
    affine_norms: bool = False
    norm_statistics: str = "calibrated"
    label_smoothing: float = 0.1
    distillation: str = "soft_targets"
    teacher: str = "first_path"
    label_weight: float = 0.0
    temperature: float = 1.0
    accumulate: int | str = "none"
    initial: str = RANDOM
    max_grad_norm: float = 5.0
    checkpoint_every: int = 100
    calibration_batches: int = 1
    calibration_batch_size: int = 256
    scoring_samples: int = 1000

    def __post_init__(self) -> None:
        for name, low in _INTEGERS.items():
            _check_int(name, getattr(self, name), low)
        for name, (low, high) in _NUMBERS.items():
            _check_number(name, getattr(self, name), low, high)
        for name, allowed in _NAMES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"supernet.{name}", getattr(self, name), ", ".join(allowed))
        for name in ("decay_norms", "affine_norms"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"supernet.{name}", getattr(self, name), "true or false")
        for name in ("initial", "teacher"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"supernet.{name}", getattr(self, name), "a name or a path")
        if self.batch_size < self.workers:
            raise ConfigError("supernet.workers", self.workers, f"at most the batch_size, {self.batch_size}")
        if self.accumulate not in ("none", "auto"):
            most = self.batch_size // self.workers // LEAST_SAMPLES
            if isinstance(self.accumulate, bool | str) or not 1 <= self.accumulate <= most:
                allowed = f"none, auto, or a number of parts from 1 to {most}, of {LEAST_SAMPLES} samples at least"
                raise ConfigError("supernet.accumulate", self.accumulate, allowed)
        if self.sharing != ONE_SHOT and self.workers > 1:
            raise ConfigError("supernet.sharing", self.sharing, f"{ONE_SHOT}, with several workers")
        if self.norm_statistics == "tracked" and self.workers > 1:
            raise ConfigError("supernet.norm_statistics", "tracked", "batch or calibrated, with several workers")
        if self.teacher == "largest" and not self.largest_steps:
            raise ConfigError("supernet.teacher", "largest", "this teacher with a warmup_largest above 0")

    @property
    def largest_steps(self) -> int:
        """Steps at the beginning that train the largest network alone."""
        share = self.warmup_largest or (_ALONE if self.sampler == _SHRINKING else 0.0)
        return round(share * self.steps)

    @property
    def total_steps(self) -> int:
        """Steps of all supernets together; where genes are split exhaustively, of those that have two values."""
        if self.sharing == ONE_SHOT:
            return self.steps
        return self.steps + (2 ** (self.splits + 1) - 2) * self.split_steps

    @property
    def teacher_file(self) -> Path | None:
        """The file of the network that teaches, if it comes from one."""
        return None if self.teacher in TEACHERS else Path(self.teacher)

    @property
    def initial_file(self) -> Path | None:
        """The file of the first shared weights, if they come from one."""
        return None if self.initial == RANDOM else Path(self.initial)

    def content(self) -> dict[str, Any]:
        """All settings by field name, for identities: a file stands for what is in it.

        Raises:
            PredictorError: a file cannot be read.
        """
        files = {"initial": self.initial_file, "teacher": self.teacher_file}
        return self.to_json() | {name: content_hash(path) for name, path in files.items() if path is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SupernetSettings:
        """Settings from a mapping by field name; raises ConfigError for an unknown name."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError(f"supernet.{name}", values[name], f"settings {', '.join(sorted(known))}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """All settings by field name; `from_json` takes them back."""
        return dataclasses.asdict(self)


def _check_int(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"supernet.{name}", value, f"an integer of at least {low}")


def _check_number(name: str, value: object, low: float, high: float | None) -> None:
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    if not number or not low <= value <= (float("inf") if high is None else high):  # type: ignore[operator]  # a number
        raise ConfigError(f"supernet.{name}", value, f"a number from {low:g}{'' if high is None else f' to {high:g}'}")
