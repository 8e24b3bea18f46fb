"""Reading benchmark tables: the published ones in their own formats, and anyone's own as CSV, Parquet or npz.

In CSV and Parquet every gene of the space is a column of that name, holding the chosen value as the space writes it;
every other numeric column is a quantity. An npz file of one's own has ``genomes`` [N, G] (choice indices in the order
of the space's genes) beside one array [N] per quantity.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...spaces.space import SearchSpace
from .nas_bench_101 import read_nas_bench_101
from .nats_bench import read_nats_bench
from .table import ACCURACY, TEST_ACCURACY, Column, Table

__all__ = ["read_table"]

Reader = Callable[[Path, SearchSpace], Table]


def read_table(path: Path, space: SearchSpace, columns: Mapping[str, str] | None = None) -> Table:
    """Read a table of a space's architectures.

    Args:
        path: NATS-Bench (the ``.pickle.pbz2`` file or the ``-simple`` folder of its topology space), NAS-Bench-101
            (``.tfrecord``), ``.npz``, ``.csv``, ``.csv.gz`` or ``.parquet``.
        space: whose architectures the rows are.
        columns: quantity -> name of the file's column, where they differ, e.g. ``{"accuracy": "val_top1"}``.

    Raises:
        ConfigError: the file is missing or unreadable, or its columns do not fit the space; says what is needed.
    """
    if not path.exists():
        raise ConfigError("evaluator.path", str(path), "an existing file or folder")
    ending = next((known for known in READERS if path.name.endswith(known)), None)
    if path.is_dir():
        ending = ".pickle.pbz2"
    if ending is None:
        raise ConfigError("evaluator.path", path.name, f"a file that ends in {', '.join(READERS)}")
    table = READERS[ending](path, space)
    for quantity, name in (columns or {}).items():
        if name not in table.columns:
            raise ConfigError(f"evaluator.columns.{quantity}", name, ", ".join(sorted(table.columns)))
        table.columns[quantity] = table.columns[name]
    return table


def _read_npz(path: Path, space: SearchSpace) -> Table:
    with np.load(path, allow_pickle=False) as file:
        data = {name: file[name] for name in file.files}
    if {"ops", "acc12", "latency_names"} <= data.keys():
        return _nas_bench_201(data, space, path.name)
    if {"arch", "test_acc"} <= data.keys():
        return _nas_bench_macro(data, space, path.name)
    if "genomes" not in data:
        raise ConfigError("evaluator.path", path.name, f"an npz file with genomes [N, {len(space.genes)}]")
    genomes = data.pop("genomes")
    return Table(
        space,
        _checked(genomes, space, path.name),
        {name: Column.of(values) for name, values in data.items() if values.shape == (len(genomes),)},
        name=path.name,
    )


def _nas_bench_201(data: Mapping[str, NDArray[Any]], space: SearchSpace, name: str) -> Table:
    """Accuracies after 12 epochs in per cent, costs in millions, latencies by device."""
    columns = {
        ACCURACY: Column.of(data["acc12"][:, 0] / 100),
        TEST_ACCURACY: Column.of(data["acc12"][:, 1] / 100),
        "macs": Column.of(data["macs_m"] * 1e6),
        "params": Column.of(data["params_m"] * 1e6),
    }
    for index, device in enumerate(data["latency_names"]):
        columns[f"latency_ms@{device}"] = Column.of(data["latency_ms"][:, index])
    return Table(space, _checked(data["ops"], space, name), columns, name=name)


def _nas_bench_macro(data: Mapping[str, NDArray[Any]], space: SearchSpace, name: str) -> Table:
    """The benchmark has no validation split: the mean of its three seeds is what is searched, and what is verified."""
    accuracy = Column.of(np.asarray(data["test_acc"], dtype=np.float64).mean(axis=1) / 100)
    columns = {ACCURACY: accuracy, "macs": Column.of(data["macs"]), "params": Column.of(data["params"])}
    return Table(space, _checked(data["arch"], space, name), columns, name=name)


def _checked(genomes: NDArray[Any], space: SearchSpace, name: str) -> NDArray[np.int16]:
    if genomes.ndim != 2 or genomes.shape[1] != len(space.genes):
        raise ConfigError(
            "evaluator.path", f"{name} with genomes of shape {genomes.shape}", f"[N, {len(space.genes)}] for {space}"
        )
    limits = np.array([len(gene.values) for gene in space.genes])
    outside = (genomes < 0) | (genomes >= limits)
    if outside.any():
        row, gene = (int(part) for part in np.argwhere(outside)[0])
        raise ConfigError(
            f"{name}, row {row}, gene {space.genes[gene].name}", int(genomes[row, gene]), f"0 to {limits[gene] - 1}"
        )
    return genomes.astype(np.int16)


def _read_csv(path: Path, space: SearchSpace) -> Table:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = list(csv.reader(data.decode("utf-8-sig").splitlines()))
    if not rows:
        raise ConfigError("evaluator.path", path.name, "a header and at least one row")
    header, body = rows[0], rows[1:]
    if uneven := next((number for number, row in enumerate(body, 2) if len(row) != len(header)), None):
        raise ConfigError(f"{path.name}, line {uneven}", f"{len(body[uneven - 2])} cells", f"{len(header)}, as above")
    return _from_columns({name: [row[i] for row in body] for i, name in enumerate(header)}, space, path.name)


def _read_parquet(path: Path, space: SearchSpace) -> Table:
    try:
        import pandas as pd

        frame = pd.read_parquet(path)
    except ImportError as error:
        raise ConfigError(
            "evaluator.path", path.name, "a CSV file, or Parquet with pandas and pyarrow installed", str(error)
        ) from error
    return _from_columns({str(name): frame[name].tolist() for name in frame.columns}, space, path.name)


def _from_columns(columns: Mapping[str, list[Any]], space: SearchSpace, name: str) -> Table:
    missing = [gene.name for gene in space.genes if gene.name not in columns]
    if missing:
        raise ConfigError(
            "evaluator.path",
            f"{name} without columns for the genes {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}",
            f"one column per gene of {space.name}: {', '.join(gene.name for gene in space.genes)}",
        )
    genomes = np.stack(
        [_choices(columns[gene.name], gene.name, gene.values, name) for gene in space.genes], axis=1
    ).astype(np.int16)
    genes = {gene.name for gene in space.genes}
    quantities = {}
    for label, cells in columns.items():
        if label not in genes and (numbers := _numbers(cells)) is not None:
            quantities[label] = Column.of(numbers)
    return Table(space, genomes, quantities, name=name)


def _choices(cells: list[Any], gene: str, choices: Iterable[object], table: str) -> NDArray[np.int64]:
    index = {str(choice): number for number, choice in enumerate(choices)}
    numbers = [index.get(str(cell).strip(), -1) for cell in cells]
    if -1 in numbers:
        row = numbers.index(-1)
        raise ConfigError(f"{table}, row {row + 1}, gene {gene}", cells[row], ", ".join(index))
    return np.array(numbers)


def _numbers(cells: list[Any]) -> NDArray[np.float64] | None:
    """The cells as numbers, an empty one as NaN; None for a column of text."""
    try:
        return np.array([float("nan") if cell in ("", None) else float(cell) for cell in cells])
    except (TypeError, ValueError):
        return None


READERS: Final[Mapping[str, Reader]] = {
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".parquet": _read_parquet,
    ".tfrecord": read_nas_bench_101,
    ".pickle.pbz2": read_nats_bench,
}
