"""Train once, specialise for every device: from one trained supernet, a front for each of three devices.

One supernet is trained, then the stages of the pipeline run once per device and reuse it: cost model, search, front.
A search starts from what the earlier ones found, as with `warm_start`; the first device, whose search knew of no other,
is searched again in the end. Each front takes so many seconds, workers' start included; the processor time, that of the
workers included, tells what it would take with no other program around.

Then every member of another device's front is set against the fastest member of the own front that is at least as
accurate, both by the model of the own device: how many times longer the other device's pick takes here. Accuracy is
that of the shared weights on validation images; latency is that of the devices' models, none of which has been measured
here (`source` says which). That is told of the fronts that the searches found, in which chance has its part, and of the
fronts among the trials of all searches, where a pick of another device is never faster than the own one by definition.

One JSON line per figure, then a table.

    .venv/bin/python benchmarks/specialise.py
    .venv/bin/python benchmarks/specialise.py --quick

Aims: a front in less than 20 s on two cores; other devices' picks take longer than the specialised ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsmith.hwmodels.cost import CostModel
from archsmith.search.budget import Budget
from archsmith.search.pareto import nondominated_mask
from archsmith.search.pipeline.contracts import ModuleSpec, Plan, PoolSpec
from archsmith.search.pipeline.explore import explore
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.model import fit_cost_models
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.pipeline.scoring import scoring_of
from archsmith.search.pipeline.train import train_supernet
from archsmith.search.pipeline.warm_start import EarlierSearch
from archsmith.search.problem import Objective, Population, label
from archsmith.spaces.space import SearchSpace

DEVICES = ("raspberry_pi_4", "h100", "edge_tpu")
"""A processor, whose time follows the MACs; a GPU, which waits for every kernel's launch; a systolic array."""

DRAWS = 2000
"""Resamples of an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The front of one device.

    Attributes:
        genomes: [B, G].
        accuracy: [B] in [0, 1], by the shared weights.
        latency_ms: [B] on the device, ascending.
        model: predicts latency_ms there.
    """

    genomes: Population
    accuracy: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    model: CostModel


def plan_for(device: str, *, trials: int, steps: int, workers: int, seed: int, strategy: str) -> Plan:
    """The search of a front for one device; only `device` differs between them."""
    return Plan(
        space=ModuleSpec(name="mobilenet", preset="digits"),
        task=ModuleSpec(name="digits_shifted"),
        devices=(device,),
        objectives=(
            Objective(name="accuracy", direction="max"),
            Objective(name="latency_ms", direction="min", device=device),
        ),
        constraints=(),
        strategy=ModuleSpec(name=strategy),
        budget=Budget(trials=trials),
        supernet={"steps": steps},
        batch=32,
        seed=seed,
        pool=PoolSpec(kind="local" if workers > 1 else "serial", workers=workers),
    )


def say(figure: str, **values: object) -> None:
    """Print one JSON line."""
    print(json.dumps({"benchmark": "specialise", "figure": figure, **values}), flush=True)


