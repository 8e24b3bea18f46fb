"""Build a module without touching memory or the global random state, then fill its weights from one generator.

Modules are constructed on the meta device, so that torch's own initialisation neither runs nor draws random numbers;
every weight is then allocated once and filled here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from ...errors import SpaceError

__all__ = ["Fillable", "allocate", "builder", "initialise"]

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class Fillable(Protocol):
    """A layer with weights of its own kind, which it knows how to fill."""

    def fill(self, generator: torch.Generator) -> None:
        """Fill the layer's own weights in place, drawing from `generator` alone."""
        ...


def allocate(build: Callable[[], M]) -> M:
    """The module that `build` makes, on the CPU with uninitialised weights (`initialise` or load them next).

    Weights of 2-D convolutions lie channels-last, and outputs follow them: depthwise convolutions then train two to
    three times as fast on a CPU, and half-precision ones faster on a GPU.
    """
    with torch.device("meta"):
        module = build()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload the stubs leave out
    return module.to_empty(device="cpu")


def builder(make: Callable[[], M]) -> Callable[[int], M]:
    """From `make`, which constructs a module, a function that builds it filled from a seed."""

    def build(seed: int) -> M:
        module = allocate(make)
        initialise(module, seed)
        return module

    return build


@torch.no_grad()
def initialise(module: nn.Module, seed: int | None = None) -> None:
    """Fill all weights and buffers of `module` in place.

    Convolutions: normal with variance 2 / fan_out; linear layers: normal with variance 1 / fan_in; biases 0; norms 1
    and 0 with running mean 0 and variance 1; embeddings: normal with variance 1 / features; `Fillable` layers: their
    own way.

    Args:
        module: on the CPU; made of convolutions, linear layers, norms, embeddings and `Fillable` layers.
        seed: of the generator all weights are drawn from, in module order; None = a fresh one from the system.

    Raises:
        SpaceError: the module holds weights of a layer that is not known here.

    Source: He et al., Delving Deep into Rectifiers, ICCV 2015, https://arxiv.org/abs/1502.01852 (equation 14).
    """
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            fan_out = layer.out_channels * math.prod(layer.kernel_size) // layer.groups
            layer.weight.normal_(0.0, math.sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(layer, nn.ConvTranspose2d):  # every input reaches as many outputs as the window has taps
            layer.weight.normal_(0.0, math.sqrt(2.0 / math.prod(layer.weight.shape[1:])), generator=generator)
        elif isinstance(layer, nn.Linear):
            layer.weight.normal_(0.0, math.sqrt(1.0 / layer.in_features), generator=generator)
        elif isinstance(layer, nn.Embedding):
            layer.weight.normal_(0.0, math.sqrt(1.0 / layer.embedding_dim), generator=generator)
        elif isinstance(layer, Fillable):
            layer.fill(generator)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.RMSNorm):
            layer.reset_parameters()
        elif next(layer.parameters(recurse=False), next(layer.buffers(recurse=False), None)) is not None:
            raise SpaceError(
                f"layer {name!r} of type {type(layer).__name__} holds weights that initialise() does not know; "
                "add its rule there."
            )
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and layer.bias is not None:
            layer.bias.zero_()
