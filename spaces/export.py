"""Export: one trained network as files that need nothing of archsmith to run.

``architecture.json`` says what it is, ``weights.safetensors`` holds its state, ``model.onnx`` runs in ONNX Runtime and
``model.pt2`` (torch.export) in torch; the last two take any batch size.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .architecture import Architecture
from .onnx_graph import onnx_model
from .op import Op
from .space import SearchSpace

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["FILES", "export_network"]

FILES = ("architecture.json", "weights.safetensors", "model.onnx", "model.pt2")
"""Names of the files that `export_network` writes."""


def export_network(
    network: nn.Module, space: SearchSpace, architecture: Architecture, directory: Path
) -> dict[str, Path]:
    """Write a network in every form; the network itself is not changed.

    Args:
        network: a network of `architecture`, on any device; exported in evaluation mode.
        space: its search space.
        architecture: which one it is.
        directory: created where missing; files of the same names are replaced, each in one step.

    Returns:
        Path by file name, for every name in `FILES`.

    Raises:
        SpaceError: the network's weights do not fit the architecture.
        OSError: the directory cannot be written.
    """
    import copy

    import numpy as np
    import onnx
    import torch
    from safetensors.torch import save_file

    # torch.export cannot tell that channels-last weights are whole, and warns of each.
    twin = copy.deepcopy(network).cpu().eval()
    twin.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # an overload the stubs leave out
    # A running count of batches is of no use to a deployed network.
    state = {
        name: tensor.contiguous()
        for name, tensor in twin.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    arrays = {name: np.asarray(tensor.numpy()) for name, tensor in state.items()}
    ops = space.ops(architecture)
    model = onnx_model(ops, arrays, dynamic_batch=True)
    batch = torch.export.Dim.DYNAMIC
    inputs = _own_inputs(ops, space.example_inputs(2))
    program = torch.export.export(twin, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    identity = json.dumps(_about(space, architecture), indent=2, sort_keys=True) + "\n"

    writers: dict[str, Callable[[Path], object]] = {
        "architecture.json": lambda path: path.write_text(identity, encoding="utf-8"),
        "weights.safetensors": lambda path: save_file(state, path),
        "model.onnx": lambda path: onnx.save(model, path),
        "model.pt2": lambda path: torch.export.save(program, path),
    }
    directory.mkdir(parents=True, exist_ok=True)
    return {name: _write(directory / name, writers[name]) for name in FILES}


def _own_inputs(ops: tuple[Op, ...], examples: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Example inputs of the sizes this architecture reads, which its space may let it choose."""
    written = {op.output.name for op in ops}
    read = {tensor.name: tensor.shape for op in ops for tensor in op.inputs if tensor.name not in written}
    return tuple(
        example if example.shape[1:] == shape else example.new_zeros((len(example), *shape))
        for example, shape in zip(examples, read.values(), strict=True)
    )


def _about(space: SearchSpace, architecture: Architecture) -> dict[str, object]:
    ops = space.ops(architecture)
    return {
        "architecture": architecture.to_json(),
        "space": {"name": space.name, "preset": space.preset, "options": space.options, "identity": space.identity},
        "macs": sum(op.macs for op in ops),
        "params": sum(op.params for op in ops),
    }


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, then move it there in one step."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        part = Path(folder) / path.name
        write(part)
        os.replace(part, path)
    return path
