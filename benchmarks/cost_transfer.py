"""Few-shot transfer of latency to new devices, against a plain ridge on the sources and a ceiling; prints markdown.

Run it with ``python benchmarks/cost_transfer.py [--quick] [--tables nb201 fbnet ofa] [--settings "CPUs unseen"]
[--measurements 5 10 20 50] [--draws 20]``. The data are HELP's tables (see `data_folder`). For each setting, source
devices and target devices are disjoint; on each target, `measurements` architectures are measured, drawn 20 times
(`--quick`: 5 times, and 10 measurements only), and Spearman's correlation is taken over all other architectures of the
table. Columns:

- ridge: a ridge (alpha 1) on the standardised, smoothed source latencies, random measurements;
- ours, random: `FewShotTransfer.adapt` on the same measurements; ours: on those that `suggest` picks, a seed per draw;
- ceiling: a ridge on all pairs of choices (FBNet, OFA: on the choices) from 4,000 measurements of the target;
- gap closed: (ours - ridge) / (ceiling - ridge);
- 1 sd, 2 sd: the shares of measured latencies within one and two stated standard deviations (right: 0.68, 0.95).

The interval behind a figure is a 95 % bootstrap over draws. HELP's own six unseen devices are not in these tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsmith import spaces
from archsmith.predictors import FewShotTransfer
from archsmith.predictors.cost.transfer_features import Design, codes_of
from archsmith.predictors.cost.transfer_sources import fit_sources
from archsmith.predictors.ranking import spearman
from archsmith.spaces.space import SearchSpace

HELP_SOURCES = ("1080ti_1", "1080ti_32", "1080ti_{batch}", "silver_4114", "silver_4210r", "samsung_a50", "pixel3",
                "essential_ph_1", "samsung_s7")  # fmt: skip
PHONES = ("essential_ph_1", "pixel3", "samsung_a50", "samsung_s7")
CPUS = ("gold_6240", "silver_4114", "silver_4210r")
CEILING_ROWS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Measured latencies of one space on many devices."""

    space: SearchSpace
    genomes: NDArray[np.int16]
    latency_ms: NDArray[np.float64]
    names: tuple[str, ...]
    settings: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]

    def columns(self, names: Sequence[str]) -> list[int]:
        """Positions of devices."""
        return [self.names.index(name) for name in names]


