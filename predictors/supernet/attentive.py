"""Attentive sampling: of a few architectures of about the same cost, train the best or the worst.

Source: Wang et al., AttentiveNAS, CVPR 2021, https://arxiv.org/abs/2011.09011;
https://github.com/facebookresearch/AttentiveNAS, sampler/attentive_nas_sampler.py.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from ...spaces.space import SearchSpace
from .path import Path, Target, generator, uniform_choices

__all__ = ["Attentive"]


class Attentive:
    """Sandwich whose random paths are each the best, or the worst, of a few of about the same cost.

    Args:
        space: what to sample.
        random_paths: per step.
        rivals: candidates per random path, k in the paper.
        prefer: ``best`` (BestUp) or ``worst`` (WorstUp).
        seed: of all draws.
    """

    POOL: Final = 64
    """Genomes from which those of the most similar cost are taken; in place of the paper's table of the space."""

    def __init__(
        self, space: SearchSpace, *, random_paths: int, rivals: int, prefer: Literal["best", "worst"], seed: int
    ) -> None:
        self.space, self.random_paths, self.rivals, self.seed = space, random_paths, rivals, seed
        self.prefer: Literal["best", "worst"] = prefer
        self._largest = Path(space.decode(space.largest()), Target.LABELS)
        self._smallest = Path(space.decode(space.smallest()), Target.TEACHER)

    def paths(self, step: int) -> tuple[Path, ...]:
        """Largest, smallest, and the paths with their rivals."""
        rng = generator(self.seed, step)
        drawn = []
        for _ in range(self.random_paths):
            genomes = uniform_choices(self.space, self.POOL, rng)
            macs = self.space.macs(genomes)
            target = macs[rng.integers(len(macs))]
            near = np.argsort(np.abs(macs - target), kind="stable")[: self.rivals]
            first, *others = (self.space.decode(genome) for genome in genomes[near])
            drawn.append(Path(first, Target.TEACHER, tuple(others), self.prefer))
        return (self._largest, self._smallest, *drawn)
