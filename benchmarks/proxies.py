"""Zero-cost proxies against a table: how networks at initialisation rank beside what training made of them.

Networks of NAS-Bench-201 with input of the shape of the digits (12x12, grey; preset `digits`) are scored on one batch
of `digits_shifted`, and the scores ranked against the table's accuracy on CIFAR-10 (12 epochs, validation). Data and
width thus differ between proxy and table: what is tested is whether a score of a small network tells which cell is
good.

Columns of the markdown it prints (brackets: 95 % bootstrap over architectures):

- spearman, kendall: over all architectures drawn; undefined scores rank last, in a tie;
- connected: Spearman without the cells that no path crosses, which any proxy finds, as they learn nothing;
- better half: Spearman among the connected architectures with the better half of accuracies, where a search decides;
- beyond size: partial Spearman given the ranks of params and macs: what the proxy adds to them;
- minus params: Spearman minus that of params, on the same resamples;
- regret: accuracy of the best architecture drawn minus that of the one which the proxy puts first, in per cent;
- seeds: least and largest Spearman over initial weights (`--seeds` of them); other columns are those of seed 0;
- undefined, ms: how many scores are undefined, and the time for one architecture.

    .venv/bin/python benchmarks/proxies.py --quick
    .venv/bin/python benchmarks/proxies.py --architectures 1000 --seeds 3

The table is read from $ARCHSMITH_DATA, or ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from archsmith import spaces
from archsmith.predictors.proxies import BASELINES, PROXIES, score
from archsmith.predictors.ranking import bootstrap_tau, kendall_tau
from archsmith.predictors.tables.formats import read_table
from archsmith.predictors.tasks import catalog as tasks
from archsmith.spaces.space import SearchSpace

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ARCHSMITH_DATA", ROOT.parent / "shared" / "data"))
RESAMPLES = 1000

Array = NDArray[np.float64]


def correlation(a: Array, b: Array) -> Array:
    """Pearson's correlation of rows [..., N]; with ranks, Spearman's."""
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    return (a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))


def spearman(a: Array, b: Array) -> Array:
    """Spearman's correlation of rows [..., N]; a score of -inf ranks last."""
    return correlation(rankdata(a, axis=-1), rankdata(b, axis=-1))


def beyond(scores: Array, accuracy: Array, given: Array) -> Array:
    """Spearman's correlation of rows [..., N] that is left when the ranks of `given` [..., N, K] are regressed out."""
    known = np.moveaxis(rankdata(given, axis=-2), -1, -2)
    known = known - known.mean(axis=-1, keepdims=True)
    basis = np.linalg.svd(known, full_matrices=False)[2]  # [..., K, N] orthonormal

    def left(values: Array) -> Array:
        ranks = rankdata(values, axis=-1)
        ranks = ranks - ranks.mean(axis=-1, keepdims=True)
        return ranks - np.einsum("...kn,...k->...n", basis, np.einsum("...kn,...n->...k", basis, ranks))

    residual = left(scores)
    # What size explains wholly has nothing left but rounding.
    small = (residual**2).mean(axis=-1) < 1e-9 * residual.shape[-1] ** 2
    with np.errstate(invalid="ignore"):
        return np.where(small, np.nan, correlation(residual, left(accuracy)))


def bracket(value: float, resampled: Array) -> str:
    """A figure with its interval."""
    if np.isnan(value):
        return "–"
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def connected(space: SearchSpace, genomes: NDArray[np.int16]) -> NDArray[np.bool_]:
    """[B] whether any path crosses the cell."""
    empty = space.encode(space.architecture({gene.name: "none" for gene in space.genes}))
    return (space.keys(genomes) != space.keys(empty[None])).any(axis=1)


def row(name: str, runs: list[dict[str, Array]], accuracy: Array, alive: NDArray[np.bool_]) -> str:
    """One line of the table."""
    rng = np.random.default_rng(0)
    first = runs[0]
    values, size = first[name], np.stack([first["params"], first["macs"]], axis=1)
    drawn = rng.integers(0, len(values), (RESAMPLES, len(values)))
    resampled = spearman(values[drawn], accuracy[drawn])
    low, high = bootstrap_tau(rankdata(values), accuracy, resamples=RESAMPLES)
    figures = [bracket(float(spearman(values, accuracy)), resampled)]
    figures.append(f"{kendall_tau(rankdata(values), accuracy):.2f} [{low:.2f}, {high:.2f}]")
    for part in (alive, alive & (accuracy >= np.median(accuracy[alive]))):
        v, a = values[part], accuracy[part]
        drawn_part = rng.integers(0, len(v), (RESAMPLES, len(v)))
        figures.append(bracket(float(spearman(v, a)), spearman(v[drawn_part], a[drawn_part])))
    if name in BASELINES:
        figures.append("–")
    else:
        figures.append(
            bracket(float(beyond(values, accuracy, size)), beyond(values[drawn], accuracy[drawn], size[drawn]))
        )
    rival = spearman(first["params"][drawn], accuracy[drawn])
    gap = float(spearman(values, accuracy) - spearman(first["params"], accuracy))
    figures.append("–" if name == "params" else bracket(gap, resampled - rival))
    top = accuracy[values == values.max()].mean()
    figures.append(f"{100 * (accuracy.max() - top):.2f}")
    over = [float(spearman(run[name], accuracy)) for run in runs]
    figures.append("–" if name in BASELINES else f"{min(over):.2f} to {max(over):.2f}")
    figures.append(str(int(np.isneginf(values).sum())))
    return f"| {name} | " + " | ".join(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description="Proxies against NAS-Bench-201.")
    parser.add_argument("--architectures", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=2, help="initial weights and batches")
    parser.add_argument("--names", nargs="*", default=[*PROXIES], choices=[*PROXIES])
    parser.add_argument("--quick", action="store_true", help="60 architectures, batch 32, one seed")
    given = parser.parse_args()
    if given.quick:
        given.architectures, given.batch_size, given.seeds = 60, 32, 1
    path = DATA / "nb201.npz"
    if not path.exists():
        sys.exit(f"no nb201.npz in {DATA}; point ARCHSMITH_DATA at the folder with NAS-Bench-201's table.")
    torch.set_num_threads(1)
    space = spaces.get("nas_bench_201", "digits")
    table = read_table(path, space)
    rows = np.random.default_rng(0).choice(len(table), min(given.architectures, len(table)), replace=False)
    genomes = table.genomes[rows]
    accuracy = table.values("accuracy", genomes)
    task = tasks.get("digits_shifted", canvas=12)
    seconds = {}
    runs: list[dict[str, Array]] = []
    for seed in range(given.seeds):
        run = {}
        for name in [*BASELINES, *given.names]:
            started = time.perf_counter()
            run |= score(space, genomes, [name], task, seed=seed, batch_size=given.batch_size)
            seconds[name] = time.perf_counter() - started
        runs.append(run)
    alive = connected(space, genomes)
    print(f"{len(genomes)} architectures, {int((~alive).sum())} of them not connected; batch {given.batch_size}\n")
    print("| score | spearman | kendall | connected | better half | beyond size | minus params | regret | seeds "
          "| undefined | ms |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    order = sorted(runs[0], key=lambda name: (name not in BASELINES, -float(spearman(runs[0][name], accuracy))))
    for name in order:
        print(f"{row(name, runs, accuracy, alive)} | {1000 * seconds[name] / len(genomes):.1f} |")


if __name__ == "__main__":
    main()
