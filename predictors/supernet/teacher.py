"""Teachers of their own: a trained network that stays as it is while the supernet learns from it.

Source: Cai et al., Once-for-all, ICLR 2020, https://arxiv.org/abs/1908.09791 (the largest network, trained first).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...spaces.elastic.supernet import Supernet
from ...spaces.space import SearchSpace
from .calibration import Calibration
from .files import load_network

__all__ = ["FrozenTeacher", "largest_now", "read_teacher"]


class FrozenTeacher:
    """A network in evaluation mode, through which no gradient passes.

    Args:
        network: what teaches.
        device: where the supernet is.
        dtype: of the supernet's weights.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.network = network.to(device, dtype).eval()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload stubs leave out

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Logits [N, K] or [N, T, K] of some samples' inputs."""
        return self.network(*inputs)


def largest_now(supernet: Supernet, space: SearchSpace, calibration: Calibration) -> nn.Module:
    """The largest network with the weights of now and its own statistics; the supernet stays as it is."""
    largest = space.decode(space.largest())
    statistics = supernet.statistics()
    supernet.calibrate(largest, calibration.batches)
    network = supernet.extract(largest)
    supernet.load_statistics(statistics)
    return network


def read_teacher(space: SearchSpace, path: Path, device: torch.device, dtype: torch.dtype) -> FrozenTeacher:
    """The teacher that a file holds; raises PredictorError where it cannot be read or does not fit the space."""
    return FrozenTeacher(load_network(space, path), device, dtype)
