"""Architectures proposed, costed and ranked per second: our NSGA-II beside pymoo's and Optuna's.

Same objectives, population, number of evaluations and seeds for all, in one process and one thread. The objectives are
cheap on purpose: an accuracy proxy of random pairwise gene interactions, and additive latency and parameter tables, all
vectorised. What is measured is the search itself. Rates are per second of processor time, so that other processes on
the machine do not decide; wall-clock rates are printed beside them. Hypervolume is that of everything evaluated, by one
reference point per space. pymoo gets what suits it best: vectorised objectives, integer random sampling, uniform
crossover, vectorised integer mutation and its own duplicate elimination. Optuna runs fewer trials because it is slow;
hypervolume is compared at its number of evaluations too.

    .venv/bin/python benchmarks/search_throughput.py --evaluations 20000 --seeds 5
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from archsmith.search.pareto import hypervolume
from archsmith.search.problem import Objective, Population, Problem
from archsmith.search.strategies.nsga2 import NSGA2
from archsmith.search.strategy import Results
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.site import Site, SiteIndex
from archsmith.spaces.space import GeneSpace, SearchSpace


@dataclass(frozen=True)
class Run:
    """One search: everything evaluated, and how long it took."""

    values: NDArray[np.float64]
    cpu_s: float
    wall_s: float


class Objectives:
    """[B, G] genomes -> [B, 3] minimised: proxy error, latency, params; fixed random tables of real shape.

    Costs are additive over sites, as in a real space: a block depends on its kernel, its expansion and whether the
    stage is deep enough to have it. The accuracy proxy is an additive gain with pairwise gene interactions.
    """

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.space = space
        self.sites = SiteIndex(space.table, _sites(space))
        table = np.zeros((self.sites.size, 3))
        for number, (first, count) in enumerate(zip(self.sites.offsets, self.sites.counts, strict=True)):
            choices = self.sites.configurations(number)
            present = _active_site(space, self.sites.sites[number], choices)
            limits = np.maximum(space.table.cardinalities[list(self.sites.sites[number].genes)] - 1, 1)
            growth = (choices / limits).mean(axis=1)
            # What is there costs and helps even at its first choice; more of it helps less and costs more.
            weight = rng.lognormal(0.0, 0.5)
            forms = -(0.3 + np.sqrt(growth)), 0.3 + growth, 0.2 + growth**1.5
            noise = rng.uniform(0.8, 1.2, (int(count), 3))
            table[first : first + count] = weight * np.stack(forms, axis=1) * noise * present[:, None]
        self.columns = [np.ascontiguousarray(column) for column in table.T]
        cardinalities = space.table.cardinalities.astype(np.int64)
        self.left, self.right = rng.integers(0, len(cardinalities), (2, len(cardinalities)))
        sizes = cardinalities[self.left] * cardinalities[self.right]
        self.first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.stride = cardinalities[self.right]
        self.pairs = rng.normal(0.0, 0.2, int(sizes.sum()))

    def minimised(self, genomes: Population) -> NDArray[np.float64]:
        """[B, 3], what every optimiser is given."""
        rows = self.sites.index(genomes)
        gain, latency_ms, params = (column.take(rows).sum(axis=1) for column in self.columns)
        pairs = genomes[:, self.left] * self.stride + genomes[:, self.right] + self.first
        return np.stack([np.exp(0.1 * (gain + self.pairs.take(pairs).sum(axis=1))), latency_ms, params], axis=1)

    def problem(self) -> Problem:
        """The three objectives as an archsmith problem."""
        names = ("error", "latency_ms", "params")
        return Problem(space=self.space, objectives=tuple(Objective(name=name, direction="min") for name in names))


def _sites(space: SearchSpace) -> list[Site]:
    """One site per group of genes with a common condition and block name, the condition's gene included."""
    groups: dict[str, set[int]] = {}
    for index, gene in enumerate(space.genes):
        members = groups.setdefault(gene.name.rpartition(".")[0] or gene.name, set())
        members |= {index, *(space.table.find(when.gene) for when in gene.when)}
    return [Site(name, tuple(sorted(genes)), lambda choices: ()) for name, genes in groups.items()]


def _active_site(space: SearchSpace, site: Site, choices: NDArray[np.int16]) -> NDArray[np.bool_]:
    """[N] whether the site's last gene is active under each configuration."""
    genomes = np.zeros((len(choices), len(space.genes)), dtype=np.int16)
    genomes[:, list(site.genes)] = choices
    return space.active(genomes)[:, site.genes[-1]]


def ofa_like() -> SearchSpace:
    """46 genes as in OFA-MobileNetV3: five stages of two to four blocks, kernel and expansion each, and resolution."""
    genes = [Gene(f"stages.{stage}.depth", (2, 3, 4), kind="ordered") for stage in range(5)]
    for stage in range(5):
        for block in range(4):
            when = () if block < 2 else (When(f"stages.{stage}.depth", tuple(range(block + 1, 5))),)
            name = f"stages.{stage}.blocks.{block}"
            genes.append(Gene(f"{name}.kernel", (3, 5, 7), kind="ordered", when=when))
            genes.append(Gene(f"{name}.expansion", (3, 4, 6), kind="ordered", when=when))
    genes.append(Gene("resolution", tuple(range(128, 225, 16)), kind="ordered"))
    return GeneSpace(genes, name="ofa_like")


