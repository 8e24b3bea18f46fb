"""Reading NAS-Bench-101 as published: a TFRecord file, without TensorFlow.

Each record is JSON: [module hash, epochs, adjacency bits, operations, metrics], the metrics a base64 protocol buffer.

Source: https://github.com/google-research/nasbench (api.py for the records, lib/model_metrics.proto for the metrics);
framing of TFRecord: length (8 bytes), its checksum (4), data, checksum (4).
"""

from __future__ import annotations

import base64
import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import ConfigError
from ...spaces.space import SearchSpace
from .table import ACCURACY, TEST_ACCURACY, Column, Table

__all__ = ["read_nas_bench_101"]


class _Final(NamedTuple):
    """The last evaluation of one training."""

    valid: float
    test: float
    seconds: float


def read_nas_bench_101(path: Path, space: SearchSpace) -> Table:
    """The mean over repeats by module, one fidelity per number of epochs that the file has (4, 12, 36, 108).

    Raises:
        ConfigError: the space is not `nas_bench_101`, or the file is cut short.
    """
    if space.name != "nas_bench_101":
        raise ConfigError("evaluator.path", path.name, "the space nas_bench_101", f"The job's space is {space.name}.")
    genomes: dict[str, tuple[int, ...]] = {}
    trained: dict[str, dict[int, list[_Final]]] = defaultdict(lambda: defaultdict(list))
    for record in _records(path):
        digest, epochs, bits, operations, metrics = json.loads(record)
        if digest not in genomes:
            genomes[digest] = _genome(bits, operations.split(","), space)
        trained[digest][int(epochs)].append(_last_evaluation(base64.b64decode(metrics)))
    epochs = sorted({count for runs in trained.values() for count in runs})
    if not epochs:
        raise ConfigError("evaluator.path", path.name, "at least one record")
    means = np.full((3, len(genomes), len(epochs)), np.nan)
    for row, digest in enumerate(genomes):
        for column, count in enumerate(epochs):
            if runs := trained[digest].get(count):
                means[:, row, column] = np.mean(runs, axis=0)
    shares = [count / epochs[-1] for count in epochs]
    names = (ACCURACY, TEST_ACCURACY, "training_s")
    columns = {name: Column.of(values, shares) for name, values in zip(names, means, strict=True)}
    rows = np.array(list(genomes.values()), dtype=np.int16)
    return Table(space, rows, columns, name=path.name, by="topology")


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while head := file.read(12):
            if len(head) < 12:
                raise _cut_short(path)
            (length,) = struct.unpack("<Q", head[:8])
            data = file.read(length + 4)
            if len(data) < length + 4:
                raise _cut_short(path)
            yield data[:-4]


def _cut_short(path: Path) -> ConfigError:
    return ConfigError("evaluator.path", path.name, "a whole TFRecord file", "It ends within a record: copy it again.")


def _genome(bits: str, operations: list[str], space: Any) -> tuple[int, ...]:
    size = len(operations)
    matrix = np.array([int(bit) for bit in bits]).reshape(size, size)
    return tuple(space.from_matrix(matrix.tolist(), operations[1:-1]).genome)


def _last_evaluation(message: bytes) -> _Final:
    """Of the fields of `ModelMetrics`: the last `evaluation_data` (1); in it time (2), valid (4) and test (5)."""
    last = [payload for field, payload in _fields(message) if field == 1][-1]
    assert isinstance(last, bytes)
    values = {field: payload for field, payload in _fields(last) if isinstance(payload, float)}
    return _Final(valid=values[4], test=values[5], seconds=values[2])


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Field number and payload of a protocol buffer message: varints, doubles and bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 1:
                yield tag >> 3, struct.unpack_from("<d", message, at)[0]
                at += 8
            case 2:
                length, at = _varint(message, at)
                yield tag >> 3, message[at : at + length]
                at += length
            case kind:
                raise ConfigError("evaluator.path", f"a metrics message with wire type {kind}", "0, 1 or 2")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