def processor_s() -> float:
    """Of this process and of its workers that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def train(plan: Plan, store: FolderStore) -> None:
    """Train the supernet, unless the store has it."""
    started = time.perf_counter()
    train_supernet(build_setting(plan), ScriptRecorder(), store)
    say("supernet", seconds=round(time.perf_counter() - started, 1), steps=plan.supernet["steps"])


def front_of(plan: Plan, store: FolderStore, earlier: list[EarlierSearch]) -> Front:
    """The pipeline's stages up to the front of the plan's only device; its trials join those of `earlier` searches."""
    started, worked, recorder = time.perf_counter(), processor_s(), ScriptRecorder()
    setting = build_setting(plan)
    supernet = train_supernet(setting, recorder, store)
    models = fit_cost_models(setting, recorder, store)
    modelled_s = time.perf_counter() - started
    scoring = scoring_of(setting, supernet, store)
    found = explore(setting, models, scoring, recorder=recorder, earlier_searches=tuple(earlier))
    device = plan.devices[0]
    earlier.append(
        EarlierSearch(
            name=device, space=setting.space.identity, evaluator=scoring.identity, objectives=plan.objectives,
            results=recorder.all,
        )
    )  # fmt: skip
    name = label("latency_ms", device)
    front = recorder.front.rows(np.argsort(recorder.front.values[:, 1]))
    say(
        "front",
        device=device,
        source=models.source(name),
        seconds=round(time.perf_counter() - started, 2),
        processor_s=round(processor_s() - worked, 2),
        of_which_search_s=round(found.outcome.seconds, 2),
        of_which_model_s=round(modelled_s, 2),
        trials=found.outcome.trials,
        knows_searches=[search.name for search in earlier[:-1]],
        taken_from_them=found.reused,
        members=len(front),
        accuracy=[round(-float(value), 4) for value in front.values[[0, -1], 0]],
        latency_ms=[round(float(value), 5) for value in front.values[[0, -1], 1]],
        cores=os.cpu_count(),
    )
    return Front(
        genomes=front.genomes,
        accuracy=-front.values[:, 0],
        latency_ms=front.values[:, 1],
        model=models.models[name],
    )


def pooled(space: SearchSpace, model: CostModel, earlier: list[EarlierSearch]) -> Front:
    """The front of a device among the trials of all searches: scores of the shared weights hold for every device."""
    genomes, first = np.unique(
        np.concatenate([search.results.genomes for search in earlier]), axis=0, return_index=True
    )
    accuracy = -np.concatenate([search.results.values[:, 0] for search in earlier])[first]
    latency_ms = model.predict(space, genomes).mean
    rows = np.flatnonzero(nondominated_mask(np.stack([-accuracy, latency_ms], axis=1)))
    rows = rows[np.argsort(latency_ms[rows])]
    return Front(genomes=genomes[rows], accuracy=accuracy[rows], latency_ms=latency_ms[rows], model=model)


def compare(space: SearchSpace, own: str, other: str, fronts: Mapping[str, Front], *, trials: str) -> dict[str, object]:
    """How much longer the picks for `other` take on `own` than its own picks of the same accuracy or more."""
    here, there = fronts[own], fronts[other]
    latency_ms = here.model.predict(space, there.genomes).mean
    own_ms = np.array([
        here.latency_ms[here.accuracy >= accuracy].min(initial=np.inf) for accuracy in there.accuracy
    ])  # fmt: skip
    reached = np.isfinite(own_ms)
    times = latency_ms[reached] / own_ms[reached]
    rng = np.random.default_rng(0)
    draws = np.log(times)[rng.integers(len(times), size=(DRAWS, len(times)))].mean(axis=1)
    low, high = np.exp(np.percentile(draws, (2.5, 97.5)))
    best = int(np.flatnonzero(reached)[np.argmax(there.accuracy[reached])])
    found = {
        "trials": trials,
        "own": own,
        "other": other,
        "picks": int(reached.sum()),
        "more_accurate_than_any_own": int((~reached).sum()),
        "times_longer": round(float(np.exp(np.log(times).mean())), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "own_is_faster": round(float((times > 1).mean()), 3),
        "most_accurate": {
            "accuracy": round(float(there.accuracy[best]), 4),
            "latency_ms": round(float(latency_ms[best]), 5),
            "own_latency_ms": round(float(own_ms[best]), 5),
        },
    }
    say("specialisation", **found)
    return found


def main() -> None:
    """Train, find the fronts, compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", nargs="+", default=DEVICES, help="names from the device catalog")
    parser.add_argument("--trials", type=int, default=160, help="per device")
    parser.add_argument("--steps", type=int, default=500, help="of supernet training")
    parser.add_argument("--strategy", default="bayesian", help="name from the strategy catalog")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help="folder that keeps the supernet for the next time; default: none")
    parser.add_argument("--quick", action="store_true", help="40 steps of training, 64 trials")
    given = parser.parse_args()
    trials, steps = (64, 40) if given.quick else (given.trials, given.steps)
    plan = plan_for(
        given.devices[0], trials=trials, steps=steps, workers=given.workers, seed=given.seed,
        strategy=given.strategy,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="archsmith-specialise-") as scratch:
        store = FolderStore(given.store or Path(scratch))
        train(plan, store)
        fronts: dict[str, Front] = {}
        earlier: list[EarlierSearch] = []
        for device in (*given.devices, given.devices[0]):  # the first one again: it knew nothing of the others
            objectives = (plan.objectives[0], replace(plan.objectives[1], device=device))
            fronts[device] = front_of(replace(plan, devices=(device,), objectives=objectives), store, earlier)
        space = build_setting(plan).space
        shared = {device: pooled(space, front.model, earlier) for device, front in fronts.items()}
        rows = [
            compare(space, own, other, each, trials=trials_of)
            for trials_of, each in (("own search", fronts), ("all searches", shared))
            for own, other in itertools.permutations(given.devices, 2)
        ]
    heads = f"{'picks':>6} {'times longer':>13} {'95 % interval':>16} {'own faster':>11}"
    print(f"\n{'fronts of':13} {'on':16} {'picks for':16} {heads}")
    for row in rows:
        low, high = row["interval"]  # type: ignore[misc]  # two numbers
        print(
            f"{row['trials']:13} {row['own']:16} {row['other']:16} {row['picks']:6} {row['times_longer']:13.3f} "
            f"{f'[{low:.3f}, {high:.3f}]':>16} {row['own_is_faster']:11.0%}"
        )


if __name__ == "__main__":
    main()
