"""Predictors beside plain peers: Kendall's tau on the rest of a table, from a few of its architectures; and speed.

One JSON line per table and predictor: the mean over draws, its 95 % interval (Student) and the spread of single draws.
Every predictor sees the same draws. `auto` and `gp` are used as they come, with no setting per table. Peers: ridge
(strength 1) and a Gaussian process (one squared-exponential kernel and noise, fitted by marginal likelihood), both
scikit-learn's on one-hot genes; and the MACs alone.

The OFA table lists some architectures several times: they are one, with the mean accuracy, so that no fitted
architecture is asked for. Tables named `genes …` hide networks: predictors see the genes alone.

    .venv/bin/python benchmarks/predictors.py --quick
    .venv/bin/python benchmarks/predictors.py --draws 20 tau speed pretraining curves

The tables are read from $ARCHSMITH_DATA, or ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import ast
import csv
import gzip
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from archsmith import spaces
from archsmith.predictors.auto import auto
from archsmith.predictors.curves import CurveModel, curve_features
from archsmith.predictors.encodings import encode
from archsmith.predictors.features import Features, kernel_blocks
from archsmith.predictors.pretraining import free_statistics
from archsmith.predictors.ranking import kendall_tau
from archsmith.predictors.regressors.deep_ensemble import DeepEnsemble, DeepEnsembleSettings
from archsmith.predictors.regressors.gp import GaussianProcess
from archsmith.spaces.space import GeneSpace, SearchSpace

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ARCHSMITH_DATA", ROOT.parent / "shared" / "data"))

Array = NDArray[np.float64]
Population = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of architectures and one quantity; `fitted` of its rows are shown to predictors."""

    name: str
    space: SearchSpace
    genomes: Population
    targets: Array
    fitted: int


def nas_bench_201() -> Table:
    """Validation accuracy on CIFAR-10 after 12 epochs."""
    with np.load(DATA / "nb201.npz") as table:
        genomes, targets = table["ops"].astype(np.int16), table["acc12"][:, 0].astype(np.float64)
    space = spaces.get("nas_bench_201")
    return Table(name="NAS-Bench-201, 12 epochs", space=space, genomes=genomes, targets=targets, fitted=100)


def nas_bench_macro() -> Table:
    """Mean test accuracy of three seeds on CIFAR-10."""
    with np.load(DATA / "nas_bench_macro.npz") as table:
        genomes, targets = table["arch"].astype(np.int16), table["test_acc"].mean(axis=1, dtype=np.float64)
    space = spaces.get("nas_bench_macro")
    return Table(name="NAS-Bench-Macro", space=space, genomes=genomes, targets=targets, fitted=100)