def run_ours(objectives: Objectives, evaluations: int, population: int, seed: int) -> Run:
    """Our NSGA-II: ask, evaluate, tell."""
    strategy = NSGA2(objectives.problem(), seed, population=population)
    parts = []

    def search() -> None:
        while strategy.told < evaluations:
            proposals = strategy.ask(min(population, evaluations - strategy.told))
            values = objectives.minimised(proposals.genomes)
            parts.append(values)
            rows = len(values)
            strategy.tell(
                Results(
                    genomes=proposals.genomes,
                    values=values,
                    violations=np.zeros((rows, 0)),
                    fidelity=proposals.fidelity,
                    cost_s=np.zeros(rows),
                    status=np.zeros(rows, dtype=np.int8),
                    sources=("predicted:table",) * 3,
                )
            )

    return _timed(search, parts)


def run_pymoo(objectives: Objectives, evaluations: int, population: int, seed: int) -> Run:
    """NSGA-II of pymoo, with operators for integers and a vectorised problem."""
    from pymoo.algorithms.moo.nsga2 import NSGA2 as PYMOO_NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    space, parts = objectives.space, []
    upper = space.table.cardinalities - 1

    class Vectorised(PymooProblem):
        def __init__(self) -> None:
            super().__init__(n_var=len(upper), n_obj=3, xl=np.zeros(len(upper)), xu=upper, vtype=int)

        def _evaluate(
            self, x: NDArray[np.int64], out: dict[str, NDArray[np.float64]], *_: object, **__: object
        ) -> None:
            out["F"] = objectives.minimised(space.canonical(x.astype(np.int16)))
            parts.append(out["F"])

    algorithm = PYMOO_NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(prob=0.9),
        mutation=_integer_mutation(upper),
        eliminate_duplicates=True,
    )
    return _timed(lambda: minimize(Vectorised(), algorithm, ("n_eval", evaluations), seed=seed, verbose=False), parts)


def _integer_mutation(upper: NDArray[np.int16]) -> object:
    """Each gene changes with probability 1 / G to another of its values: vectorised, where pymoo's own loops."""
    from pymoo.core.mutation import Mutation

    class Reset(Mutation):
        def _do(
            self, problem: object, x: NDArray[np.int64], *, random_state: np.random.Generator, **_: object
        ) -> object:
            change = random_state.random(x.shape) < 1 / len(upper)
            steps = 1 + (random_state.random(x.shape) * upper).astype(np.int64)
            return np.where(change & (upper > 0), (x + steps) % (upper + 1), x)

    return Reset()


def run_optuna(objectives: Objectives, evaluations: int, population: int, seed: int) -> Run:
    """Optuna's NSGAIISampler, in memory, one trial at a time as its interface has it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    genes, table, parts = objectives.space.genes, objectives.space.table, []
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        row = [trial.suggest_categorical(gene.name, range(gene.cardinality)) for gene in genes]
        values = objectives.minimised(table.canonical(np.array([row], dtype=np.int16)))
        parts.append(values)
        return tuple(float(value) for value in values[0])

    return _timed(lambda: study.optimize(objective, n_trials=evaluations), parts)


def _timed(search: Callable[[], object], parts: list[NDArray[np.float64]]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    search()
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return Run(values=np.concatenate(parts), cpu_s=cpu_s, wall_s=wall_s)


RUNNERS: dict[str, Callable[[Objectives, int, int, int], Run]] = {
    "archsmith": run_ours,
    "pymoo": run_pymoo,
    "optuna": run_optuna,
}


def spaces() -> dict[str, SearchSpace]:
    """The demonstration's space and one of 46 genes."""
    from archsmith.spaces import get

    return {"mobilenet/digits": get("mobilenet", "digits"), "ofa_like": ofa_like()}


def compare(space: SearchSpace, options: argparse.Namespace) -> dict[str, object]:
    """Medians over seeds of rate and hypervolume, optimisers interleaved so that all meet the same machine."""
    objectives = Objectives(space)
    sample = objectives.minimised(space.sample(2000, np.random.default_rng(0)))
    reference = np.array([1.0, *sample[:, 1:].max(axis=0)])
    counts = {"archsmith": options.evaluations, "pymoo": options.evaluations, "optuna": options.optuna_evaluations}
    runs: dict[str, list[Run]] = {name: [] for name in RUNNERS}
    for seed in range(options.seeds):
        for name, runner in RUNNERS.items():
            runs[name].append(runner(objectives, counts[name], options.population, seed))

    def volume(name: str, evaluations: int) -> float:
        return statistics.median(hypervolume(run.values[:evaluations], reference) for run in runs[name])

    out: dict[str, object] = {"genes": len(space.genes), "size": float(space.size)}
    rates = {}
    for name, parts in runs.items():
        rates[name] = statistics.median(len(run.values) / run.cpu_s for run in parts)
        out[name] = {
            "evaluations": counts[name],
            "per_cpu_second": round(rates[name]),
            "per_wall_second": round(statistics.median(len(run.values) / run.wall_s for run in parts)),
            "hypervolume": round(volume(name, options.evaluations), 4),
            "hypervolume_at_optuna_evaluations": round(volume(name, options.optuna_evaluations), 4),
        }
    out["times_pymoo"] = round(rates["archsmith"] / rates["pymoo"], 2)
    out["times_optuna"] = round(rates["archsmith"] / rates["optuna"], 1)
    return out


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=20_000)
    parser.add_argument("--optuna-evaluations", type=int, default=1_000)
    parser.add_argument("--population", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with threadpool_limits(1):
        result = measure(options)
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    settings = {"population": options.population, "seeds": options.seeds, "threads": 1}
    print(json.dumps({"benchmark": "search_throughput", **settings, "machine": machine, "spaces": result}))


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Every space's comparison."""
    for runner in RUNNERS.values():  # imports and first-call costs are nobody's search
        runner(Objectives(ofa_like()), 2 * options.population, options.population, 0)
    return {name: compare(space, options) for name, space in spaces().items()}


if __name__ == "__main__":
    main()
