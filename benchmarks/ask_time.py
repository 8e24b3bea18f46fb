"""How long proposing takes: `ask(100)` on the 46 genes of OFA-MobileNetV3 after 1,000 and after 1,100 trials.

Two objectives, one of them known. Seconds are of the processor, on one thread; the bound is 2 s. The first call of a
process also imports what the strategy needs.

    python benchmarks/ask_time.py                      # every strategy, with its defaults
    python benchmarks/ask_time.py optuna_gp bayesian
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from archsmith import spaces
from archsmith.search.problem import Objective, Population, Problem
from archsmith.search.strategies import catalog
from archsmith.search.strategy import Proposals, Results
from archsmith.spaces.space import SearchSpace

TRIALS = 1000
ASKED = 100
BOUND_S = 2.0


def size(genomes: Population) -> NDArray[np.float64]:
    """[B] a known cost: the sum of all choices."""
    return genomes.sum(axis=1).astype(np.float64)


def results_of(problem: Problem, proposals: Proposals, weights: NDArray[np.float64]) -> Results:
    """What a concave quality, seen when evaluated, and the known size give."""
    genomes = proposals.genomes
    quality = np.sqrt(genomes) @ weights
    return Results(
        genomes=genomes,
        values=problem.minimised(np.stack([quality, size(genomes)], axis=1)),
        violations=np.zeros((len(genomes), 0)),
        fidelity=proposals.fidelity,
        cost_s=np.zeros(len(genomes)),
        status=np.zeros(len(genomes), dtype=np.int8),
        sources=("measured:benchmark", "predicted:exact-count"),
    )


def seconds(name: str, space: SearchSpace) -> list[float]:
    """Of the processor, for two calls with the results of the first told between them."""
    rng = np.random.default_rng(0)
    weights = rng.random(len(space.genes))
    objectives = (Objective(name="quality", direction="max"), Objective(name="size", direction="min"))
    problem = Problem(space=space, objectives=objectives, known={"size": size})
    strategy = catalog.get(name, problem, 0)
    seen = np.unique(space.sample(TRIALS + 200, rng), axis=0)[:TRIALS]
    strategy.tell(results_of(problem, Proposals.full(seen), weights))
    taken = []
    for _ in range(2):
        started = time.process_time()
        proposals = strategy.ask(ASKED)
        taken.append(time.process_time() - started)
        strategy.tell(results_of(problem, proposals, weights))
    return taken


def main() -> None:
    """Print one line per strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategies", nargs="*", default=catalog.names(), metavar="STRATEGY")
    arguments = parser.parse_args()
    space = spaces.get("ofa_mobilenetv3")
    print(f"| strategy | ask({ASKED}) after {TRIALS} trials, s | after {TRIALS + ASKED} | within {BOUND_S:g} s |")
    print("|---|---|---|---|")
    with threadpool_limits(limits=1):
        for name in arguments.strategies:
            first, second = seconds(name, space)
            print(f"| {name} | {first:.2f} | {second:.2f} | {'yes' if second <= BOUND_S else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
