"""Whole-network cost models beside plain peers, on published measurements of unseen architectures; prints JSON lines.

    .venv/bin/python benchmarks/cost_network.py [hat] [ofa] [nb101] [zeus] [--quick]

* ``hat``: latency of Transformers (encoder plus decoder, and each apart), 1,600 training rows, the other 400 asked;
* ``ofa``: latency of OFA-MobileNetV3 subnets on eight columns, 1,000 training rows, the other 4,000 asked;
* ``nb101``: energy of training NAS-Bench-101 cells, a quarter of the cells held out;
* ``zeus``: the power-limit model, whole networks or graphics cards held out.

Every figure is the mean over random splits with the least and the greatest; ``--quick`` takes one split. Peers and ours
see the same rows in the same run. The data lies in ``ARCHSMITH_DATA``, by default ``../shared/data`` beside the
repository. One core; a full run takes about half an hour.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from archsmith import spaces
from archsmith.hwmodels.calibration import held_out_report
from archsmith.hwmodels.training_energy import PowerLaw, fit_law
from archsmith.predictors.cost.features import NetworkFeatures
from archsmith.predictors.regressors.ensemble import CostRegressor
from archsmith.spaces.families.nas_bench_101 import PRESETS, NasBench101Space
from archsmith.spaces.families.nas_bench_101_module import CHOICES

DATA = Path(os.environ.get("ARCHSMITH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")

Array = NDArray[np.float64]
Answer = tuple[Array, Array | None]
"""Predictions of the unseen rows, and the uncertainty stated with them."""


def ours(train: Array, targets: Array, unseen: Array) -> Answer:
    """The default regressor for costs."""
    model = CostRegressor()
    model.fit(train, targets)
    return model.predict(unseen)


def boosting(train: Array, targets: Array, unseen: Array) -> Answer:
    """scikit-learn's histogram booster as it comes."""
    return HistGradientBoostingRegressor(random_state=0).fit(train, targets).predict(unseen), None