def data_folder() -> Path:
    """Where the measured tables are: $ARCHSMITH_DATA, else ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ARCHSMITH_DATA", default))
    if not (folder / "nb201.npz").exists():
        sys.exit(f"no nb201.npz in {folder}; point ARCHSMITH_DATA at the folder with the tables of HELP.")
    return folder


def load(name: str) -> Table:
    """One of the tables `nb201`, `fbnet`, `ofa`."""
    file = {"nb201": "nb201.npz", "fbnet": "fbnet_latency.npz", "ofa": "ofa_latency.npz"}[name]
    with np.load(data_folder() / file, allow_pickle=False) as data:
        choices = data["arch" if name == "ofa" else "ops"].astype(np.int64)
        latency, names = data["latency_ms"].astype(np.float64), tuple(map(str, data["latency_names"]))
    family = {"nb201": "nas_bench_201", "fbnet": "fbnet", "ofa": "ofa_mobilenetv3"}[name]
    space = spaces.get(family)
    if name == "ofa":
        columns = [
            [gene.values.index(value) if value in gene.values else 0 for value in choices[:, position].tolist()]
            for position, gene in enumerate(space.genes)
        ]
        choices = np.array(columns).T
        apart = {model: _apart(names, model) for model in ("2080ti", "titan_xp", "v100")}
        settings = apart | {"batch 1": _split(names, tuple(n for n in names if n.endswith("_1")))}
    else:
        sources = tuple(n.format(batch="256" if name == "nb201" else "64") for n in HELP_SOURCES)
        gpus = tuple(n for n in names if n not in PHONES + CPUS)
        settings = {"HELP's sources": (sources, tuple(n for n in names if n not in sources))}
        settings |= {
            f"{label} unseen": _split(names, targets)
            for label, targets in (("phones", PHONES), ("CPUs", CPUS), ("GPUs", gpus))
        }
    genomes = space.canonical(choices.astype(np.int16))
    return Table(space=space, genomes=genomes, latency_ms=latency, names=names, settings=settings)


def _split(names: tuple[str, ...], targets: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(name for name in names if name not in targets), targets


def _apart(names: tuple[str, ...], model: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _split(names, tuple(name for name in names if name.startswith(model)))


def plain_ridge(known: NDArray[np.float64], rows: NDArray[np.int64], latency: NDArray[np.float64]) -> NDArray:
    """[B] scores of a ridge (alpha 1) on standardised source latencies [B, D] from the latencies of some rows."""
    mean, spread = latency[rows].mean(), latency[rows].std() or 1.0
    centred = known[rows] - known[rows].mean(axis=0)
    weights = np.linalg.solve(centred.T @ centred + np.eye(known.shape[1]), centred.T @ (latency[rows] - mean) / spread)
    return known @ weights


def ceiling(table: Table, latency: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Spearman of a saturated model from 4,000 measurements of the target, on all other architectures."""
    codes = codes_of(table.space, table.genomes, "as_is")
    genes = range(codes.shape[1])
    pairs = [(a, b) for a in genes for b in genes if a < b] if codes.shape[1] < 10 else []
    matrix = Design.of(codes, pairs).matrix(codes)
    order = rng.permutation(len(latency))
    rows, rest = order[:CEILING_ROWS], order[CEILING_ROWS:]
    mean = matrix[rows].mean(axis=0)
    centred = matrix[rows] - mean
    gram = centred.T @ centred + np.eye(matrix.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (latency[rows] - latency[rows].mean()))
    return spearman((matrix[rest] - mean) @ weights, latency[rest])


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Figures of one method in one setting: Spearman [targets, draws] and coverages."""

    ranks: NDArray[np.float64]
    coverage: tuple[float, float] = (float("nan"), float("nan"))

    def __str__(self) -> str:
        rng = np.random.default_rng(0)
        draws = self.ranks.mean(axis=0)
        means = draws[rng.integers(0, len(draws), (2000, len(draws)))].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        return f"{draws.mean():.4f} [{low:.4f}, {high:.4f}]"


def ours(
    table: Table, transfers: Sequence[FewShotTransfer], targets: Sequence[int], picks: Sequence[NDArray[np.int64]]
) -> Score:
    """Our models from these measurements, one choice of rows per draw."""
    ranks, inside = np.zeros((len(targets), len(picks))), []
    for draw, rows in enumerate(picks):
        rest = np.setdiff1d(np.arange(len(table.genomes)), rows)
        for number, target in enumerate(targets):
            latency = table.latency_ms[:, target]
            model = transfers[draw].adapt(table.genomes[rows], latency[rows], device=table.names[target])
            answer = model.predict(table.space, table.genomes[rest])
            ranks[number, draw] = spearman(answer.mean, latency[rest])
            off = np.abs(answer.mean - latency[rest]) / answer.std
            inside.append([(off <= 1).mean(), (off <= 2).mean()])
    one, two = np.mean(inside, axis=0)
    return Score(ranks=ranks, coverage=(float(one), float(two)))


def rows_of(table: Table, setting: str, measurements: Sequence[int], draws: int) -> Iterator[str]:
    """Lines of the markdown table of one setting."""
    sources, targets = (table.columns(names) for names in table.settings[setting])
    latency = table.latency_ms
    rng = np.random.default_rng(0)
    known = fit_sources(table.space, table.genomes, latency[:, sources], rng).standardised(
        codes_of(table.space, table.genomes, "as_is")
    )
    top = float(np.mean([ceiling(table, latency[:, target], rng) for target in targets]))
    started = time.perf_counter()
    transfer = FewShotTransfer(seed=0).fit(table.space, table.genomes, latency[:, sources])
    fit_s = time.perf_counter() - started
    everything = np.arange(len(table.genomes))
    for count in measurements:
        random = [np.random.default_rng(draw).permutation(everything)[:count] for draw in range(draws)]
        ridge = Score(ranks=np.array([
            [spearman(np.delete(plain_ridge(known, rows, latency[:, t]), rows), np.delete(latency[:, t], rows))
             for rows in random] for t in targets
        ]))  # fmt: skip
        at_random = ours(table, [transfer] * draws, targets, random)
        suggested = [transfer.suggest_rows(count, seed=draw) for draw in range(draws)]
        best = ours(table, [transfer] * draws, targets, suggested)
        base = ridge.ranks.mean()
        gap = (best.ranks.mean() - base) / (top - base)
        yield (
            f"| {setting} | {count} | {ridge} | {at_random} | {best} | {top:.4f} | {gap:.0%} | "
            f"{at_random.coverage[0]:.2f}, {at_random.coverage[1]:.2f} | {best.coverage[0]:.2f}, "
            f"{best.coverage[1]:.2f} | {fit_s:.1f} |"
        )
        if count == 10:
            each = ", ".join(
                f"{table.names[t]} {value:.3f}" for t, value in zip(targets, best.ranks.mean(axis=1), strict=True)
            )
            print(f"<!-- {setting}, 10 suggested: {each} -->", flush=True)


def main() -> None:
    """Print one markdown table per space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 draws in place of 20, 10 measurements only")
    parser.add_argument("--tables", nargs="+", default=["nb201", "fbnet", "ofa"], choices=["nb201", "fbnet", "ofa"])
    parser.add_argument("--measurements", nargs="+", type=int, default=[5, 10, 20, 50])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--settings", nargs="+", default=[], help="only these, e.g. 'CPUs unseen'")
    arguments = parser.parse_args()
    draws, measurements = (5, [10]) if arguments.quick else (arguments.draws, arguments.measurements)
    for name in arguments.tables:
        table = load(name)
        print(f"\n### {name}: {len(table.genomes)} architectures, {len(table.names)} devices\n")
        print("| setting | measured | ridge | ours, random | ours | ceiling | gap closed | 1 sd, 2 sd random "
              "| 1 sd, 2 sd | fit, s |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|---|")
        for setting in [name for name in table.settings if not arguments.settings or name in arguments.settings]:
            for line in rows_of(table, setting, measurements, draws):
                print(line, flush=True)


if __name__ == "__main__":
    main()