def ofa() -> Table:
    """ImageNet top-1 of Once-for-All subnets."""
    space = spaces.get("ofa_mobilenetv3", "w1.0")
    rows, targets = [], []
    with gzip.open(DATA / "ofa_mbv3_imagenet_top1.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            choice = ast.literal_eval(row["Sub-network"])
            values = [*choice["ks"], *choice["e"], *choice["d"], *choice["r"]]
            rows.append([gene.index(int(value)) for gene, value in zip(space.genes, values, strict=True)])
            targets.append(float(row["Top-1 Acc (%)"]))
    genomes = space.canonical(np.array(rows, dtype=np.int16))
    _, first, number = np.unique(space.keys(genomes), axis=0, return_index=True, return_inverse=True)
    mean = np.bincount(number.ravel(), weights=targets) / np.bincount(number.ravel())
    return Table(name="OFA, ImageNet top-1", space=space, genomes=genomes[first], targets=mean, fitted=200)


def nas_bench_101() -> Table:
    """Validation accuracy after 4 epochs."""
    from archsmith.spaces.families.nas_bench_101 import CHOICES, NasBench101Space

    space = spaces.get("nas_bench_101")
    assert isinstance(space, NasBench101Space)
    rows, targets = [], []
    with gzip.open(DATA / "nb101_energy.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            labels = [CHOICES[label] for label in json.loads(row["ops"])[1:-1]]
            rows.append(space.encode(space.from_matrix(json.loads(row["adj"]), labels)))
            targets.append(float(row["valid_acc"]))
    return Table(
        name="NAS-Bench-101, 4 epochs", space=space, genomes=np.stack(rows), targets=np.array(targets), fitted=100
    )


def genes_only(table: Table) -> Table:
    """The same table, of a space that knows nothing but its genes."""
    space = GeneSpace(table.space.genes, name="genes")
    return Table(
        name=f"genes of {table.name}", space=space, genomes=table.genomes, targets=table.targets, fitted=table.fitted
    )


Predict = Callable[[Table, NDArray[np.intp], NDArray[np.intp], int], Array]


def _auto(table: Table, fitted: NDArray[np.intp], asked: NDArray[np.intp], seed: int) -> Array:
    predictor = auto(table.space, table.genomes[fitted], table.targets[fitted], seed=seed)
    return predictor.predict(table.space, table.genomes[asked]).mean


def _gp(table: Table, fitted: NDArray[np.intp], asked: NDArray[np.intp], seed: int) -> Array:
    features = Features(table.space)
    process = GaussianProcess(kernel_blocks(features))
    process.fit(features(table.genomes[fitted]), table.targets[fitted])
    return process.predict_latent(features(table.genomes[asked]))[0]


def _plain_gp(table: Table, fitted: NDArray[np.intp], asked: NDArray[np.intp], seed: int) -> Array:
    columns = encode(table.space, table.genomes, "one_hot")
    kernel = ConstantKernel() * RBF(2.0) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(columns[fitted], table.targets[fitted])
    return np.asarray(model.predict(columns[asked]))


def _plain_ridge(table: Table, fitted: NDArray[np.intp], asked: NDArray[np.intp], seed: int) -> Array:
    columns = encode(table.space, table.genomes, "one_hot")
    return Ridge(alpha=1.0).fit(columns[fitted], table.targets[fitted]).predict(columns[asked])


def _macs(table: Table, fitted: NDArray[np.intp], asked: NDArray[np.intp], seed: int) -> Array:
    return table.space.macs(table.genomes[asked]).astype(np.float64)


PREDICTORS: dict[str, Predict] = {
    "auto": _auto, "gp": _gp, "plain GP on one-hot": _plain_gp, "plain ridge on one-hot": _plain_ridge, "MACs": _macs,
}  # fmt: skip


def interval(values: list[float]) -> dict[str, float]:
    """Mean, its 95 % Student interval, and the standard deviation of single draws."""
    array = np.array(values)
    half = float(stats.t.ppf(0.975, len(array) - 1)) * array.std(ddof=1) / np.sqrt(len(array))
    mean = float(array.mean())
    numbers = {"mean": mean, "low": mean - half, "high": mean + half, "std": float(array.std(ddof=1))}
    return {key: round(float(value), 4) for key, value in numbers.items()}


def compare(table: Table, draws: int) -> None:
    """Print tau of every predictor on what it was not shown."""
    for name, predict in PREDICTORS.items():
        if name == "MACs" and isinstance(table.space, GeneSpace):
            continue
        taus, seconds = [], 0.0
        for seed in range(draws):
            order = np.random.default_rng(seed).permutation(len(table.targets))
            fitted, asked = order[: table.fitted], order[table.fitted :]
            start = time.process_time()
            believed = predict(table, fitted, asked, seed)
            seconds += time.process_time() - start
            taus.append(kendall_tau(believed, table.targets[asked]))
        line = {"table": table.name, "fitted": table.fitted, "predictor": name, "draws": draws}
        emit("tau", line | interval(taus) | {"seconds_per_draw": round(seconds / draws, 2)})


def tau(draws: int) -> None:
    """Figures of the three tables, of a fourth, and of two with the networks hidden."""
    for load in (nas_bench_201, nas_bench_macro, ofa, nas_bench_101):
        table = load()
        compare(table, draws)
        if load in (nas_bench_201, nas_bench_macro, ofa):
            compare(genes_only(table), draws)


def speed(draws: int) -> None:
    """Processor seconds of the Gaussian process: fit N rows, predict 15,000, on one core."""
    for name in ("nas_bench_201", "ofa_mobilenetv3"):
        space = spaces.get(name)
        features = Features(space)
        genomes = space.sample(15_000, np.random.default_rng(0))
        columns = features(genomes)
        targets = np.log(space.macs(genomes)) + np.random.default_rng(1).normal(0.0, 0.1, len(genomes))
        for n in (100, 300, 1000):
            times = []
            for _ in range(min(draws, 3)):
                process = GaussianProcess(kernel_blocks(features))
                start = time.process_time()
                process.fit(columns[:n], targets[:n])
                middle = time.process_time()
                process.predict(columns)
                times.append((middle - start, time.process_time() - middle))
            fit, predict = np.min(times, axis=0).round(3).tolist()
            emit("speed", {"space": name, "fitted": n, "columns": columns.shape[1], "fit_s": fit, "predict_s": predict})


def pretraining(draws: int) -> None:
    """Tau of a deep ensemble from 50 labels, with and without its body trained on free statistics first."""
    for load in (nas_bench_201, nas_bench_macro, ofa):
        table = load()
        features = Features(table.space, ["one_hot"])
        columns = features(table.genomes)
        free = free_statistics(features, seed=0)
        found: dict[bool, list[float]] = {True: [], False: []}
        for seed in range(min(draws, 10)):
            order = np.random.default_rng(seed).permutation(len(table.targets))
            fitted, asked = order[:50], order[50:]
            for pretrained in found:
                model = DeepEnsemble(DeepEnsembleSettings(seed=seed), pretraining=free if pretrained else None)
                model.fit(columns[fitted], table.targets[fitted])
                found[pretrained].append(kendall_tau(model.predict(columns[asked])[0], table.targets[asked]))
        better = sum(with_ >= without for with_, without in zip(found[True], found[False], strict=True))
        line = {"table": table.name, "fitted": 50, "better_or_equal": better, "of": len(found[True])}
        emit("pretraining", line | {"pretrained": interval(found[True]), "from_scratch": interval(found[False])})


def curves(draws: int) -> None:
    """Final loss of recurrent networks from the first epochs: tau of extrapolation, of a blend, of the last value."""
    with gzip.open(DATA / "nas_bench_nlp_curves.json.gz", "rt") as file:
        runs = [run for run in json.load(file) if run["status"] == "OK" and len(run["val_loss_curve"]) == 50]
    losses = np.array([run["val_loss_curve"] for run in runs], dtype=np.float64)
    losses = losses[np.isfinite(losses).all(axis=1)]
    final = losses[:, -1]
    for epochs in (3, 5, 8, 12, 25):
        found: dict[str, list[float]] = {"last value": [], "extrapolated": [], "learned": []}
        for seed in range(draws):
            order = np.random.default_rng(seed).permutation(len(final))
            known, asked = order[:40], order[40:]
            model = CurveModel(length=50)
            model.fit(losses[known])
            found["last value"].append(kendall_tau(losses[asked, epochs - 1], final[asked]))
            found["extrapolated"].append(kendall_tau(curve_features(losses[asked, :epochs], 50)[:, 0], final[asked]))
            found["learned"].append(kendall_tau(model.predict(losses[asked, :epochs])[0], final[asked]))
        for name, taus in found.items():
            emit("curves", {"epochs": epochs, "of": 50, "predictor": name, "runs": len(final)} | interval(taus))


def emit(benchmark: str, line: Mapping[str, object]) -> None:
    """Print one line."""
    print(json.dumps({"benchmark": f"predictors {benchmark}", **line}), flush=True)


SECTIONS: dict[str, Callable[[int], None]] = {"tau": tau, "speed": speed, "pretraining": pretraining, "curves": curves}


def main() -> None:
    """Print the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default tau and speed")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three draws")
    options = parser.parse_args()
    if unknown := sorted(set(options.sections) - set(SECTIONS)):
        parser.error(f"unknown sections {unknown}; choose from {', '.join(SECTIONS)}")
    if not DATA.is_dir():
        sys.exit(f"the tables are not at {DATA}; set ARCHSMITH_DATA to the folder that holds them.")
    with threadpool_limits(1):
        for section in options.sections or ("tau", "speed"):
            SECTIONS[section](3 if options.quick else options.draws)


if __name__ == "__main__":
    main()
