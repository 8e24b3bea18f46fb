"""Evaluations to the best: our strategies beside Optuna's samplers, on tables of real measurements, many seeds.

Three problems, each with its own figure after each number of evaluations:

- ``nb201``: NAS-Bench-201, CIFAR-10, validation accuracy after 12 epochs; the rank of the best architecture found among
  all 15,625 (1 is the best of the table).
- ``macro``: NAS-Bench-Macro, mean accuracy of three seeds; the rank among 6,561.
- ``front``: NAS-Bench-201, accuracy against latency on `pixel3`, `silver_4114` and `1080ti_1`, latency known and
  accuracy queried; the hypervolume as a share of the true front's, with the reference at 1.1 times the true front's
  nadir in error and in milliseconds.

Every strategy runs with its defaults; ours are asked for ten proposals at a time, Optuna's samplers, which gain by it,
for one. A run ends early where it has found the best of the table, because its rank cannot change any more. Finished
runs are appended to a file, so that the benchmark can be stopped, continued, and run with more seeds.

    .venv/bin/python benchmarks/strategies.py --problems nb201 macro front --seeds 500 --peer-seeds 100 --gp-seeds 20
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from archsmith import spaces
from archsmith.predictors.tables.formats import read_table
from archsmith.predictors.tables.table import ACCURACY, Table
from archsmith.search.pareto import hypervolume, nondominated_mask
from archsmith.search.pipeline.tabular import TableCosts
from archsmith.search.problem import Objective, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategy import Proposals, Results, TrialStatus

DATA = Path(os.environ.get("ARCHSMITH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
OURS = ("bayesian", "predictor_evolution", "local_search", "regularized_evolution", "nsga2", "random")
PEERS = ("optuna TPE", "optuna NSGA-II", "optuna GP")
BATCH = 10
DEVICES = ("pixel3", "silver_4114", "1080ti_1")
POINTS = {"nb201": (50, 100, 150, 200, 500), "macro": (20, 40, 60, 100), "front": (50, 100)}


@dataclass(frozen=True)
class Task:
    """A problem on a table, and its figure.

    Attributes:
        problem: what is searched.
        table: where values come from.
        points: numbers of evaluations at which the figure is taken.
        figure: from the minimised values found so far, [N, M], to the figure.
        done: from those values, whether the figure cannot change any more.
    """

    problem: Problem
    table: Table
    points: tuple[int, ...]
    figure: Callable[[NDArray[np.float64]], float]
    done: Callable[[NDArray[np.float64]], bool]

    def values(self, genomes: NDArray[np.int16]) -> NDArray[np.float64]:
        """[B, M] minimised values."""
        natural = [self.table.values(item.label, genomes) for item in self.problem.objectives]
        return self.problem.minimised(np.stack(natural, axis=1))


def accuracy_task(name: str) -> Task:
    """One objective, by rank."""
    space, file = (
        (spaces.get("nas_bench_201", "cifar10"), "nb201.npz")
        if name == "nb201"
        else (spaces.get("nas_bench_macro"), "nas_bench_macro.npz")
    )
    table = read_table(DATA / file, space)
    ordered = np.sort(-table.columns[ACCURACY].values[:, -1])
    problem = Problem(space=space, objectives=(Objective(name=ACCURACY, direction="max"),), equivalence=False)

    def rank(values: NDArray[np.float64]) -> float:
        return float(np.searchsorted(ordered, values.min()) + 1)

    return Task(problem, table, POINTS[name], rank, lambda values: rank(values) == 1)


def front_task(device: str) -> Task:
    """Accuracy, queried, against latency, known."""
    space = spaces.get("nas_bench_201", "cifar10")
    table = read_table(DATA / "nb201.npz", space)
    label = f"latency_ms@{device}"
    everything = np.stack([1 - table.columns[ACCURACY].values[:, -1], table.columns[label].values[:, -1]], axis=1)
    front = everything[nondominated_mask(everything)]
    reference = 1.1 * front.max(axis=0)
    whole = hypervolume(front, reference)
    problem = Problem(
        space=space,
        objectives=(
            Objective(name=ACCURACY, direction="max"),
            Objective(name="latency_ms", direction="min", device=device),
        ),
        known={label: TableCosts(table).known[label]},
        equivalence=False,
    )

    def share(values: NDArray[np.float64]) -> float:
        return hypervolume(values + np.array([1.0, 0.0]), reference) / whole  # minus accuracy -> error

    return Task(problem, table, POINTS["front"], share, lambda values: False)


def run_ours(task: Task, name: str, seed: int) -> list[float]:
    """The figure at each point, of a strategy of the catalog."""
    strategy = catalog.get(name, task.problem, seed)
    seen: list[NDArray[np.float64]] = []
    figures: list[float] = []
    for point in task.points:
        while sum(map(len, seen)) < point and not (seen and task.done(np.concatenate(seen))):
            proposals = strategy.ask(min(BATCH, point - sum(map(len, seen))))
            if not len(proposals):
                break
            values = task.values(proposals.genomes)
            strategy.tell(_results(proposals, values))
            seen.append(values)
        figures.append(task.figure(np.concatenate(seen)))
    return figures


def _results(proposals: Proposals, values: NDArray[np.float64]) -> Results:
    count = len(proposals)
    return Results(
        genomes=proposals.genomes,
        values=values,
        violations=np.zeros((count, 0)),
        fidelity=np.ones(count),
        cost_s=np.zeros(count),
        status=np.full(count, TrialStatus.OK, dtype=np.int8),
        sources=("measured:table",) * values.shape[1],
    )


def run_optuna(task: Task, name: str, seed: int) -> list[float]:
    """The figure at each point, of an Optuna sampler with its defaults; a repeated genome is an evaluation, too."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = {
        "optuna TPE": optuna.samplers.TPESampler,
        "optuna NSGA-II": optuna.samplers.NSGAIISampler,
        "optuna GP": optuna.samplers.GPSampler,
    }[name](seed=seed)
    count = len(task.problem.objectives)
    study = optuna.create_study(directions=["minimize"] * count, sampler=sampler)
    genes = task.problem.space.genes
    seen: list[NDArray[np.float64]] = []
    figures: list[float] = []
    for point in task.points:
        while len(seen) < point and not (seen and task.done(np.concatenate(seen))):
            trial = study.ask()
            choices = [trial.suggest_categorical(gene.name, list(range(gene.cardinality))) for gene in genes]
            values = task.values(np.array([choices], dtype=np.int16))
            study.tell(trial, values[0].tolist())
            seen.append(values)
        figures.append(task.figure(np.concatenate(seen)))
    return figures


