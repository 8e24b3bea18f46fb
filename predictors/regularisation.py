"""What a training recipe may do against overfitting, to any network: dropout, drop path, mixup, averaged weights.

None of it leaves a trace in the network: hooks are taken off after the training, and evaluation never sees them. All
draws come from a generator of the step.

Source: Srivastava et al., Dropout, JMLR 15, 2014; Huang et al., Deep Networks with Stochastic Depth, ECCV 2016,
https://arxiv.org/abs/1603.09382 (chances that grow with depth); Zhang et al., mixup, ICLR 2018,
https://arxiv.org/abs/1710.09412; Polyak and Juditsky, 1992 (averaging; the decay that rises at first is TensorFlow's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import PredictorError
from ..spaces.layers.inverted_bottleneck import InvertedBottleneck
from ..spaces.layers.mobile_attention import MobileAttention
from ..spaces.layers.star import StarBlock
from ..spaces.layers.transformer import TransformerLayer
from .tasks.task import Samples, step_generator

__all__ = ["AveragedWeights", "MixedBatch", "mixed", "noise"]

_MIXUP, _NOISE = 21, 22
"""Streams of the step's generators."""

_DECAY: Final = 0.9998
"""Of the averaged weights, once enough steps are done."""


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Samples blended in pairs.

    Attributes:
        samples: blended inputs with the labels of the first of each pair.
        others: the same inputs with the labels of the second.
        share: of the first in every blend and in the loss.
    """

    samples: Samples
    others: Samples
    share: float


def mixed(batch: Samples, alpha: float, seed: int, step: int) -> MixedBatch:
    """Blend every sample with another one of the batch, by one share drawn from Beta(alpha, alpha).

    Raises:
        PredictorError: inputs or labels that cannot be blended, such as tokens.
    """
    if not all(tensor.is_floating_point() for tensor in batch.tensors) or batch.labels.ndim != 1:
        raise PredictorError(
            "standalone.mixup: the samples of this task are sequences of tokens, which cannot be blended; set it to 0."
        )
    rng = np.random.default_rng([seed, step, _MIXUP])
    share = float(rng.beta(alpha, alpha))
    order = torch.from_numpy(rng.permutation(len(batch))).to(batch.labels.device)
    blended = batch.map_inputs(lambda inputs: share * inputs + (1 - share) * inputs[order])
    return MixedBatch(blended, Samples(blended.inputs, batch.labels[order], blended.extra), share)


@contextmanager
def noise(network: nn.Module, *, dropout: float, drop_path: float, seed: int) -> Iterator[Callable[[int], None]]:
    """Dropout before the last linear layer and dropped residual branches, while the network trains inside.

    Args:
        network: its mode decides: in evaluation mode nothing is dropped.
        dropout: chance of every feature that the last linear layer reads.
        drop_path: chance of the last residual branch, for every sample; those before it have proportionally less.
        seed: of the draws.

    Yields:
        To be called with the step before each forward pass.

    Raises:
        PredictorError: the network has no residual branch, or no linear layer.
    """
    device = next(network.parameters()).device
    current = [step_generator(seed, 0, _NOISE, device)]

    def begin(step: int) -> None:
        current[0] = step_generator(seed, step, _NOISE, device)

    handles = []
    if dropout:
        handles.append(_last_linear(network).register_forward_pre_hook(_dropping_features(dropout, current)))
    if drop_path:
        blocks = _skippable(network)
        for depth, block in enumerate(blocks, 1):
            handles.append(block.register_forward_hook(_dropping_branch(drop_path * depth / len(blocks), current)))
    try:
        yield begin
    finally:
        for handle in handles:
            handle.remove()


class AveragedWeights:
    """A running average of a network's weights and statistics.

    Args:
        network: on the device that it stays on.
    """

    def __init__(self, network: nn.Module) -> None:
        self.average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self._updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the weights of now."""
        self._updates += 1
        decay = min(_DECAY, (1 + self._updates) / (10 + self._updates))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)


def _last_linear(network: nn.Module) -> nn.Linear:
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise PredictorError("standalone.dropout: this network has no linear layer to drop the inputs of; set it to 0.")
    return layers[-1]


def _skippable(network: nn.Module) -> Sequence[nn.Module]:
    """The modules that return their input plus something, in order."""
    found = [
        module
        for module in network.modules()
        if isinstance(module, MobileAttention | StarBlock)
        or (isinstance(module, InvertedBottleneck) and module.residual)
        or (isinstance(module, TransformerLayer) and module.norm_first)
    ]
    if not found:
        raise PredictorError(
            "standalone.drop_path: this network has no residual branch that can be dropped (those of inverted "
            "bottlenecks, mobile attention, star blocks and Transformer layers that begin with a norm); set it to 0."
        )
    return found


def _dropping_features(
    chance: float, current: list[torch.Generator]
) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...] | None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not module.training:
            return None
        x, *rest = inputs
        kept = torch.rand(x.shape, generator=current[0], device=x.device) >= chance
        return (x * kept / (1 - chance), *rest)

    return hook


def _dropping_branch(
    chance: float, current: list[torch.Generator]
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not module.training:
            return None
        x = inputs[0]
        kept = torch.rand((len(x), *[1] * (x.ndim - 1)), generator=current[0], device=x.device) >= chance
        return x + (output - x) * kept / (1 - chance)

    return hook
