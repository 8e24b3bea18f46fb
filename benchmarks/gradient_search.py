"""Does gradient-based search end where its latency limit says? FBNet and ProxylessNAS on this machine.

The latency of kernels and networks is measured here and fitted to a look-up model, whose table is a term of the loss.
The limit is a share of the mean latency of random networks. The search ends with a network; its predicted latency is
set against the limit, and the network is measured end to end beside it. What the most likely choices alone would cost,
without the limit in the derivation, is told too, and so is how far the learned distribution's expected latency is.

One JSON line per system and seed.

    .venv/bin/python benchmarks/gradient_search.py
    .venv/bin/python benchmarks/gradient_search.py --quick

Aims: predicted within [0.95, 1] of the limit; measured within 10 % of predicted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from archsmith import spaces
from archsmith.hwmodels import catalog as devices
from archsmith.hwmodels.latency import LatencySettings, fit_latency, measure_network
from archsmith.hwmodels.lookup import LookupModel
from archsmith.predictors.tasks import catalog as tasks
from archsmith.search.gradient.derivation import argmax
from archsmith.search.gradient.settings import GradientSettings
from archsmith.search.gradient.trainer import GradientSearch
from archsmith.search.problem import Population
from archsmith.spaces.space import SearchSpace

LATENCY: Final = "latency_ms@host"

SYSTEMS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    "fbnet": {
        "relaxation": {"name": "gumbel", "start": 5.0, "end": 0.087},
        "cost": {"quantity": LATENCY, "penalty": "fbnet", "bound": "target"},
        "schedule": {"weights_share": 0.8},
        "choices": {"learning_rate": 0.02, "momentum": 0.9, "weight_decay": 5e-4},
    },
    "proxylessnas": {
        "relaxation": {"name": "binary_gates"},
        "cost": {"quantity": LATENCY, "penalty": "mul_log", "bound": "target"},
        "schedule": {"weights_share": 0.8},
        "choices": {"learning_rate": 0.02, "momentum": 0.0},
    },
})  # fmt: skip
"""By space, the settings of its system; shares and rates are those of a short search."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=sorted(SYSTEMS), default=sorted(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150, help="of the weights")
    parser.add_argument("--share", type=float, default=0.8, help="of the mean latency that is the limit")
    parser.add_argument("--quick", action="store_true", help="the tiny presets, one seed and 60 steps")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.steps = 1, 60
    for name in options.only:
        space = spaces.get(name, "tiny" if options.quick else "digits")
        host = devices.get("host")
        model = fit_latency(space, host, LatencySettings())
        for seed in range(options.seeds):
            print(json.dumps(figure(space, model, options, seed)), flush=True)


def figure(space: SearchSpace, model: LookupModel, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One search: its limit, and what the derived network costs as predicted and as measured."""

    def latency_ms(genomes: Population) -> np.ndarray:
        return model.predict(space, genomes).mean

    limit = options.share * float(latency_ms(space.sample(1000, np.random.default_rng(0))).mean())
    settings = GradientSettings.from_json({**SYSTEMS[space.name], "steps": options.steps, "batch_size": 32})
    task = tasks.get("digits_shifted", canvas=space.example_inputs(1)[0].shape[-1])
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        search = GradientSearch(
            space, task, settings, seed=seed, directory=Path(folder), quantity=latency_ms, limit=limit
        )
        found = search.run()
    seconds = time.perf_counter() - started
    assert search.pricing is not None
    assert found.cost is not None
    unbound = search.pricing.true_cost(argmax(found.learned, np.random.default_rng(seed)))
    architecture = space.decode(np.array(found.genome, dtype=np.int16))
    reference_ms = model.details["conditions"].get("reference_ms")
    measured = measure_network(space, architecture, devices.get("host"), reference_ms=reference_ms)[0].value
    return {
        "system": space.name,
        "preset": space.preset,
        "seed": seed,
        "steps": options.steps,
        "limit_ms": round(limit, 5),
        "predicted_ms": round(found.cost, 5),
        "predicted_of_limit": round(found.cost / limit, 4),
        "measured_ms": round(measured, 5),
        "measured_of_predicted": round(measured / found.cost, 4),
        "expected_of_limit": round((found.expected_cost or np.nan) / limit, 4),
        "argmax_of_limit": round(unbound / limit, 4),
        "entropy": round(found.learned.entropy, 4),
        "held_out": {name: round(value, 4) for name, value in model.report().items()},
        "seconds": round(seconds, 1),
        "derived": found.summary()["derived"],
    }


if __name__ == "__main__":
    main()