def interval(values: NDArray[np.float64], replicates: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (replicates, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def work(problems: Iterable[str], contenders: list[str], seeds: dict[str, int], log: Path, minutes: float) -> None:
    """Run what the log does not hold yet, seed by seed, so that every contender has about as many."""
    names = [part for name in problems for part in ([f"front@{d}" for d in DEVICES] if name == "front" else [name])]
    tasks = {n: front_task(n.partition("@")[2]) if n.startswith("front") else accuracy_task(n) for n in names}
    finished = {(row["problem"], row["contender"], row["seed"]) for row in read(log)}
    deadline = time.monotonic() + 60 * minutes
    with log.open("a", encoding="utf-8") as file:
        for seed in range(max(seeds.values())):
            for name, task in tasks.items():
                for contender in contenders:
                    if seed >= seeds[contender] or (name, contender, seed) in finished:
                        continue
                    if time.monotonic() > deadline:
                        return
                    started = time.process_time()
                    run = run_optuna if contender.startswith("optuna") else run_ours
                    figures = run(task, contender, seed)
                    row = {"problem": name, "contender": contender, "seed": seed, "figures": figures}
                    file.write(json.dumps({**row, "cpu_s": round(time.process_time() - started, 3)}) + "\n")
                    file.flush()


def read(log: Path) -> list[dict]:
    """Finished runs, each once though it may have been run twice."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    rows = [json.loads(line) for line in lines]
    return list({(row["problem"], row["contender"], row["seed"]): row for row in rows}.values())


def summarise(log: Path) -> str:
    """One table per problem."""
    rows = read(log)
    lines = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        points = POINTS[problem.partition("@")[0]]
        header = " | ".join(f"after {point}" for point in points)
        lines += [
            f"### {problem}",
            "",
            f"| strategy | seeds | {header} | CPU s |",
            "|---|---|" + "---|" * (len(points) + 1),
        ]
        mine = [row for row in rows if row["problem"] == problem]
        by = {
            name: [row for row in mine if row["contender"] == name]
            for name in dict.fromkeys(r["contender"] for r in mine)
        }
        for name, runs in sorted(by.items(), key=lambda item: _order(problem, item[1])):
            figures = np.array([run["figures"] for run in runs])
            cells = []
            for column in range(len(points)):
                low, high = interval(figures[:, column])
                form = "{:.4f} [{:.4f}, {:.4f}]" if problem.startswith("front") else "{:.2f} [{:.2f}, {:.2f}]"
                cells.append(form.format(figures[:, column].mean(), low, high))
            if not problem.startswith("front"):
                cells[-1] += (
                    f"; best in {100 * (figures[:, points.index(150 if 150 in points else 60)] == 1).mean():.0f} %"
                )
            cpu = np.mean([run["cpu_s"] for run in runs])
            lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {cpu:.1f} |")
        lines.append("")
    return "\n".join(lines)


def _order(problem: str, runs: list[dict]) -> float:
    mean = float(np.mean([run["figures"][1] for run in runs]))
    return -mean if problem.startswith("front") else mean


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="+", default=["nb201", "macro", "front"], choices=list(POINTS))
    parser.add_argument("--contenders", nargs="+", default=[*OURS, *PEERS])
    parser.add_argument("--seeds", type=int, default=500, help="of our strategies")
    parser.add_argument("--peer-seeds", type=int, default=100, help="of Optuna's TPE and NSGA-II")
    parser.add_argument("--gp-seeds", type=int, default=20, help="of Optuna's GP")
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--log", type=Path, default=Path("runs/benchmark_strategies.jsonl"))
    parser.add_argument("--quick", action="store_true", help="3 seeds each, for a look")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is absent: set ARCHSMITH_DATA to the folder of measured tables.")
    count = dict.fromkeys(options.contenders, options.seeds)
    count |= dict.fromkeys(("optuna TPE", "optuna NSGA-II"), options.peer_seeds)
    count["optuna GP"] = options.gp_seeds
    seeds = {name: min(count[name], 3) if options.quick else count[name] for name in options.contenders}
    options.log.parent.mkdir(parents=True, exist_ok=True)
    work(options.problems, options.contenders, seeds, options.log, options.minutes)
    print(f"{platform.processor() or platform.machine()}, one thread\n")
    print(summarise(options.log))


if __name__ == "__main__":
    main()