def mlp(train: Array, targets: Array, unseen: Array) -> Answer:
    """Three hidden layers of 400 on standardised columns and targets, a tenth of the rows to stop early on."""
    scale = float(targets.std())
    model = make_pipeline(
        StandardScaler(),
        MLPRegressor(hidden_layer_sizes=(400, 400, 400), early_stopping=True, max_iter=500, random_state=0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train, (targets - targets.mean()) / scale)
    return targets.mean() + scale * model.predict(unseen), None


def one_hot_ridge(train: Array, targets: Array, unseen: Array) -> Answer:
    """Ridge on indicators of every column but the last (the resolution), its square, and their products."""
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(train[:, :-1])

    def design(rows: Array) -> Array:
        indicators, size = encoder.transform(rows[:, :-1]), rows[:, -1:] / 224.0
        return np.concatenate([indicators, size, size**2, indicators * size**2], axis=1)

    return Ridge(alpha=1.0).fit(design(train), targets).predict(design(unseen)), None


def compare(
    title: Mapping[str, object], methods: dict[str, tuple[Callable[[Array, Array, Array], Answer], Array]],
    targets: Array, *, training: int, splits: int,
) -> None:  # fmt: skip
    """Print one line per method: its figures over random splits into `training` rows and the rest."""
    for name, (method, table) in methods.items():
        reports: list[dict[str, float]] = []
        start = time.perf_counter()
        for seed in range(splits):
            order = np.random.default_rng(seed).permutation(len(targets))
            seen, unseen = order[:training], order[training:]
            mean, std = method(table[seen], targets[seen], table[unseen])
            reports.append(held_out_report(mean, targets[unseen], std))
        figures = {
            key: [round(pick([report[key] for report in reports]), 4) for pick in (np.mean, np.min, np.max)]
            for key in ("mape", "within_5_percent", "within_10_percent", "spearman", "kendall_tau", "rmse",
                        "coverage_1sd", "coverage_2sd")
            if key in reports[0]
        }  # fmt: skip
        seconds = round((time.perf_counter() - start) / splits, 1)
        print(json.dumps({**title, "method": name, "splits": splits, **figures, "seconds": seconds}), flush=True)


def hat(splits: int) -> None:
    """HAT's latencies, from HAT's ten features: whole networks, then encoder and decoder apart."""
    rows = read("hat_latency_ms.csv.gz")
    inputs = list(rows[0])[2:12]
    sets = dict.fromkeys((row["task"], row["device"]) for row in rows)
    for part, (task, device) in itertools.product(("whole", "encoder", "decoder"), sets):
        mine = [row for row in rows if (row["task"], row["device"]) == (task, device)]
        table = np.array([[float(row[name]) for name in inputs] for row in mine])
        encoder, decoder = (
            np.array([float(row[f"latency_mean_{half}"]) for row in mine]) for half in ("encoder", "decoder")
        )
        targets = {"whole": encoder + decoder, "encoder": encoder, "decoder": decoder}[part]
        title = {"table": "hat", "task": task, "device": device, "part": part}
        methods = {"mlp": (mlp, table), "boosting": (boosting, table), "ours": (ours, table)}
        compare(title, methods, targets, training=1600, splits=splits)


def ofa(splits: int) -> None:
    """OFA-MobileNetV3's latencies, from the genes and Ops of our space."""
    with np.load(DATA / "ofa_latency.npz", allow_pickle=False) as data:
        rows, latency_ms = data["arch"], data["latency_ms"].astype(np.float64)
        names = data["latency_names"].tolist()
    space = spaces.get("ofa_mobilenetv3", "w1.0")
    genomes = np.array([
        [gene.index(int(value)) for value in column] for gene, column in zip(space.genes, rows.T, strict=True)
    ], dtype=np.int16).T  # fmt: skip
    table, raw = NetworkFeatures(space).matrix(space.canonical(genomes)), rows.astype(np.float64)
    for column, name in enumerate(names):
        methods = {"one_hot_ridge": (one_hot_ridge, raw), "boosting": (boosting, raw), "ours": (ours, table)}
        compare({"table": "ofa", "column": name}, methods, latency_ms[:, column], training=1000, splits=splits)


def nb101(splits: int) -> None:
    """Training energy of NAS-Bench-101 cells: peers on the cell as the benchmark writes it, ours on our space."""
    rows = read("nb101_energy.csv.gz")
    space = NasBench101Space(PRESETS["cifar10"], preset="cifar10")
    genomes, cells = [], []
    for row in rows:
        matrix, labels = json.loads(row["adj"]), json.loads(row["ops"])
        genomes.append(space.encode(space.from_matrix(matrix, [CHOICES[label] for label in labels[1:-1]])))
        cells.append(cell(np.array(matrix), labels))
    table, raw = NetworkFeatures(space).matrix(np.stack(genomes)), np.array(cells)
    params = np.array([[float(row["params"])] for row in rows])
    for quantity in ("train_energy_kwh", "gpu_energy_j", "total_energy_kwh", "train_time_s"):
        targets = np.array([float(row[quantity]) for row in rows])
        methods = {"params_alone": (boosting, params), "boosting": (boosting, raw), "ours": (ours, table)}
        title = {"table": "nb101", "quantity": quantity}
        compare(title, methods, targets, training=len(rows) - len(rows) // 4, splits=splits)


def cell(matrix: NDArray[np.int64], labels: list[int]) -> Array:
    """A cell's edges among seven vertices (the output last), its operations, and how many of each it has."""
    place = [*range(len(labels) - 1), 6]
    edges, operations = np.zeros((7, 7)), np.full(7, -3)
    edges[np.ix_(place, place)] = matrix
    operations[place] = labels
    chosen = (operations[:, None] == np.arange(3)).astype(np.float64)
    return np.concatenate([
        edges[np.triu_indices(7, 1)], chosen.ravel(), chosen.sum(axis=0), [len(labels), matrix.sum()]
    ])  # fmt: skip


def zeus(_splits: int) -> None:
    """The power-limit law: times and energies at other limits than a workload's greatest, and the limit chosen."""
    rows = read("zeus_gpu_power.csv.gz")
    cards, networks = (np.array([row[name] for row in rows]) for name in ("gpu", "network"))
    keys = [tuple(row[name] for name in ("gpu", "dataset", "network", "batch_size", "optimizer")) for row in rows]
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    runs = Runs(
        np.array([order[key] for key in keys]),
        *(np.array([float(row[name]) for row in rows]) for name in ("power_limit", "time_per_epoch", "average_power")),
        np.array([max(float(row["power_limit"]) for row in rows if row["gpu"] == card) for card in cards]),
    )
    for card in dict.fromkeys(cards.tolist()):
        print(json.dumps({"table": "zeus", "law": card} | asdict(runs.fit(cards == card))))
    print(json.dumps({"table": "zeus", "law": "pooled"} | asdict(runs.fit(cards == cards))))
    print(json.dumps({"table": "zeus", "held_out": "a network of a known card"}
                     | runs.judge([((cards == card) & (networks == name), (cards == card) & (networks != name))
                                   for card in set(cards) for name in set(networks)])))  # fmt: skip
    print(json.dumps({"table": "zeus", "held_out": "a card"}
                     | runs.judge([(cards == card, cards != card) for card in set(cards)])))  # fmt: skip


@dataclass(frozen=True)
class Runs:
    """Zeus's runs [R]: number of the workload, limit, time of an epoch, average power, the card's greatest limit."""

    workload: NDArray[np.int64]
    limit_w: Array
    time_s: Array
    power_w: Array
    greatest_w: Array

    def fit(self, chosen: NDArray[np.bool_]) -> PowerLaw:
        """The law of the chosen runs [R]."""
        return fit_law(
            self.workload[chosen], self.limit_w[chosen], self.time_s[chosen], self.power_w[chosen],
            max_limit_w=self.greatest_w[chosen],
        )  # fmt: skip

    def judge(self, folds: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> dict[str, float]:
        """Errors of laws on held-out runs; folds are (held out, fitted on). A workload is known by its anchor."""
        errors: dict[str, list[Array]] = {"time": [], "power": [], "energy": []}
        regret: dict[str, list[float]] = {"chosen_limit": [], "greatest_limit": []}
        for held, fitted in folds:
            law = self.fit(fitted)
            for number in np.unique(self.workload[held]):
                mine = np.flatnonzero(self.workload == number)
                mine = mine[np.argsort(-self.limit_w[mine])]
                first, limits = mine[0], self.limit_w[mine]
                curve = law.scaled(self.greatest_w[first], limits.min()).curve(
                    time_s=self.time_s[first], power_w=self.power_w[first]
                )
                pairs = {
                    "time": (curve.time_s(limits), self.time_s[mine]),
                    "power": (curve.power_w(limits), self.power_w[mine]),
                    "energy": (curve.energy_j(limits), self.time_s[mine] * self.power_w[mine]),
                }
                for name, (predicted, measured) in pairs.items():
                    errors[name].append(np.abs(predicted / measured - 1.0)[1:])
                cost = self.time_s[mine] * (0.5 * self.power_w[mine] + 0.5 * self.greatest_w[first])
                best = int(np.flatnonzero(limits == curve.best_limit_w(0.5, limits))[0])
                regret["chosen_limit"].append(cost[best] / cost.min() - 1.0)
                regret["greatest_limit"].append(cost[0] / cost.min() - 1.0)
        figures = {f"{name}_mape": float(np.concatenate(values).mean()) for name, values in errors.items()}
        return figures | {f"regret_of_{name}": float(np.mean(values)) for name, values in regret.items()}


def read(name: str) -> list[dict[str, str]]:
    """The rows of a table of the data folder."""
    with gzip.open(DATA / name, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Print one JSON line per table, column and method."""
    tables = {"hat": hat, "ofa": ofa, "nb101": nb101, "zeus": zeus}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"any of {', '.join(tables)}; default all")
    parser.add_argument("--quick", action="store_true", help="one split instead of three")
    options = parser.parse_args()
    if unknown := set(options.tables) - set(tables):
        parser.error(f"unknown tables {sorted(unknown)}; allowed: {', '.join(tables)}")
    if not DATA.is_dir():
        parser.error(f"{DATA} is absent; set ARCHSMITH_DATA to the folder of published measurements.")
    with threadpool_limits(1):
        for name in options.tables or tables:
            tables[name](1 if options.quick else 3)


if __name__ == "__main__":
    main()
