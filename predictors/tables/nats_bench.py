"""Reading NATS-Bench (topology, which is NAS-Bench-201) as published: compressed pickles, loaded without running code.

A pickle can name any function; the loader here resolves only the containers and numbers that the files are made of.

Source: Dong et al., NATS-Bench, https://arxiv.org/abs/2009.00437; https://github.com/D-X-Y/NATS-Bench
(api_topology.py for the file, api_utils.py for `ArchResults` and `ResultsCount`).
"""

from __future__ import annotations

import bz2
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...errors import ConfigError
from ...spaces.space import SearchSpace
from .table import ACCURACY, TEST_ACCURACY, Column, Table

__all__ = ["read_nats_bench"]

ALLOWED: Final = frozenset({
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("builtins", "dict"),
    ("builtins", "list"),
    ("builtins", "set"),
    ("builtins", "int"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
})  # fmt: skip

DATASETS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "cifar10": ("cifar10-valid", "x-valid", "cifar10", "ori-test"),
    "cifar100": ("cifar100", "x-valid", "cifar100", "x-test"),
    "imagenet16": ("ImageNet16-120", "x-valid", "ImageNet16-120", "x-test"),
}
"""By preset of the space: data set and split of the validation accuracy, data set and split of the test accuracy."""

_EDGE: Final = re.compile(r"([a-z0-9_]+)~(\d)")


def read_nats_bench(path: Path, space: SearchSpace) -> Table:
    """Validation and test accuracy after 12 and 200 epochs, the mean over seeds, with macs, params and latency.

    The data set follows the preset of the space: `cifar10`, `cifar100` or `imagenet16`. The latency is the benchmark's
    own, of a batch of 256 on one GPU: ``latency_ms@nats_bench``.

    Raises:
        ConfigError: the space is not `nas_bench_201` with one of these presets, or the file holds something else.
    """
    if space.name != "nas_bench_201" or space.preset not in DATASETS:
        raise ConfigError(
            "evaluator.path", path.name, f"the space nas_bench_201 with a preset of {', '.join(DATASETS)}"
        )
    valid_set, valid_split, test_set, test_split = DATASETS[space.preset]
    genomes: list[list[int]] = []
    accuracies: list[list[tuple[float, float]]] = []
    costs: list[tuple[float, float, float]] = []
    hps: list[str] = []
    for name, infos in _architectures(path):
        hps = hps or sorted(infos, key=int)
        genomes.append(_genome(name, space))
        accuracies.append(
            [
                (
                    _accuracy(infos[hp], valid_set, valid_split, int(hp)),
                    _accuracy(infos[hp], test_set, test_split, int(hp)),
                )
                for hp in hps
            ]
        )
        costs.append(_costs(infos[hps[-1]], valid_set))
    if not genomes:
        raise ConfigError("evaluator.path", path.name, "a file with at least one evaluated architecture")
    shares = [int(hp) / int(hps[-1]) for hp in hps]
    measured, cost = np.array(accuracies), np.array(costs)
    columns = {
        ACCURACY: Column.of(measured[:, :, 0], shares),
        TEST_ACCURACY: Column.of(measured[:, :, 1], shares),
        "macs": Column.of(cost[:, 0] * 1e6),
        "params": Column.of(cost[:, 1] * 1e6),
        "latency_ms@nats_bench": Column.of(cost[:, 2] * 1e3),
    }
    return Table(space, np.array(genomes, dtype=np.int16), columns, name=path.name)


class _Loader(pickle.Unpickler):
    """Refuses every name that the benchmark's files do not need."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ConfigError(
                "evaluator.path",
                f"a pickle that names {module}.{name}",
                "containers and numbers only",
                "Use the '-simple' folder or the file without weights.",
            )
        return super().find_class(module, name)


def _load(path: Path) -> Any:
    with bz2.open(path, "rb") as file:
        return _Loader(file).load()


def _architectures(path: Path) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    """Name of each evaluated architecture, and by number of epochs what its trainings gave."""
    if path.is_dir():
        names = _load(path / "meta.pickle.pbz2")["meta_archs"]
        for file in sorted(path.glob("[0-9]*.pickle.pbz2")):
            yield names[int(file.name.partition(".")[0])], _load(file)
        return
    data = _load(path)
    for index in sorted(data["arch2infos"]):
        yield data["meta_archs"][index], data["arch2infos"][index]


def _genome(name: str, space: SearchSpace) -> list[int]:
    """``|a~0|+|b~0|c~1|+|d~0|e~1|f~2|`` lists the edges by target, then source, as the genes do."""
    edges = [operation for operation, _ in _EDGE.findall(name)]
    if len(edges) != len(space.genes):
        raise ConfigError("evaluator.path", name, "an architecture of the topology space, with six edges")
    return [list(gene.values).index(edge) for gene, edge in zip(space.genes, edges, strict=True)]


def _accuracy(info: Mapping[str, Any], dataset: str, split: str, epochs: int) -> float:
    """Mean over seeds in [0, 1]; NaN where that data set was not trained this long."""
    values = [
        result["eval_acc1es"][f"{split}@{epochs - 1}"]
        for (name, _), result in info["all_results"].items()
        if name == dataset and f"{split}@{epochs - 1}" in result["eval_acc1es"]
    ]
    return float(np.mean(values)) / 100 if values else float("nan")


def _costs(info: Mapping[str, Any], dataset: str) -> tuple[float, float, float]:
    """MACs and parameters in millions (which the benchmark calls FLOPs), latency in seconds."""
    results = [result for (name, _), result in info["all_results"].items() if name == dataset]
    if not results:
        return float("nan"), float("nan"), float("nan")
    seconds = [value for result in results for value in (result.get("latency") or []) if value > 0]
    return (
        float(np.mean([result["flop"] for result in results])),
        float(np.mean([result["params"] for result in results])),
        float(np.mean(seconds)) if seconds else float("nan"),
    )
