"""Path samplers: which architectures a training step runs, and what each of them learns from.

A sampler is a pure function of (seed, step): a resumed run draws what an uninterrupted one would have drawn. Where the
choice depends on the weights, the sampler draws the candidates and the step picks among them (attentive sampling), or
what was learned of them is part of every checkpoint (predictor-weighted sampling).

Source: Yu and Huang, Universally Slimmable Networks, ICCV 2019, https://arxiv.org/abs/1903.05134 (sandwich rule);
Yu et al., BigNAS, ECCV 2020, https://arxiv.org/abs/2003.11142; Guo et al., SPOS, ECCV 2020,
https://arxiv.org/abs/1904.00420; Chu et al., FairNAS, ICCV 2021, https://arxiv.org/abs/1907.01845; Valipour et al.,
SortedNet, 2023, https://arxiv.org/abs/2309.00255; Gao et al., DRESS, 2022, https://arxiv.org/abs/2207.00670.
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
from .weighted import PredictorWeighted

if TYPE_CHECKING:
    from .settings import SupernetSettings  # which checks names against SAMPLERS, hence imports this module

__all__ = [
    "SAMPLERS",
    "LargestFirst",
    "Nested",
    "Parallel",
    "Sandwich",
    "StrictFairness",
    "UniformPath",
    "build_sampler",
]


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


class Parallel:
    """Nested sub-models, all of them in every step, each from the labels; losses weigh by size.

    In a space of densities, `SparseSpace`, these are the sparse networks of one backbone.

    Args:
        space: what to sample.
        power: a loss weighs as its sub-model's share of the largest one's parameters to this power; the weights of a
            step add up to 1.
        levels: how many sub-models there are.
    """

    def __init__(self, space: SearchSpace, *, power: float = 0.0, levels: int = 8) -> None:
        nested = Nested(space, random_paths=1, levels=levels, seed=0)
        sizes = space.params(np.array([item.genome for item in nested.levels], dtype=np.int16)).astype(np.float64)
        weights = (sizes / sizes[-1]) ** power
        self._paths = tuple(
            Path(item, Target.LABELS, weight=float(weight))
            for item, weight in zip(nested.levels, weights / weights.sum(), strict=True)
        )

    def paths(self, step: int) -> tuple[Path, ...]:
        """Every sub-model."""
        del step  # all steps are the same
        return self._paths


class LargestFirst:
    """The largest network alone for some steps, then another sampler.

    Args:
        space: what to sample.
        steps: that train the largest alone.
        then: what draws the paths of the other steps.
    """

    def __init__(self, space: SearchSpace, *, steps: int, then: PathSampler) -> None:
        self._largest = Path(space.decode(space.largest()), Target.LABELS)
        self._steps, self.then = steps, then

    def paths(self, step: int) -> tuple[Path, ...]:
        """The largest, or the other sampler's paths."""
        return (self._largest,) if step < self._steps else self.then.paths(step)


def _sandwich(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Sandwich(space, random_paths=settings.random_paths, smallest_share=settings.smallest_share, seed=seed)


def _uniform(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return UniformPath(space, random_paths=settings.random_paths, seed=seed)


def _fair(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    del settings  # the space decides how many paths a step has
    return StrictFairness(space, seed=seed)


def _progressive(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return ProgressiveShrinking(
        space, random_paths=settings.random_paths, steps=settings.steps, alone=settings.largest_steps, seed=seed
    )


def _nested(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Nested(space, random_paths=settings.random_paths, seed=seed)


def _parallel(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    del seed  # nothing is drawn
    return Parallel(space, power=settings.size_power)


def _weighted(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return PredictorWeighted(
        space,
        random_paths=settings.random_paths,
        steps=settings.steps,
        fits=settings.predictor_fits,
        scored=settings.predictor_scores,
        seed=seed,
    )


def _best_up(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Attentive(space, random_paths=settings.random_paths, rivals=settings.rivals, prefer="best", seed=seed)


def _worst_up(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    return Attentive(space, random_paths=settings.random_paths, rivals=settings.rivals, prefer="worst", seed=seed)


SAMPLERS: Final[Mapping[str, Callable[[SearchSpace, SupernetSettings, int], PathSampler]]] = MappingProxyType({
    "attentive_best": _best_up,
    "attentive_worst": _worst_up,
    "nested": _nested,
    "parallel": _parallel,
    "predictor_weighted": _weighted,
    "progressive_shrinking": _progressive,
    "sandwich": _sandwich,
    "strict_fairness": _fair,
    "uniform": _uniform,
})  # fmt: skip
"""Builders of samplers by name; each takes the space, the settings of the run and its seed."""


def build_sampler(space: SearchSpace, settings: SupernetSettings, seed: int) -> PathSampler:
    """The sampler of the settings, after the steps that train the largest network alone."""
    sampler = SAMPLERS[settings.sampler](space, settings, seed)
    if not settings.largest_steps or isinstance(sampler, ProgressiveShrinking):  # which has them in its schedule
        return sampler
    return LargestFirst(space, steps=settings.largest_steps, then=sampler)
