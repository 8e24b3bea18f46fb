"""A file of shared weights: of one supernet for the whole space, or of several, each for its part of it.

The weights of several are told apart by their number before the names (``1.stem.conv.weight``); which part a number
stands for is in the file's metadata, as choice indices by gene name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import PredictorError
from ...spaces.space import SearchSpace
from ...spaces.subspace import SubSpace
from .checkpoint import write_tensors

__all__ = ["Part", "read_parts", "write_parts"]

_KEY: Final = "parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a space that shares weights.

    Attributes:
        choices: allowed choice indices by name of the genes that are limited; none = the whole space.
        weights: the `state_dict` of its supernet.
    """

    choices: Mapping[str, tuple[int, ...]]
    weights: Mapping[str, Tensor]

    def subspace(self, space: SearchSpace) -> SubSpace:
        """The architectures that belong to it."""
        return limited(space, self.choices)


def limited(space: SearchSpace, choices: Mapping[str, Sequence[int]]) -> SubSpace:
    """The part of a space where genes have one of these choices."""
    genes = {name: space.genes[space.table.find(name)] for name in choices}
    return SubSpace(space, {name: tuple(genes[name].values[choice] for choice in choices[name]) for name in choices})


def write_parts(path: Path, parts: Sequence[Part]) -> None:
    """Write the weights of all parts to one safetensors file, which is absent, old or complete at any time."""
    tensors = {f"{number}.{name}": tensor for number, part in enumerate(parts) for name, tensor in part.weights.items()}
    limits = [{name: list(choices) for name, choices in part.choices.items()} for part in parts]
    write_tensors(path, tensors, metadata={_KEY: json.dumps(limits)})


def read_parts(path: Path) -> tuple[Part, ...]:
    """The parts that a file holds; one without limits where the file says nothing of parts.

    Raises:
        PredictorError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            limits = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, ValueError, SafetensorError) as error:
        raise PredictorError(f"supernet weights {str(path)!r}: cannot be read ({error}); train again.") from error
    if limits is None:
        return (Part(choices={}, weights=tensors),)
    of_part: list[dict[str, Tensor]] = [{} for _ in limits]
    for name, tensor in tensors.items():
        number, _, own = name.partition(".")
        of_part[int(number)][own] = tensor
    return tuple(
        Part(choices={name: tuple(choices) for name, choices in limit.items()}, weights=weights)
        for limit, weights in zip(limits, of_part, strict=True)
    )
