"""Layers in a row: what a network is when each of its layers reads the one before.

A `Brick` ties a layer's module, its Ops and, where weights can be shared, its elastic form together; a `Layer` is a
brick with sizes at a module path. From a list of layers come the network, its Ops and the skeleton of a supernet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from ..op import Op, Tensor

__all__ = ["Brick", "Layer", "LayerSpec", "assemble", "chain_ops"]


class LayerSpec(Protocol):
    """What every layer's specification has."""

    @property
    def in_channels(self) -> int:
        """Channels read."""
        ...


@dataclass(frozen=True, slots=True)
class Brick:
    """One kind of layer; all three take the same specification.

    Attributes:
        module: specification -> module.
        ops: (module path, input, specification) -> the Ops that the module performs.
        elastic: largest specification -> module with shared weights, called with (x, specification); None = none.
    """

    module: Callable[[Any], nn.Module]  # Any: each brick has its own specification, paired with it by `Layer` alone
    ops: Callable[[str, Tensor, Any], tuple[Op, ...]]
    elastic: Callable[[Any], nn.Module] | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A brick with sizes, at a module path."""

    path: str
    brick: Brick
    spec: LayerSpec

    def ops(self, x: Tensor) -> tuple[Op, ...]:
        """The Ops of this layer reading `x` (C, H, W)."""
        return self.brick.ops(self.path, x, self.spec)


def assemble(modules: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    """One module that runs all others in their order, each reachable under its dotted path.

    >>> assemble([("stem", nn.Identity()), ("stages.0.1", nn.Identity())]).get_submodule("stages.0.1")
    Identity()
    """
    root = nn.Sequential()
    for path, module in modules:
        *parents, name = path.split(".")
        node: nn.Module = root
        for parent in parents:
            if parent not in dict(node.named_children()):
                node.add_module(parent, nn.Sequential())
            node = node.get_submodule(parent)
        node.add_module(name, module)
    return root


def chain_ops(layers: Sequence[Layer], x: Tensor) -> tuple[Op, ...]:
    """The Ops of layers in a row, the first of which reads `x`."""
    ops: tuple[Op, ...] = ()
    for layer in layers:
        ops += layer.ops(ops[-1].output if ops else x)
    return ops
