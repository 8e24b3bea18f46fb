"""Problem: a search space, the objectives, and the constraints, in one place.

Directions are converted here and nowhere else: inside archsmith every objective is minimised and every constraint is a
violation, 0 where satisfied. Some quantities are *known* before any evaluation (params, macs, a cost model's latency):
the problem computes those for a whole population, so that strategies enforce their constraints while proposing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..spaces.space import SearchSpace

__all__ = ["Constraint", "Objective", "Population", "Problem", "Quantity", "label"]

Population = NDArray[np.int16]
Quantity = Callable[[Population], NDArray[np.float64]]
"""[B, G] genomes -> [B] float64 in the quantity's unit."""


def label(name: str, device: str | None) -> str:
    """How a quantity is written where devices matter: ``latency_ms@host``, ``accuracy``."""
    return f"{name}@{device}" if device else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A quantity to optimise, on a device where it is one of hardware."""

    name: str
    direction: Literal["min", "max"]
    device: str | None = None

    @property
    def label(self) -> str:
        """`name@device`, or the name alone."""
        return label(self.name, self.device)

    @property
    def sign(self) -> float:
        """Factor that turns the quantity into a minimised one, and back."""
        return -1.0 if self.direction == "max" else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A hard limit on a quantity: ``name <= bound`` or ``name >= bound``."""

    name: str
    bound: float
    operator: Literal["<=", ">="] = "<="
    device: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.bound):
            raise ConfigError(f"constraint on {self.label}", self.bound, "a finite number")

    @property
    def label(self) -> str:
        """`name@device`, or the name alone."""
        return label(self.name, self.device)

    def __str__(self) -> str:
        return f"{self.label} {self.operator} {self.bound:g}"

    def violation(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B] excess over the bound, relative to it (absolute where the bound is 0); 0 where satisfied, inf for NaN."""
        excess = values - self.bound if self.operator == "<=" else self.bound - values
        scaled = np.maximum(excess, 0.0) / (abs(self.bound) or 1.0)
        return np.where(np.isnan(values), np.inf, scaled)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is searched: B genomes in, M minimised values and C violations out.

    Attributes:
        space: where to look.
        objectives: at least one.
        constraints: hard limits, all of which must hold.
        known: by label (``params``, ``latency_ms@host``), the quantities that need no evaluation.
        equivalence: whether genomes with equal keys are one candidate; not so in a table, where each is a row.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    known: Mapping[str, Quantity] = field(default_factory=dict)
    equivalence: bool = True

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ConfigError("objectives", [], "at least one objective")
        labels = [objective.label for objective in self.objectives]
        if len(set(labels)) != len(labels):
            raise ConfigError("objectives", labels, "each objective once")

    @property
    def signs(self) -> NDArray[np.float64]:
        """[M] +1 for minimised and -1 for maximised objectives."""
        return np.array([objective.sign for objective in self.objectives])

    def minimised(self, natural: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B, M] values in natural direction -> minimised; the same call converts back."""
        return natural * self.signs

    def known_violations(self, genomes: Population) -> NDArray[np.float64]:
        """[B, C] violations of the constraints whose quantity is known; 0 for the others."""
        out = np.zeros((len(genomes), len(self.constraints)))
        for column, constraint in enumerate(self.constraints):
            quantity = self.known.get(constraint.label)
            if quantity is not None:
                out[:, column] = constraint.violation(quantity(genomes))
        return out
