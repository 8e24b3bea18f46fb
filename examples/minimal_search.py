"""A whole search in one page, without the service: two objectives, one constraint, every candidate really trained.

python examples/minimal_search.py
"""

from __future__ import annotations

import time

import numpy as np

from archsmith import spaces
from archsmith.predictors.tasks import catalog as tasks
from archsmith.predictors.training import StandaloneSettings, train_standalone
from archsmith.search.budget import Budget
from archsmith.search.evaluators import CompositeEvaluator, Known, Measured
from archsmith.search.problem import Constraint, Objective, Population, Problem
from archsmith.search.strategies import catalog as strategies
from archsmith.search.strategy import Proposals
from archsmith.search.study import MemoryRecorder, Study


def main() -> None:
    """Find small networks that learn digits quickly."""
    task = tasks.get("digits")
    space = spaces.get("mobilenet", "tiny", resolution=task.input_shape[1])
    recipe = StandaloneSettings(steps=25, batch_size=32)

    def accuracy(proposals: Proposals) -> Measured:
        """Train every candidate alone for a few steps; a supernet or a pool of workers could take this place."""
        started = time.perf_counter()
        genomes = proposals.genomes
        values = [
            train_standalone(space, space.decode(genome), task, recipe, seed=0).valid_accuracy for genome in genomes
        ]
        seconds = (time.perf_counter() - started) / len(genomes)
        return Measured(
            values=np.array(values),
            seconds=np.full(len(genomes), seconds),
            ok=np.ones(len(genomes), dtype=np.bool_),
            source="measured:standalone",
        )

    def macs(genomes: Population) -> np.ndarray:
        return space.macs(genomes).astype(np.float64)

    problem = Problem(
        space=space,
        objectives=(Objective(name="accuracy", direction="max"), Objective(name="macs", direction="min")),
        constraints=(Constraint(name="params", bound=8000),),
        known={"macs": macs, "params": lambda genomes: space.params(genomes).astype(np.float64)},
    )
    recorder = MemoryRecorder()
    study = Study(
        problem=problem,
        strategy=strategies.get("nsga2", problem, 0, population=8),
        evaluator=CompositeEvaluator(problem, {"accuracy": accuracy, "macs": Known(macs, "predicted:exact-count")}),
        budget=Budget(trials=24),
        recorder=recorder,
        batch=8,
    )
    outcome = study.run()
    print(f"{outcome.message} {outcome.trials} trials in {outcome.seconds:.0f} s; the front:")
    for number, row in zip(recorder.front_numbers, problem.minimised(recorder.front.values), strict=True):
        print(f"  trial {number:3d}: accuracy {100 * row[0]:5.1f} %, {row[1] / 1e3:6.1f} k MACs")


if __name__ == "__main__":
    main()
