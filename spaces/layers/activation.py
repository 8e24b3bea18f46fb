"""Activations by name, one torch module for each value of an `activation` Op's `function`."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from torch import nn

from ...errors import SpaceError

__all__ = ["MODULES", "make_activation"]

MODULES: Final[MappingProxyType[str, Callable[[], nn.Module]]] = MappingProxyType(
    {
        "gelu": nn.GELU,
        "hard_sigmoid": nn.Hardsigmoid,
        "hard_swish": nn.Hardswish,
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "sigmoid": nn.Sigmoid,
        "silu": nn.SiLU,
        "tanh": nn.Tanh,
    }
)


def make_activation(function: str) -> nn.Module:
    """The module that computes `function`; raises SpaceError listing the names that exist."""
    if function not in MODULES:
        raise SpaceError(f"activation {function!r} is unknown; allowed: {', '.join(sorted(MODULES))}.")
    return MODULES[function]()
