"""Settings of gradient-based search: one group per kind of part, and the training of weights and choices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ...errors import ConfigError
from ...predictors.optimization import OPTIMIZERS
from ...predictors.optimization import SCHEDULES as RATES
from .cost_terms import BOUNDS, PENALTIES
from .derivation import DERIVATIONS
from .edges import EDGES
from .relaxations import RELAXATIONS
from .schedules import SCHEDULES

__all__ = [
    "ChoicesSettings",
    "CostSettings",
    "DerivationSettings",
    "GradientSettings",
    "RelaxationSettings",
    "ScheduleSettings",
]

ANNEALINGS: Final = ("exponential", "linear")


class _Group:
    """What all groups share: built from plain data by field name, and back."""

    __slots__ = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any], place: str) -> Self:
        """A group from a mapping by field name; raises ConfigError for an unknown name."""
        known = sorted(item.name for item in dataclasses.fields(cls))  # type: ignore[arg-type]  # subclasses are dataclasses
        for name in values:
            if name not in known:
                raise ConfigError(f"{place}.{name}", values[name], f"settings {', '.join(known)}")
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaxationSettings(_Group):
    """How parameters become a mixture.

    Attributes:
        name: one of `RELAXATIONS`.
        start: temperature at the beginning.
        end: and at the end.
        annealing: ``exponential`` or ``linear``.
        edges: how the edges of a node compete, one of `EDGES`.
        partial: only 1 in so many channels pass through operations (PC-DARTS).
    """

    name: str = "gumbel"
    start: float = 5.0
    end: float = 0.1
    annealing: str = "exponential"
    edges: str = "equal"
    partial: int = 1

    def __post_init__(self) -> None:
        _one_of("gradient.relaxation.name", self.name, RELAXATIONS)
        _one_of("gradient.relaxation.annealing", self.annealing, ANNEALINGS)
        _one_of("gradient.relaxation.edges", self.edges, EDGES)
        for name in ("start", "end"):
            _number(f"gradient.relaxation.{name}", getattr(self, name), 1e-6)
        _integer("gradient.relaxation.partial", self.partial, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSettings(_Group):
    """What a network may cost, and how that enters the loss of the choices.

    Attributes:
        quantity: label, as in objectives: ``latency_ms@host``, ``macs``, ``params``.
        penalty: one of `PENALTIES`.
        strength: of the penalty; None = as published.
        exponent: of the penalty; None = as published.
        bound: how the expected cost is held to the limit, one of `BOUNDS`.
        limit: in the quantity's unit; None = that of the job's constraint on the quantity, if there is one.
        rate: of the multiplier's ascent, per step.
        project_every: steps of the choices between two projections.
    """

    quantity: str = "macs"
    penalty: str = "none"
    strength: float | None = None
    exponent: float | None = None
    bound: str = "none"
    limit: float | None = None
    rate: float = 0.05
    project_every: int = 10

    def __post_init__(self) -> None:
        _one_of("gradient.cost.penalty", self.penalty, PENALTIES)
        _one_of("gradient.cost.bound", self.bound, BOUNDS)
        for name in ("strength", "exponent"):
            if getattr(self, name) is not None:
                _number(f"gradient.cost.{name}", getattr(self, name), 0.0)
        if self.limit is not None:
            _number("gradient.cost.limit", self.limit, 1e-300)
        _number("gradient.cost.rate", self.rate, 0.0)
        _integer("gradient.cost.project_every", self.project_every, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings(_Group):
    """What is learned when, and from which samples.

    Attributes:
        name: one of `SCHEDULES`.
        order: 2 looks one step of the weights ahead for the gradient of the choices, and takes four times as long.
        weights_share: of the training samples that the weights learn from; the choices learn from the others.
        warmup: share of the steps in which choices stay as they are.
        every: steps of the weights for one of the choices.
        samples: mixtures drawn for each update, whose gradients are averaged.
    """

    name: str = "bilevel"
    order: int = 1
    weights_share: float = 0.5
    warmup: float = 0.1
    every: int = 1
    samples: int = 1

    def __post_init__(self) -> None:
        _one_of("gradient.schedule.name", self.name, SCHEDULES)
        if self.order not in (1, 2):
            raise ConfigError("gradient.schedule.order", self.order, "1 or 2")
        if self.order == 2 and (self.name != "bilevel" or self.samples != 1):
            raise ConfigError("gradient.schedule.order", self.order, "1, unless the schedule is bilevel with 1 sample")
        _number("gradient.schedule.weights_share", self.weights_share, 0.01, 0.99)
        _number("gradient.schedule.warmup", self.warmup, 0.0, 0.99)
        for name in ("every", "samples"):
            _integer(f"gradient.schedule.{name}", getattr(self, name), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivationSettings(_Group):
    """How a network is derived at the end.

    Attributes:
        name: one of `DERIVATIONS`. Where its network breaks the limit, `feasible` takes over.
        least_use: share of the limit that a feasible network should at least cost, where one does: what is left
            unused is accuracy given away.
    """

    name: str = "feasible"
    least_use: float = 0.95

    def __post_init__(self) -> None:
        _one_of("gradient.derivation.name", self.name, DERIVATIONS)
        _number("gradient.derivation.least_use", self.least_use, 0.0, 0.999)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoicesSettings(_Group):
    """How architecture parameters are trained, by Adam.

    Attributes:
        learning_rate: constant.
        momentum: Adam's first beta; `binary_gates` want 0, or stale momentum moves choices that were not drawn.
        weight_decay: added to the gradient.
    """

    learning_rate: float = 0.01
    momentum: float = 0.5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _number("gradient.choices.learning_rate", self.learning_rate, 1e-12)
        _number("gradient.choices.momentum", self.momentum, 0.0, 0.999)
        _number("gradient.choices.weight_decay", self.weight_decay, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSettings:
    """A gradient-based search: relaxation, cost, schedule and derivation, each of which goes with every other.

    Attributes:
        relaxation, cost, schedule, derivation, choices: see there; without `cost` accuracy alone counts.
        steps: optimiser steps of the weights.
        batch_size: samples of an update.
        optimizer: of the weights: ``sgd`` (Nesterov momentum 0.9), ``adamw`` or ``rmsprop``.
        learning_rate: of the weights, at its peak.
        annealing: of the learning rate after the warm-up, one of the supernet's schedules.
        rate_warmup: share of the steps with a rising learning rate.
        weight_decay: on weights, not on biases and norms.
        label_smoothing: of both losses.
        max_grad_norm: gradients of the weights longer than this are shortened; 0 = never.
        checkpoint_every: steps between two checkpoints.
    """

    relaxation: RelaxationSettings = field(default_factory=RelaxationSettings)
    cost: CostSettings | None = None
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    derivation: DerivationSettings = field(default_factory=DerivationSettings)
    choices: ChoicesSettings = field(default_factory=ChoicesSettings)
    steps: int = 700
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    annealing: str = "cosine"
    rate_warmup: float = 0.05
    weight_decay: float = 3e-4
    label_smoothing: float = 0.0
    max_grad_norm: float = 5.0
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        _integer("gradient.steps", self.steps, 1)
        _integer("gradient.checkpoint_every", self.checkpoint_every, 1)
        _integer("gradient.batch_size", self.batch_size, 2)
        _one_of("gradient.optimizer", self.optimizer, OPTIMIZERS)
        _one_of("gradient.annealing", self.annealing, RATES)
        _number("gradient.learning_rate", self.learning_rate, 1e-12)
        for name in ("rate_warmup", "label_smoothing"):
            _number(f"gradient.{name}", getattr(self, name), 0.0, 0.999)
        for name in ("weight_decay", "max_grad_norm"):
            _number(f"gradient.{name}", getattr(self, name), 0.0)
        projected = self.cost is not None and self.cost.bound == "projection"
        if projected and self.relaxation.name == "thresholds":
            raise ConfigError("gradient.cost.bound", "projection", "another bound with thresholds, which are no logits")
        if self.schedule.order == 2 and self.optimizer != "sgd":
            raise ConfigError("gradient.optimizer", self.optimizer, "sgd, whose step order 2 looks ahead of")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GradientSettings:
        """Settings from nested mappings by field name; raises ConfigError for an unknown name."""
        groups: dict[str, type[_Group]] = {
            "choices": ChoicesSettings,
            "cost": CostSettings,
            "derivation": DerivationSettings,
            "relaxation": RelaxationSettings,
            "schedule": ScheduleSettings,
        }
        known = sorted(item.name for item in dataclasses.fields(cls))
        built: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"gradient.{name}", value, f"settings {', '.join(known)}")
            if name in groups and value is not None:
                value = groups[name].from_json(value, f"gradient.{name}")
            built[name] = value
        return cls(**built)

    def to_json(self) -> dict[str, Any]:
        """All settings as nested plain data; `from_json` takes them back."""
        return dataclasses.asdict(self)


def _one_of(place: str, value: object, allowed: Any) -> None:
    if value not in allowed:
        raise ConfigError(place, value, f"one of {', '.join(sorted(allowed))}")


def _integer(place: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(place, value, f"an integer of at least {low}")


def _number(place: str, value: object, low: float, high: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(place, value, f"a number from {low:g}{'' if high == math.inf else f' to {high:g}'}")
