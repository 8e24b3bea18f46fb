"""Settings of supernet training and scoring, with the reasons for their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError
from ..optimization import OPTIMIZERS
from .losses import DISTILLATIONS
from .samplers import SAMPLERS

__all__ = ["SupernetSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetSettings:
    """How a supernet is trained and how its subnets are scored.

    The defaults are the published sandwich rule, for about a minute of one core on the `mobilenet` preset `digits`. On
    the task `digits_shifted`, 33 random architectures were trained alone with two seeds each; Kendall's tau between
    the seeds is 0.34 [0.10, 0.56]. Mean tau of one supernet's scores (seed 0) with the two: 0.24 for 800 steps of
    largest, smallest and two random paths; 0.18 for the latter without the smallest; 0.25 for 700 and 0.39 for 500
    steps of largest and three random paths; 0.03 where all paths learn from labels; 0.21 for MACs instead of scores.
    With so few architectures and one seed the intervals overlap widely: hints, no proof, no reason to leave the rule.

    Attributes:
        steps: optimiser steps; each trains every path that the sampler draws. With many more, all subnets come close
            to the largest, and the differences drown.
        batch_size: images per step; all paths of a step see the same images.
        sampler: which paths a step trains, one of `SAMPLERS`.
        random_paths: random paths per step, beside the largest and the smallest where the sampler runs these.
        rivals: candidates per random path of the attentive samplers.
        smallest_share: of the steps that train the smallest path; 1 is the published sandwich rule. A path trained in
            every step is believed better than it becomes alone (94.7 % against 90.1 %), which misleads a search at
            the small end; never singled out, it scores 89.2 %.
        optimizer: ``adamw`` or ``sgd`` (Nesterov momentum 0.9).
        learning_rate: peak; reached after the warm-up, then a half cosine down to 0.
        warmup: share of the steps with a rising learning rate.
        weight_decay: on weights, not on biases and norms.
        label_smoothing: on the path that learns from labels.
        distillation: the loss of paths that learn from a teacher, one of `DISTILLATIONS`.
        temperature: of the soft targets; the gradient is scaled by its square.
        max_grad_norm: gradients longer than this are shortened; 0 = never.
        checkpoint_every: steps between two checkpoints.
        calibration_batches: training batches that a subnet's batch-norm statistics are averaged over.
        calibration_batch_size: images in each of them. Mean tau of one supernet with 64, 128 and 256: 0.28, 0.36, 0.43.
        scoring_samples: validation samples a score is computed on, spread evenly over the split; all where it has
            fewer. 1000 resolve 0.1 %.
    """

    steps: int = 700
    batch_size: int = 64
    sampler: str = "sandwich"
    random_paths: int = 2
    rivals: int = 3
    smallest_share: float = 1.0
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    warmup: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    distillation: str = "soft_targets"
    temperature: float = 1.0
    max_grad_norm: float = 5.0
    checkpoint_every: int = 100
    calibration_batches: int = 1
    calibration_batch_size: int = 256
    scoring_samples: int = 1000

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "calibration_batches", "scoring_samples"):
            _check_int(name, getattr(self, name), 1)
        for name in ("batch_size", "calibration_batch_size"):
            _check_int(name, getattr(self, name), 2)  # a batch norm needs more than one value
        _check_int("random_paths", self.random_paths, 0)
        _check_int("rivals", self.rivals, 1)
        for name in ("weight_decay", "max_grad_norm"):
            _check_number(name, getattr(self, name), 0.0, None)
        for name in ("learning_rate", "temperature"):
            _check_number(name, getattr(self, name), 1e-9, None)
        for name in ("warmup", "label_smoothing"):
            _check_number(name, getattr(self, name), 0.0, 0.999)
        _check_number("smallest_share", self.smallest_share, 0.0, 1.0)
        names = {"optimizer": OPTIMIZERS, "sampler": tuple(SAMPLERS), "distillation": tuple(DISTILLATIONS)}
        for name, allowed in names.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"supernet.{name}", getattr(self, name), ", ".join(allowed))

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
