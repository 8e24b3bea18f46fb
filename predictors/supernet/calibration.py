"""Batch-norm statistics for one subnet: averages over a fixed set of training batches.

Shared weights have no statistics that fit every subnet, so they are re-estimated for exactly the one at hand before it
is scored or extracted. The batches are always the same, so a score does not depend on what was scored before.

Source: Yu and Huang, Universally Slimmable Networks, ICCV 2019, https://arxiv.org/abs/1903.05134 (exact averages
instead of running ones).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ...spaces.architecture import Architecture
from ...spaces.elastic.supernet import Supernet
from ..optimization import channels_last
from ..tasks.task import Task
from .settings import SupernetSettings

__all__ = ["Calibration"]

_SEED: Final = 20_190_313
"""Differs from the seeds users give, so that calibration sees augmentations that training did not."""


class Calibration:
    """The fixed batches, held on the device.

    Args:
        task: gives the batches, augmented as in training; their labels are not looked at.
        settings: how many batches, and of which size.
        device: where the supernet is.
    """

    def __init__(self, task: Task, settings: SupernetSettings, device: torch.device) -> None:
        size = settings.calibration_batch_size
        self.batches: tuple[tuple[Tensor, ...], ...] = tuple(
            task.batch(step, size, _SEED, device).map_inputs(channels_last).tensors
            for step in range(settings.calibration_batches)
        )

    def apply(self, supernet: Supernet, architecture: Architecture) -> None:
        """Give the supernet's batch norms the statistics of `architecture`; weights stay as they are."""
        supernet.calibrate(architecture, self.batches)
