"""The contract of supernets: one set of shared weights that runs every architecture of a space."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from ...errors import SpaceError
from ..architecture import Architecture
from .layers import ElasticBatchNorm2d, shared_slice

__all__ = ["Supernet"]

_BASE: Final = 2**20
"""Of the positions that `Supernet.absorb` writes into weights, digit by digit."""


class Supernet(nn.Module, ABC):
    """Shared weights for all architectures of one space.

    Module paths are those of the space's standalone networks, so a network's weight is found here under its own name
    and is a `shared_slice` of it; that is all `extract` needs to know (`slice_of` is the place for exceptions).
    Where networks take several inputs, so does the supernet: ``supernet(*inputs, architecture)``.
    Where the space has mixed places, a `Mixture` stands in for the architecture: ``supernet(*inputs, mixture)``.

    Lifecycle. Training: ``supernet.train()``, then ``supernet(x, architecture)`` as often as wanted per step; batch
    norms use the batch's statistics and store none. Scoring: ``supernet.calibrate(architecture, batches)``, then
    ``supernet.eval()`` and ``supernet(x, architecture)``, for one architecture after the other, because the buffers
    hold the statistics of the architecture that was calibrated last. Deploying: calibrate, then `extract`.
    """

    @abstractmethod
    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Outputs of `architecture` on a batch; in training mode gradients reach the shared weights it uses."""

    @abstractmethod
    def blank_network(self, architecture: Architecture) -> nn.Module:
        """The standalone network of `architecture`, allocated but not filled."""

    def extract(self, architecture: Architecture) -> nn.Module:
        """A standalone network with copies of the architecture's weights and statistics, in this supernet's mode.

        Its outputs equal this supernet's, in training and in evaluation mode.
        """
        network = self.blank_network(architecture)
        shared = self.state_dict()
        slices = {
            name: self.slice_of(name, shared, blank.shape, architecture) for name, blank in network.state_dict().items()
        }
        network.to(next(self.parameters()).device).load_state_dict(slices)
        return network.train(self.training)

    @torch.no_grad()
    def absorb(self, architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
        """Take over the weights of a standalone network: `extract` of the same architecture then returns them.

        A freshly made supernet knows where they belong: a twin whose shared weights hold their own positions is
        extracted, and what comes out says for each of the network's weights where it came from.

        Args:
            architecture: what the network is.
            weights: by name, all of the network's parameters and statistics; others are ignored.
        """
        twin, shared = copy.deepcopy(self), self.state_dict()
        places: dict[str, Tensor] = {}
        for digit in (1, _BASE):  # float32 counts no further than to the square of the base
            for name, numbered in twin.state_dict().items():
                if name in weights:
                    numbered.copy_(torch.arange(numbered.numel()).view(numbered.shape) // digit % _BASE)
            for name, numbers in twin.extract(architecture).state_dict().items():
                if name in weights:
                    places[name] = places.get(name, 0) + numbers.long().flatten() * digit
        for name, place in places.items():
            flat = shared[name].flatten().clone()
            flat[place] = weights[name].flatten().to(flat)
            shared[name].copy_(flat.view(shared[name].shape))

    def slice_of(
        self, name: str, shared: Mapping[str, Tensor], shape: Sequence[int], architecture: Architecture
    ) -> Tensor:
        """The weight `name`, of this shape, of the standalone network of `architecture`.

        Families whose layers use anything but a `shared_slice` of the shared weight of that name override this.
        """
        del architecture  # prefixes and centres follow from the shape
        return shared_slice(shared[name], shape)

    @torch.no_grad()
    def calibrate(self, architecture: Architecture, batches: Iterable[Tensor | tuple[Tensor, ...]]) -> None:
        """Replace the batch-norm statistics by those of `architecture`, averaged over `batches` weighted by their size.

        Everything but the batch norms runs in evaluation mode; the supernet's mode is restored afterwards.

        Args:
            architecture: whose statistics.
            batches: inputs [N, ...], with the same shape but for N, or tuples of them; consumed one by one.

        Raises:
            SpaceError: there was no batch.
        """
        norms = [module for _, module in self.batch_norms()]
        modes = {module: module.training for module in self.modules()}
        self.eval()
        count = 0
        for norm in norms:
            norm.start_calibration()
        try:
            for batch in batches:
                self(*(batch if isinstance(batch, tuple) else (batch,)), architecture)
                count += 1
        finally:
            for norm in norms:
                norm.end_calibration()
            for module, mode in modes.items():
                module.training = mode
        if not count:
            raise SpaceError("calibrate: got no batch; at least one is needed to know the batch-norm statistics.")

    def batch_norms(self) -> Iterator[tuple[str, ElasticBatchNorm2d]]:
        """Every batch norm with its module path."""
        for name, module in self.named_modules():
            if isinstance(module, ElasticBatchNorm2d):
                yield name, module

    def statistics(self) -> dict[str, Tensor]:
        """Copies of all batch-norm buffers, by their name in `state_dict`."""
        return {name: buffer.clone() for name, buffer in self._statistics()}

    @torch.no_grad()
    def load_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Restore what `statistics` returned; raises SpaceError where names differ."""
        own = dict(self._statistics())
        if different := sorted(set(own) ^ set(statistics)):
            raise SpaceError(
                f"batch-norm statistics do not fit this supernet; names that only one has: {different[:4]}."
            )
        for name, buffer in own.items():
            buffer.copy_(statistics[name])

    def _statistics(self) -> Iterator[tuple[str, Tensor]]:
        for path, norm in self.batch_norms():
            yield from norm.named_buffers(prefix=path)
