"""Path samplers: which architectures a training step runs, and what each of them learns from.

A sampler is a pure function of (seed, step): a resumed run draws what an uninterrupted one would have drawn. Where the
choice depends on the weights (attentive sampling), the sampler draws the candidates and the step picks among them.

Source: Yu and Huang, Universally Slimmable Networks, ICCV 2019, https://arxiv.org/abs/1903.05134 (sandwich rule);
Yu et al., BigNAS, ECCV 2020, https://arxiv.org/abs/2003.11142; Guo et al., SPOS, ECCV 2020,
https://arxiv.org/abs/1904.00420; Chu et al., FairNAS, ICCV 2021, https://arxiv.org/abs/1907.01845; Valipour et al.,
SortedNet, 2023, https://arxiv.org/abs/2309.00255.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from ...spaces.space import SearchSpace
from .attentive import Attentive
from .path import Path, PathSampler, Target, generator, random_architectures
from .progressive import ProgressiveShrinking

if TYPE_CHECKING:
    from .settings import SupernetSettings  # which checks names against SAMPLERS, hence imports this module

__all__ = ["SAMPLERS", "Nested", "Sandwich", "StrictFairness", "UniformPath"]


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
        rng = generator(self.seed, step)
        drawn = (Path(item, Target.TEACHER) for item in random_architectures(self.space, self.random_paths, rng))
        smallest = (self._smallest,) if rng.random() < self.smallest_share else ()
        return (self._largest, *smallest, *drawn)


class UniformPath:
    """Random paths alone, each from the labels: every gene's value with equal chance.

    Args:
        space: what to sample.
        random_paths: per step; their gradients are added up. One is the published rule.
        seed: of all draws.
    """

    def __init__(self, space: SearchSpace, *, random_paths: int, seed: int) -> None:
        self.space, self.random_paths, self.seed = space, max(random_paths, 1), seed

    def paths(self, step: int) -> tuple[Path, ...]:
        """The random paths."""
        drawn = random_architectures(self.space, self.random_paths, generator(self.seed, step))
        return tuple(Path(item, Target.LABELS) for item in drawn)


class StrictFairness:
    """Every choice of every gene equally often in every step.

    A step has as many paths as the gene with most choices. Each gene runs through random permutations of its choices,
    as many as are needed; a gene with fewer choices fills up with a random part of one more permutation, so that its
    choices differ by at most one use.

    Args:
        space: what to sample.
        seed: of all draws.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self.space, self.seed = space, seed

    def paths(self, step: int) -> tuple[Path, ...]:
        """One path per column of the permutations."""
        rng = generator(self.seed, step)
        cardinalities = self.space.table.cardinalities
        count = int(cardinalities.max())
        columns = [
            np.concatenate([rng.permutation(int(size)) for _ in range(-(-count // int(size)))])[:count]
            for size in cardinalities
        ]
        genomes = self.space.canonical(np.stack(columns, axis=1).astype(np.int16))
        return tuple(Path(self.space.decode(genome), Target.LABELS) for genome in genomes)


class Nested:
    """Sub-models each of which contains the one before: all genes at the same share of their range.

    Args:
        space: what to sample.
        random_paths: sub-models per step; their gradients are added up.
        levels: how many sub-models there are.
        seed: of all draws.
    """

    def __init__(self, space: SearchSpace, *, random_paths: int, levels: int = 8, seed: int) -> None:
        self.space, self.random_paths, self.seed = space, max(random_paths, 1), seed
        shares = np.linspace(0.0, 1.0, levels)[:, None]
        genomes = np.unique(space.canonical(np.rint(shares * space.largest()).astype(np.int16)), axis=0)
        genomes = genomes[np.argsort(space.params(genomes), kind="stable")]
        self.levels = tuple(space.decode(genome) for genome in genomes)

    def paths(self, step: int) -> tuple[Path, ...]:
        """Random levels, without repetition where there are enough."""
        rng = generator(self.seed, step)
        count = len(self.levels)
        chosen = rng.choice(count, self.random_paths, replace=self.random_paths > count)
        return tuple(Path(self.levels[index], Target.LABELS) for index in chosen)


def _sandwich(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Sandwich(space, random_paths=settings.random_paths, smallest_share=settings.smallest_share, seed=seed)


def _uniform(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return UniformPath(space, random_paths=settings.random_paths, seed=seed)


def _fair(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    del settings  # the space decides how many paths a step has
    return StrictFairness(space, seed=seed)


def _progressive(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return ProgressiveShrinking(space, random_paths=settings.random_paths, steps=settings.steps, seed=seed)


def _nested(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Nested(space, random_paths=settings.random_paths, seed=seed)


def _best_up(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Attentive(space, random_paths=settings.random_paths, rivals=settings.rivals, prefer="best", seed=seed)


def _worst_up(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Attentive(space, random_paths=settings.random_paths, rivals=settings.rivals, prefer="worst", seed=seed)


SAMPLERS: Final[Mapping[str, Callable[[SearchSpace, SupernetSettings, int], PathSampler]]] = MappingProxyType({
    "attentive_best": _best_up,
    "attentive_worst": _worst_up,
    "nested": _nested,
    "progressive_shrinking": _progressive,
    "sandwich": _sandwich,
    "strict_fairness": _fair,
    "uniform": _uniform,
})  # fmt: skip
"""Builders of samplers by name; each takes the space, the settings of the run and its seed."""
