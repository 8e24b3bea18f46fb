"""Networks from files: what a user brings, or an earlier search exported, as a teacher or as the first shared weights.

A file is one of safetensors, as `export` writes it; ``architecture.json`` beside it says which architecture it holds,
else it is the largest of the space.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import PredictorError, SpaceError
from ...spaces.architecture import Architecture, Value
from ...spaces.elastic.supernet import Supernet
from ...spaces.space import SearchSpace

__all__ = ["content_hash", "initialise_from", "load_network"]

_COUNTERS = "num_batches_tracked"
"""What batch norms count and nobody needs; files may leave it out."""


def initialise_from(supernet: Supernet, space: SearchSpace, path: Path) -> None:
    """Put the weights of a network of the space where the supernet shares them; the other shared weights stay.

    Raises:
        PredictorError: the file cannot be read, or a weight's name or shape is not that of the network it should hold.
    """
    architecture, tensors = _read(space, path)
    supernet.absorb(architecture, _fitted(supernet.blank_network(architecture), tensors, space, path))


def load_network(space: SearchSpace, path: Path) -> nn.Module:
    """The network that a file holds, on the CPU, in evaluation mode.

    Raises:
        PredictorError: as for `initialise_from`.
    """
    architecture, tensors = _read(space, path)
    network = space.network(architecture, seed=0)
    network.load_state_dict(_fitted(network, tensors, space, path), strict=False)
    return network.eval()


def content_hash(path: Path) -> str:
    """SHA-256 of a file and of what says which architecture it holds.

    Raises:
        PredictorError: it cannot be read.
    """
    try:
        return _hash_of(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise PredictorError(f"network file {str(path)!r}: cannot be read ({error}); check the path.") from error


@functools.lru_cache(maxsize=16)
def _hash_of(path: Path, changed_ns: int) -> str:
    del changed_ns  # part of the key: a file that was replaced is read again
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if (beside := _description(path)).is_file():
        digest.update(beside.read_bytes())
    return digest.hexdigest()


def _description(path: Path) -> Path:
    return path.with_name("architecture.json")


def _read(space: SearchSpace, path: Path) -> tuple[Architecture, dict[str, Tensor]]:
    try:
        tensors = load_file(path)
        described = _description(path)
        content = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else None
    except (OSError, ValueError, SafetensorError) as error:
        raise PredictorError(
            f"network file {str(path)!r}: cannot be read ({error}); it must be safetensors."
        ) from error
    if content is None:
        return space.decode(space.largest()), tensors
    try:
        choices: Mapping[str, Value] = content["architecture"]["choices"]
        return space.architecture({name: _value(value) for name, value in choices.items()}), tensors
    except (KeyError, TypeError, AttributeError) as error:
        raise PredictorError(f"{described}: no architecture.choices in it; export the network again.") from error
    except SpaceError as error:
        raise PredictorError(
            f"{described}: no architecture of space {space.name!r} ({error}); take a network of this family and preset."
        ) from error


def _value(value: object) -> Value:
    """A gene's value as JSON holds it: its tuples are lists there."""
    return tuple(_value(item) for item in value) if isinstance(value, list) else value  # type: ignore[return-value]


def _fitted(network: nn.Module, tensors: Mapping[str, Tensor], space: SearchSpace, path: Path) -> dict[str, Tensor]:
    """The file's tensors, which must be the network's, name by name and shape by shape."""
    needed = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COUNTERS)}
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTERS)}
    what = f"network file {str(path)!r} does not fit space {space.name!r}"
    hint = "A network that is not the largest of the space needs its architecture.json beside it."
    if different := sorted(needed.keys() ^ given.keys()):
        name = different[0]
        missing = "is missing" if name in needed else "is no weight of this network"
        raise PredictorError(f"{what}: {name!r} {missing} ({len(different)} such names). {hint}")
    for name, tensor in needed.items():
        if given[name].shape != tensor.shape:
            raise PredictorError(
                f"{what}: {name!r} has shape {tuple(given[name].shape)}, it must be {tuple(tensor.shape)}. {hint}"
            )
    return {name: given[name].to(torch.get_default_dtype()) for name in needed}
