"""Final regret against epochs spent on the learning curves of NAS-Bench-NLP: multi-fidelity search and full training.

345 recurrent networks, each with the validation loss after each of 50 epochs; four diverge and count as failures. Full
training draws N networks without repetition and trains each to the end: N * 50 epochs, and as regret how far the best
of them is from the best of all. The strategies get a share of those epochs and train what they like, with their
defaults, asked for one evaluation at a time. Effort is counted in two ways: *continued*, where a longer training goes
on from a shorter one (these curves have one learning rate schedule for all lengths, so that this is what happened), and
*again*, where each evaluation starts from nothing. `curves` is no strategy of the catalog: it trains a few networks to
the end, the others for a tenth of the epochs, and lets `CurveModel` or the last value say which of those to finish.

The order of networks by parameters, known before any training, is the only feature that MOBSTER has here.

    .venv/bin/python benchmarks/fidelity.py            # 200 seeds, 20 of MOBSTER
    .venv/bin/python benchmarks/fidelity.py --quick    # 20 seeds, 3 of MOBSTER

The data is NAS-Bench-NLP's (fmsnew/nas-bench-nlp-release, Apache-2.0) as `nas_bench_nlp_curves.json.gz` in the folder
`ARCHSMITH_DATA`, by default `../shared/data` beside the repository.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from archsmith.predictors.curves import CurveModel
from archsmith.predictors.tables.table import Column, Table
from archsmith.search.evaluators import CompositeEvaluator, Measured
from archsmith.search.problem import Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategy import Proposals
from archsmith.spaces.gene import Gene
from archsmith.spaces.space import GeneSpace

DATA = Path(os.environ.get("ARCHSMITH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FILE = "nas_bench_nlp_curves.json.gz"
EPOCHS = 50
NETWORKS = (20, 40, 80, 160, 345)
SHARES = (0.05, 0.10, 0.15, 0.20, 0.25)
STRATEGIES = ("asha", "hyperband", "iterative_deepening_hyperband", "mobster")
FULL_DRAWS = 20_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spent:
    """One run: epochs spent after each evaluation, and the best loss of a full training by then."""

    epochs: Array
    best: Array

    def at(self, epochs: float) -> float:
        """Best loss with so many epochs; infinite where no training was full by then."""
        row = int(np.searchsorted(self.epochs, epochs, side="right")) - 1
        return float(self.best[row]) if row >= 0 else np.inf


def load(path: Path) -> Array:
    """[N, 50] validation losses in order of parameters, NaN from where a training diverged."""
    if not path.exists():
        sys.exit(f"{path} is missing; set ARCHSMITH_DATA to the folder that has {FILE}.")
    with gzip.open(path, "rt") as file:
        rows = sorted(json.load(file), key=lambda row: (row["params"], row["recepie_id"]))
    losses = np.full((len(rows), EPOCHS), np.nan)
    for losses_of, row in zip(losses, rows, strict=True):
        curve = np.array(row["val_loss_curve"], dtype=np.float64)
        losses_of[: len(curve)] = curve
        if row["status"] != "OK":
            losses_of[len(curve) - 1 :] = np.nan
    return losses


def search(name: str, losses: Array, seed: int, *, limit: float, again: bool) -> Spent:
    """A strategy of the catalog, until `limit` epochs are spent."""
    space = GeneSpace([Gene("network", tuple(range(len(losses))), kind="ordered")], name="nas_bench_nlp")
    problem = Problem(space=space, objectives=(Objective(name="loss", direction="min"),), equivalence=False)
    shares = (np.arange(1, EPOCHS + 1) / EPOCHS).tolist()
    genomes = np.arange(len(losses), dtype=np.int16)[:, None]
    table = Table(space, genomes, {"loss": Column.of(losses, shares)}, name="nas_bench_nlp")

    def look_up(proposals: Proposals) -> Measured:
        values = table.values("loss", proposals.genomes, epochs_of(proposals.fidelity) / EPOCHS)
        return Measured(values, np.zeros(len(values)), np.isfinite(values), "measured:table")

    evaluator = CompositeEvaluator(problem, {"loss": look_up})
    strategy = catalog.get(name, problem, seed)
    trained: dict[int, int] = {}
    spent, best, log = 0, np.inf, list[tuple[float, float]]()
    while spent < limit and len(proposals := strategy.ask(1)):
        results = evaluator.evaluate(proposals)
        strategy.tell(results)
        network, epochs = int(proposals.genomes[0, 0]), int(epochs_of(proposals.fidelity)[0])
        spent += epochs if again else epochs - trained.get(network, 0)
        trained[network] = epochs
        if results.eligible[0]:
            best = min(best, float(results.values[0, 0]))
        log.append((spent, best))
    return Spent(*np.array(log).T)


def epochs_of(fidelity: Array) -> NDArray[np.int64]:
    """Whole epochs of a share, at least one."""
    return np.maximum(np.round(fidelity * EPOCHS).astype(np.int64), 1)


def by_curves(losses: Array, seed: int, *, budget: float, model: bool) -> float:
    """Best loss of: a sixth of the budget on full trainings, half of it on tenths, the rest on finishing the best."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(losses))
    short, first = EPOCHS // 10, max(5, int(budget / 6) // EPOCHS)
    full = order[:first]
    spent = first * EPOCHS
    count = max(0, min(len(order) - first, int((budget / 2) // short)))
    tried = order[first : first + count]
    spent += count * short
    alive = tried[np.isfinite(losses[tried, short - 1])]
    predicted = losses[alive, short - 1]
    known = losses[full][np.isfinite(losses[full, -1])]
    if model and len(known) >= 5:
        fitted = CurveModel(length=EPOCHS)
        fitted.fit(known)
        predicted = fitted.predict(losses[alive, :short])[0]
    finish = alive[np.argsort(predicted, kind="stable")][: max(0, int((budget - spent) // (EPOCHS - short)))]
    if spent > budget:
        return np.inf
    return float(np.nanmin(np.concatenate([losses[full, -1], losses[finish, -1], [np.inf]])))


def full_training(losses: Array, networks: int, rng: np.random.Generator) -> Array:
    """[FULL_DRAWS] best loss of `networks` different networks."""
    final = np.where(np.isfinite(losses[:, -1]), losses[:, -1], np.inf)
    if networks >= len(final):
        return np.full(FULL_DRAWS, final.min())
    rows = np.argsort(rng.random((FULL_DRAWS, len(final)), dtype=np.float32), axis=1)[:, :networks]
    return final[rows].min(axis=1)


def interval(regrets: Array, rng: np.random.Generator) -> str:
    """Mean and 95 % bootstrap interval; how many runs had no full training at all."""
    there = regrets[np.isfinite(regrets)]
    if len(there) < len(regrets) / 2:
        return f"{'none finished':>21}"
    means = there[rng.integers(0, len(there), (2000, len(there)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    lost = "" if len(there) == len(regrets) else f" ({len(regrets) - len(there)} none)"
    return f"{there.mean():.3f} [{low:.3f}, {high:.3f}]{lost}"


def rows_of(losses: Array, seeds: int, slow_seeds: int) -> Iterator[tuple[str, dict[tuple[int, float], Array]]]:
    """Every method with the best losses [seeds] by number of networks and share of their epochs."""
    limit = max(SHARES) * max(NETWORKS) * EPOCHS
    for name in STRATEGIES:
        for again in (False, True):
            count = slow_seeds if name == "mobster" else seeds
            runs = [search(name, losses, seed, limit=limit, again=again) for seed in range(count)]
            yield (
                f"{name}, {'again' if again else 'continued'}",
                {
                    (number, share): np.array([run.at(share * number * EPOCHS) for run in runs])
                    for number in NETWORKS
                    for share in SHARES
                },
            )
    for model in (False, True):
        yield (
            f"curves, {'CurveModel' if model else 'last value'}",
            {
                (number, share): np.array(
                    [by_curves(losses, seed, budget=share * number * EPOCHS, model=model) for seed in range(seeds)]
                )
                for number in NETWORKS
                for share in SHARES
            },
        )


def main() -> None:
    """Print regret by method, and the share of epochs that suffices for the regret of full training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few seeds")
    quick = parser.parse_args().quick
    losses = load(DATA / FILE)
    best = float(np.nanmin(losses[:, -1]))
    rng = np.random.default_rng(0)
    full = {number: full_training(losses, number, rng) - best for number in NETWORKS}
    print(f"{len(losses)} networks, {int(np.isfinite(losses[:, -1]).sum())} finished; best final loss {best:.4f}")
    print("\nMean regret [95 % interval] at 25 % of the epochs of N full trainings, and the least share in")
    print(f"{', '.join(f'{share:.0%}' for share in SHARES)} whose mean regret is at most that of full training\n")
    print("| method | " + " | ".join(f"N = {number}" for number in NETWORKS) + " |")
    print("|---" * (len(NETWORKS) + 1) + "|")
    print("| full training, 100 % | " + " | ".join(f"{full[number].mean():.3f}" for number in NETWORKS) + " |")
    for label, losses_of in rows_of(losses, *((20, 3) if quick else (200, 20))):
        cells = []
        for number in NETWORKS:
            enough = [share for share in SHARES if losses_of[number, share].mean() - best <= full[number].mean() + 1e-9]
            reached = f"{enough[0]:.0%}" if enough else "more"
            cells.append(f"{interval(losses_of[number, SHARES[-1]] - best, rng)}, {reached}")
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
