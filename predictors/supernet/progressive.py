"""Progressive shrinking: smaller choices open one kind of gene after the other.

Source: Cai et al., Once-for-all, ICLR 2020, https://arxiv.org/abs/1908.09791; train_ofa_net.py of
https://github.com/mit-han-lab/once-for-all.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...spaces.space import SearchSpace
from .path import Path, Target, generator

__all__ = ["ProgressiveShrinking"]


class ProgressiveShrinking:
    """The largest network alone, then one kind of gene after the other opened towards its smaller values.

    Genes open by kind (``kernel``, ``depth``, ``expansion``, ``width``: the last part of their names), in the order of
    `ORDER`; kinds that it does not name open last, together. Each phase first opens the upper half of the values, then
    all. The first path of a step is the largest network as the teacher.

    Args:
        space: what to sample.
        random_paths: per step, beside the teacher.
        steps: of the whole training.
        alone: steps that train the largest network alone.
        seed: of all draws.
    """

    ORDER: Final = ("resolution", "kernel", "depth", "expansion", "width")

    def __init__(self, space: SearchSpace, *, random_paths: int, steps: int, alone: int, seed: int) -> None:
        self.space, self.random_paths, self.seed = space, max(random_paths, 1), seed
        self.steps, self.alone = steps, alone
        kinds = [gene.name.rpartition(".")[2] for gene in space.genes]
        order = [*self.ORDER, *sorted({*kinds} - {*self.ORDER})]
        self._rank = np.array([order.index(kind) for kind in kinds])
        self._phases = np.unique(self._rank)
        self._largest = space.largest()

    def opened(self, step: int) -> NDArray[np.int16]:
        """[G] lowest choice that each gene may take at a step."""
        low = self._largest.astype(np.int16).copy()
        if step < self.alone:
            return low
        position = (step - self.alone) / max(self.steps - self.alone, 1) * len(self._phases)
        done = min(int(position), len(self._phases) - 1)
        low[self._rank < self._phases[done]] = 0
        now = self._rank == self._phases[done]
        half = position - done < 0.5
        low[now] = -(-self._largest[now] // 2) if half else 0
        return low

    def paths(self, step: int) -> tuple[Path, ...]:
        """The teacher, and random paths among what is open."""
        rng = generator(self.seed, step)
        teacher = Path(self.space.decode(self._largest), Target.LABELS)
        low = self.opened(step)
        if (low == self._largest).all():
            return (teacher,)
        high = np.maximum(self._largest, low) + 1
        raw = rng.integers(low, high, size=(self.random_paths, len(low))).astype(np.int16)
        return (teacher, *(Path(self.space.decode(genome), Target.TEACHER) for genome in self.space.canonical(raw)))
