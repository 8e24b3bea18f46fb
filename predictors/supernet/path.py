"""Paths: the architectures that a training step runs, what each learns from, and the contract of what draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...spaces.architecture import Architecture
from ...spaces.gene import Population
from ...spaces.space import SearchSpace

__all__ = [
    "LearningSampler",
    "Path",
    "PathSampler",
    "Target",
    "generator",
    "random_architectures",
    "uniform_choices",
]

_STREAM: Final = 11


class Target(StrEnum):
    """What a path learns from."""

    LABELS = "labels"
    TEACHER = "teacher"
    """The detached soft outputs of the step's first path."""


@dataclass(frozen=True, slots=True)
class Path:
    """One architecture to run in a step. The first path of a step learns from labels, it may teach those after it.

    Attributes:
        architecture: what to run.
        target: what it learns from.
        rivals: if any, the step runs whichever of these and `architecture` suits `prefer` on the step's own samples.
        prefer: ``best`` takes the one of lowest loss, ``worst`` the one of highest.
        weight: of its loss in the step's.
    """

    architecture: Architecture
    target: Target
    rivals: tuple[Architecture, ...] = ()
    prefer: Literal["best", "worst"] = "best"
    weight: float = 1.0


class PathSampler(Protocol):
    """Draws the paths of a step."""

    def paths(self, step: int) -> tuple[Path, ...]:
        """The paths of a step in the order they run; the same for the same step, whatever was asked before."""
        ...


@runtime_checkable
class LearningSampler(PathSampler, Protocol):
    """A sampler that learns from what the shared weights score; its paths follow from seed, step and state.

    Lifecycle. Before a step, the trainer scores what `asks` names and hands the scores to `learn`. `state` goes into
    every checkpoint, and `restore` takes it back.
    """

    def asks(self, step: int) -> Population:
        """[B, G] the canonical genomes whose scores it wants before this step; mostly none."""
        ...

    def learn(self, step: int, genomes: Population, scores: NDArray[np.float64]) -> None:
        """Take in the scores [B], accuracies in [0, 1], of the genomes [B, G] that it asked for at this step."""
        ...

    def state(self) -> dict[str, Any]:
        """What it has learned, JSON-able."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        ...


def generator(seed: int, step: int) -> np.random.Generator:
    """The generator of a step's draws."""
    return np.random.default_rng([seed, step, _STREAM])


def uniform_choices(space: SearchSpace, count: int, rng: np.random.Generator) -> Population:
    """[B, G] canonical genomes, every gene's value with equal chance, which leaves deep networks no more likely."""
    cardinalities = space.table.cardinalities
    return space.canonical(rng.integers(cardinalities, size=(count, len(cardinalities))).astype(np.int16))


def random_architectures(space: SearchSpace, count: int, rng: np.random.Generator) -> tuple[Architecture, ...]:
    """Architectures of `uniform_choices`."""
    return tuple(space.decode(genome) for genome in uniform_choices(space, count, rng))
