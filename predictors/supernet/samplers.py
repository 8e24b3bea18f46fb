"""Path samplers: which architectures a training step runs, and what each of them learns from.

A sampler is a pure function of (seed, step): a resumed run draws what an uninterrupted one would have drawn.

Source: Yu and Huang, Universally Slimmable Networks, ICCV 2019, https://arxiv.org/abs/1903.05134 (sandwich rule);
Yu et al., BigNAS, ECCV 2020, https://arxiv.org/abs/2003.11142.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from ...spaces.architecture import Architecture
from ...spaces.space import SearchSpace

if TYPE_CHECKING:
    from .settings import SupernetSettings  # which checks names against SAMPLERS, hence imports this module

__all__ = ["SAMPLERS", "Path", "PathSampler", "Sandwich", "Target"]

_STREAM: Final = 11


class Target(StrEnum):
    """What a path learns from."""

    LABELS = "labels"
    TEACHER = "teacher"
    """The detached soft outputs of the step's first path."""


@dataclass(frozen=True, slots=True)
class Path:
    """One architecture to run in a step. The first path of a step learns from labels, it may teach those after it."""

    architecture: Architecture
    target: Target


class PathSampler(Protocol):
    """Draws the paths of a step."""

    def paths(self, step: int) -> tuple[Path, ...]:
        """The paths of a step in the order they run; the same for the same step, whatever was asked before."""
        ...


class Sandwich:
    """Largest with labels; then, in some steps, the smallest, and random ones, all taught by the largest.

    Random paths draw every gene's value uniformly. (Uniform over genomes would almost always be as deep as possible:
    there are more deep networks than shallow ones.)

    Args:
        space: what to sample.
        random_paths: per step.
        smallest_share: of the steps that train the smallest path; 1 is the published rule.
        seed: of all draws.
    """

    def __init__(self, space: SearchSpace, *, random_paths: int, smallest_share: float = 1.0, seed: int) -> None:
        self.space = space
        self.random_paths = random_paths
        self.smallest_share = smallest_share
        self.seed = seed
        self._largest = Path(space.decode(space.largest()), Target.LABELS)
        self._smallest = Path(space.decode(space.smallest()), Target.TEACHER)

    def paths(self, step: int) -> tuple[Path, ...]:
        """Largest, perhaps the smallest, then the random ones."""
        rng = np.random.default_rng([self.seed, step, _STREAM])
        cardinalities = self.space.table.cardinalities
        raw = rng.integers(cardinalities, size=(self.random_paths, len(cardinalities))).astype(np.int16)
        drawn = (Path(self.space.decode(genome), Target.TEACHER) for genome in self.space.canonical(raw))
        smallest = (self._smallest,) if rng.random() < self.smallest_share else ()
        return (self._largest, *smallest, *drawn)


def _sandwich(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Sandwich(space, random_paths=settings.random_paths, smallest_share=settings.smallest_share, seed=seed)


SAMPLERS: Final[Mapping[str, Callable[[SearchSpace, SupernetSettings, int], PathSampler]]] = MappingProxyType(
    {"sandwich": _sandwich}
)
"""Builders of samplers by name; each takes the space, the settings of the run and its seed."""
