"""Predictor-driven search: architectures per second through ask, predict, cost and tell, on one core.

NSGA-II searches OFA-MobileNetV3 for accuracy, predicted by a ridge over choices and their pairs fitted on 200 networks,
against latency, looked up over sites. Accuracies are those of the published supernet's subnets where the table is at
hand (ARCHSMITH_DATA, or ../shared/data), else the logarithm of MACs stands in: the speed is the same.

    .venv/bin/python benchmarks/predictor_search.py --evaluations 300000
"""

from __future__ import annotations

import argparse
import ast
import csv
import gzip
import json
import os
import platform
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from archsmith import spaces
from archsmith.hwmodels import catalog as devices
from archsmith.hwmodels.roofline import RooflineModel
from archsmith.predictors.encodings import encode
from archsmith.predictors.regressors.ridge import RidgeRegressor
from archsmith.search.problem import Objective, Problem
from archsmith.search.strategies.nsga2 import NSGA2
from archsmith.search.strategy import Results, TrialStatus
from archsmith.spaces.space import SearchSpace

DATA = Path(os.environ.get("ARCHSMITH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def accuracies(space: SearchSpace, rows: int) -> tuple[NDArray[np.int16], NDArray[np.float64], str]:
    """Genomes [N, G] with their accuracies [N], and where these are from."""
    file = DATA / "ofa_mbv3_imagenet_top1.csv.gz"
    if not file.exists():
        genomes = space.sample(rows, np.random.default_rng(0))
        return genomes, np.log(space.macs(genomes)), "logarithm of MACs"
    with gzip.open(file, "rt", newline="") as opened:
        table = list(csv.DictReader(opened))[:rows]
    genomes = []
    for row in table:
        subnet = ast.literal_eval(row["Sub-network"])
        written = [*subnet["ks"], *subnet["e"], *subnet["d"], *subnet["r"]]  # the order of the genes
        genomes.append([gene.values.index(value) for gene, value in zip(space.genes, written, strict=True)])
    values = np.array([float(row["Top-1 Acc (%)"]) for row in table])
    return space.canonical(np.array(genomes, dtype=np.int16)), values, "published subnets"


def main() -> None:
    """Search, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluations", type=int, default=300_000)
    parser.add_argument("--population", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    space = spaces.get("ofa_mobilenetv3")
    genomes, values, source = accuracies(space, 200)
    predictor = RidgeRegressor()
    predictor.fit(encode(space, genomes, "one_hot"), values)
    latency = RooflineModel(devices.get("raspberry_pi_4"))
    latency.predict(space, genomes)  # tabulates the sites
    problem = Problem(
        space=space,
        objectives=(
            Objective(name="accuracy", direction="max"),
            Objective(name="latency_ms", direction="min", device="raspberry_pi_4"),
        ),
    )
    rates = []
    for seed in range(options.repeats):
        strategy = NSGA2(problem, seed, population=options.population)
        started, done = time.process_time(), 0
        while done < options.evaluations:
            asked = strategy.ask(options.population).genomes
            accuracy, _ = predictor.predict(encode(space, asked, "one_hot"))
            cost = latency.predict(space, asked).mean
            count = len(asked)
            strategy.tell(
                Results(
                    genomes=asked,
                    values=np.stack([-accuracy, cost], axis=1),
                    violations=np.zeros((count, 0)),
                    fidelity=np.ones(count),
                    cost_s=np.zeros(count),
                    status=np.full(count, TrialStatus.OK, dtype=np.int8),
                    sources=("predicted:ridge", "predicted:roofline"),
                )
            )
            done += count
        rates.append(done / (time.process_time() - started))
    print(
        json.dumps(
            {
                "benchmark": "predictor_search",
                "space": "ofa_mobilenetv3",
                "accuracy": source,
                "architectures_per_cpu_s": round(statistics.median(rates)),
                "range": [round(min(rates)), round(max(rates))],
                "population": options.population,
                "evaluations": options.evaluations,
                "processor": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
