"""Batch-norm statistics for one subnet: averages over a fixed set of training batches.

Shared weights have no statistics that fit every subnet, so they are re-estimated for exactly the one at hand before it
is scored or extracted. The batches are always the same, so a score does not depend on what was scored before, and what
was estimated once is kept as long as there is room.

Source: Yu and Huang, Universally Slimmable Networks, ICCV 2019, https://arxiv.org/abs/1903.05134 (exact averages
instead of running ones); Yu et al., How to Train Your Super-Net, 2020, https://arxiv.org/abs/2003.04276 (the others).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...spaces.architecture import Architecture
from ...spaces.elastic.supernet import Supernet
from ...spaces.gene import Population
from ...spaces.space import SearchSpace
from ..evaluation import measure_accuracy
from ..optimization import channels_last
from ..tasks.task import Task
from .settings import SupernetSettings

__all__ = ["CACHE_BYTES", "Calibration"]

CACHE_BYTES: Final = 64 << 20
"""Statistics kept per process: those of some thousand subnets of a mobile network."""

_SEED: Final = 20_190_313
"""Differs from the seeds users give, so that calibration sees augmentations that training did not."""


class Calibration:
    """The fixed batches, held on the device, and the statistics that were estimated last.

    Statistics are kept by architecture key for one state of the weights: `forget` them when the weights have changed.

    Args:
        task: gives the batches, augmented as in training.
        settings: how many batches, and of which size.
        device: where the supernet is.
        cache_bytes: of statistics kept at most; those that were not asked for longest go first.
        dtype: of images; None = as the task gives them.
    """

    def __init__(
        self,
        task: Task,
        settings: SupernetSettings,
        device: torch.device,
        *,
        cache_bytes: int = CACHE_BYTES,
        dtype: torch.dtype | None = None,
    ) -> None:
        size = settings.calibration_batch_size
        self.samples = tuple(
            task.batch(step, size, _SEED, device).map_inputs(channels_last).map_inputs(lambda x: _cast(x, dtype))
            for step in range(settings.calibration_batches)
        )
        self.batches: tuple[tuple[Tensor, ...], ...] = tuple(samples.tensors for samples in self.samples)
        self.estimated = 0
        """How often statistics were estimated rather than found."""
        self._cache_bytes, self._kept_bytes = cache_bytes, 0
        self._kept: OrderedDict[str, tuple[tuple[int, ...], Mapping[str, Tensor]]] = OrderedDict()

    def apply(self, supernet: Supernet, architecture: Architecture) -> None:
        """Give the supernet's batch norms the statistics of `architecture`; weights stay as they are."""
        genome, statistics = self._kept.get(architecture.key, ((), {}))
        # Equal keys compute the same, but perhaps in another order: only the same genome has the same last bits.
        if genome == architecture.genome:
            self._kept.move_to_end(architecture.key)
            supernet.load_statistics(statistics)
            return
        self.estimated += 1
        supernet.calibrate(architecture, self.batches)
        self._keep(architecture, supernet.statistics())

    def forget(self) -> None:
        """The weights have changed: statistics of before are of no use."""
        self._kept.clear()
        self._kept_bytes = 0

    def scores(self, supernet: Supernet, space: SearchSpace, genomes: Population) -> NDArray[np.float64]:
        """[B] accuracy of genomes [B, G] on these training samples by the present weights; leaves no trace in them."""
        statistics, training = supernet.statistics(), supernet.training
        supernet.eval()
        scores = []
        for genome in genomes:
            architecture = space.decode(genome)
            supernet.calibrate(architecture, self.batches)
            told = [
                measure_accuracy(lambda *inputs, run=architecture: supernet(*inputs, run), samples)
                for samples in self.samples
            ]
            scores.append(sum(told) / len(told))
        supernet.load_statistics(statistics)
        supernet.train(training)
        return np.array(scores)

    def _keep(self, architecture: Architecture, statistics: Mapping[str, Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in statistics.values())
        if not 0 < size <= self._cache_bytes:
            return
        _, replaced = self._kept.pop(architecture.key, ((), {}))
        self._kept_bytes += size - sum(tensor.nbytes for tensor in replaced.values())
        self._kept[architecture.key] = (architecture.genome, statistics)
        while self._kept_bytes > self._cache_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._kept_bytes -= sum(tensor.nbytes for tensor in dropped.values())


def _cast(inputs: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Numbers in another precision; tokens unchanged."""
    return inputs if dtype is None or not inputs.is_floating_point() else inputs.to(dtype)
