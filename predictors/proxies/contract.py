"""The contract of proxies, and what several of them share: which weights count, and which statistics norms use.

A proxy is a function (network, inputs, labels) -> float. The network is freshly initialised and takes one tensor of
images; inputs are [N, ...] float32, labels [N] int64. A larger score promises a better network. The network is returned
as it was found: weights, buffers and modes. A score that is not defined for a network (a cell without a path has no
correlated Jacobians) is `UNDEFINED`, which ranks last; a proxy never returns NaN.

Batch normalisation makes one sample's output depend on the others. Three rules, one for each kind of proxy:

- what is defined on the loss of the batch (grad_norm, snip, grasp, fisher) uses the statistics of the batch, with the
  gradient through them, as in training;
- what compares samples (jacov, naswot, ntk) freezes the statistics of the batch first. Samples are then independent,
  their gradients exact, and one vectorised call computes them. The published code takes the gradients in training mode,
  where that of one sample leaks into the others;
- gradsign sends every sample through alone, as published: norms use the sample's own statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

__all__ = [
    "UNDEFINED",
    "Proxy",
    "State",
    "batch_mode",
    "defined",
    "frozen_state",
    "hooked",
    "restoring",
    "split_weights",
    "weight_names",
]

Proxy = Callable[[nn.Module, Tensor, Tensor], float]
"""(network, inputs [N, ...], labels [N]) -> score, larger is better."""

State = Mapping[str, Tensor]
"""Parameters and buffers by name."""

UNDEFINED: Final = -math.inf
"""The score of a network for which a proxy has none."""

LAYERS: Final = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers whose weights count; norms, biases and embeddings do not, as in the published code."""

BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d)


def defined(score: float | Tensor) -> float:
    """`score`, or `UNDEFINED` where it is not finite: an overflow says no more than a division by zero."""
    value = float(score)
    return value if math.isfinite(value) else UNDEFINED


def weight_names(network: nn.Module) -> tuple[str, ...]:
    """Names of the weights of convolutions and linear layers, in module order, each tensor once."""
    own = {name for name, _ in network.named_parameters()}
    names = (f"{name}.weight" if name else "weight" for name, module in network.named_modules() if _counts(module))
    return tuple(name for name in names if name in own)


def split_weights(network: nn.Module, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights that count, and all else of `state`."""
    everything = dict(state)
    weights = {name: everything.pop(name) for name in weight_names(network)}
    return weights, everything


@contextmanager
def restoring(network: nn.Module) -> Iterator[None]:
    """Give modules their modes and buffers their values back after."""
    modes = {module: module.training for module in network.modules()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove the hooks after."""
    kept = list(handles)
    try:
        yield
    finally:
        for handle in kept:
            handle.remove()


@contextmanager
def batch_mode(network: nn.Module) -> Iterator[None]:
    """Inside, batch norms use the batch and all else (dropout) stands as in evaluation."""
    with restoring(network):
        network.eval()
        for module in network.modules():
            if isinstance(module, BATCH_NORMS):
                module.training = True
        yield


@torch.no_grad()
def frozen_state(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Parameters and buffers of `network`, detached, with the statistics of `inputs` in its batch norms."""
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    with batch_mode(network):
        try:
            for norm in norms:
                norm.momentum = 1.0
            functional_call(network, state, (inputs,))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return state


def _counts(module: nn.Module) -> bool:
    return isinstance(module, LAYERS)
