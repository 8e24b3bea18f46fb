"""Does a supernet rank architectures as training them alone does? And which of its settings matter?

Four groups of architectures were trained alone on `digits_shifted`, each with two seeds, by the default recipe of
standalone training (`mobilenet_digits` for 300 steps). Their accuracies are in `benchmarks/data/supernet_ranking/`,
made once by

    .venv/bin/python benchmarks/supernet_ranking.py --truth mobilenet_tiny   # 100 at random, ten minutes of a core
    .venv/bin/python benchmarks/supernet_ranking.py --truth small_cells      # all 60, three minutes
    .venv/bin/python benchmarks/supernet_ranking.py --truth held_out         # 50 others of the first space
    .venv/bin/python benchmarks/supernet_ranking.py --truth mobilenet_digits # of the demo's space, ten minutes

each of which goes on where it was stopped. Against them:

    .venv/bin/python benchmarks/supernet_ranking.py             # default settings, five supernet seeds
    .venv/bin/python benchmarks/supernet_ranking.py --knobs     # how the defaults were found, one seed
    .venv/bin/python benchmarks/supernet_ranking.py --sharing   # one-shot and few-shot, five seeds
    .venv/bin/python benchmarks/supernet_ranking.py --quick     # default settings, one seed

Scores are stored beside the accuracies and computed only where they are missing; `--fresh` computes all anew. `tau` is
the mean of Kendall's tau-b with the accuracies of the two standalone seeds; `ratio` divides it by the tau between these
seeds, which is what a second training alone reaches. Intervals are 95 %, by a bootstrap over architectures and supernet
seeds, paired where two rows are compared. The regret is what the accuracy (mean of two seeds) of the supernet's pick
lacks to the best of the group, in percentage points, as a mean over supernet seeds.

The defaults were chosen by the first two groups with supernet seeds from 10 on, which `--knobs` shows; the other
figures come from seeds 0 to 4. `held_out` was trained after the defaults had been fixed.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from archsmith import spaces
from archsmith.predictors.supernet.path import uniform_choices
from archsmith.predictors.supernet.scoring import SupernetScorer
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.sharing import supernet_trainer
from archsmith.predictors.tasks import catalog as tasks
from archsmith.predictors.tasks.task import Task
from archsmith.predictors.training import StandaloneSettings, train_standalone
from archsmith.spaces.families.nas_bench_201 import NasBench201Space
from archsmith.spaces.gene import Population
from archsmith.spaces.space import SearchSpace
from archsmith.spaces.subspace import SubSpace

Array = NDArray[np.float64]

DATA = Path(__file__).resolve().parent / "data" / "supernet_ranking"
STANDALONE_SEEDS: Final = (0, 1)
SEEDS: Final = (0, 1, 2, 3, 4)
CHOOSING_SEEDS: Final = (10,)
RESAMPLES: Final = 2000

FIRST: Final[Mapping[str, Any]] = {
    "sampler": "sandwich", "random_paths": 2, "learning_rate": 0.1, "affine_norms": True
}  # fmt: skip
"""The published sandwich rule, from which the search for defaults began."""

UNIFORM: Final[Mapping[str, Any]] = {"sampler": "uniform", "random_paths": 4, "learning_rate": 0.1}

KNOBS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "mobilenet_tiny": {
        "sandwich rule, affine norms, rate 0.1": FIRST,
        "350 steps": FIRST | {"steps": 350},
        "1400 steps": FIRST | {"steps": 1400},
        "500 steps of 128 images": FIRST | {"steps": 500, "batch_size": 128},
        "rate 0.2": FIRST | {"learning_rate": 0.2},
        "calibration on 1024 images": FIRST | {"calibration_batches": 4},
        "labels beside the teacher": FIRST | {"label_weight": 1.0},
        "no affine norms": FIRST | {"affine_norms": False},
        "smallest in a tenth of the steps": FIRST | {"smallest_share": 0.1},
        "smallest never": FIRST | {"smallest_share": 0.0},
        "smallest never, rate 0.2": FIRST | {"smallest_share": 0.0, "learning_rate": 0.2},
        "smallest never, calibration on 1024 images": FIRST | {"smallest_share": 0.0, "calibration_batches": 4},
        "smallest never, no affine norms": FIRST | {"smallest_share": 0.0, "affine_norms": False},
        "smallest never, no affine norms, rate 0.2": FIRST
        | {"smallest_share": 0.0, "affine_norms": False, "learning_rate": 0.2},
        "strict fairness, affine norms, rate 0.1": FIRST | {"sampler": "strict_fairness"},
        "1 random path, 2000 steps, affine norms, rate 0.1": FIRST
        | {"sampler": "uniform", "random_paths": 1, "steps": 2000},
        "4 random paths, affine norms, rate 0.1": UNIFORM | {"affine_norms": True},
        "4 random paths, affine norms, rate 0.2": UNIFORM | {"affine_norms": True, "learning_rate": 0.2},
        "4 random paths, no affine norms, rate 0.2 (default)": {},
        "4 random paths, no affine norms, rate 0.4": UNIFORM | {"affine_norms": False, "learning_rate": 0.4},
    },
    "small_cells": {
        "sandwich rule, affine norms, rate 0.1": FIRST,
        "smallest never": FIRST | {"smallest_share": 0.0},
        "smallest never, 1400 steps": FIRST | {"smallest_share": 0.0, "steps": 1400},
        "smallest never, labels beside the teacher": FIRST | {"smallest_share": 0.0, "label_weight": 1.0},
        "smallest never, no affine norms, rate 0.2": FIRST
        | {"smallest_share": 0.0, "affine_norms": False, "learning_rate": 0.2},
        "strict fairness, affine norms, rate 0.1": FIRST | {"sampler": "strict_fairness"},
        "1 random path, 2100 steps, affine norms, rate 0.1": FIRST
        | {"sampler": "uniform", "random_paths": 1, "steps": 2100},
        "4 random paths, affine norms, rate 0.1": UNIFORM | {"affine_norms": True},
        "4 random paths, no affine norms, rate 0.1": UNIFORM,
        "4 random paths, no affine norms, rate 0.2 (default)": {},
        "4 random paths, no affine norms, rate 0.4": UNIFORM | {"learning_rate": 0.4},
    },
}
"""Settings by group and name of the row; those of indistinct names are changes to the first."""

SHARINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "one-shot": {},
    "few-shot, two parts of half the steps": {"sharing": "gradient_matching"},
}
"""Ways of sharing weights, by the name of the row."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Architectures that are trained alone, and how.

    Attributes:
        space: builds their space.
        count: how many of it, at random; None = all.
        seed: of the random ones.
        but: name of a group of the same space whose architectures are left out.
        canvas: side of the images.
        recipe: of training alone.
        keys: tell which architectures are the same.
    """

    space: Callable[[], SearchSpace]
    count: int | None
    seed: int = 2026
    but: str = ""
    canvas: int = 11
    recipe: StandaloneSettings = field(default_factory=StandaloneSettings)
    keys: Callable[[Any, Population], NDArray[np.uint64]] = SearchSpace.keys

    @functools.cached_property
    def task(self) -> Task:
        """What the architectures are trained on."""
        return tasks.get("digits_shifted", canvas=self.canvas)

    def genomes(self, space: SearchSpace) -> Population:
        """[N, G] architectures that all differ."""
        if self.count is None:
            every = np.stack([grid.ravel() for grid in np.indices(space.table.cardinalities, dtype=np.int16)], axis=1)
            return self._distinct(space, every)
        drawn = uniform_choices(space, 4 * self.count, np.random.default_rng(self.seed))
        known = {row.tobytes() for row in GROUPS[self.but].genomes(space)} if self.but else set()
        fresh = [row.tobytes() not in known for row in drawn]
        return self._distinct(space, drawn[fresh])[: self.count]

    def _distinct(self, space: SearchSpace, genomes: Population) -> Population:
        _, first = np.unique(self.keys(space, genomes), axis=0, return_index=True)
        return genomes[np.sort(first)]


def small_cells() -> SubSpace:
    """The cell of NAS-Bench-201 with one node less: three edges, five operations each."""
    passed_on = {"edges.0-3": ("none",), "edges.1-3": ("none",), "edges.2-3": ("skip_connect",)}
    return SubSpace(spaces.get("nas_bench_201", "tiny", resolution=12), passed_on)


def topologies(space: SubSpace, genomes: Population) -> NDArray[np.uint64]:
    """[B, 2] equal for cells that are the same network, whichever edges its weights are on."""
    assert isinstance(space.whole, NasBench201Space)
    return space.whole.topology_keys(space.lift(genomes))


GROUPS: Final[Mapping[str, Group]] = {
    "mobilenet_tiny": Group(space=lambda: spaces.get("mobilenet", "tiny"), count=100),
    "small_cells": Group(space=small_cells, count=None, canvas=12, keys=topologies),
    "mobilenet_digits": Group(
        space=lambda: spaces.get("mobilenet", "digits"), count=55, recipe=StandaloneSettings(steps=300)
    ),
    "held_out": Group(space=lambda: spaces.get("mobilenet", "tiny"), count=50, seed=2027, but="mobilenet_tiny"),
}


# --- what training alone gives ------------------------------------------------------------------------------------


def make_truth(name: str) -> None:
    """Train every architecture of a group alone, from where an earlier call stopped."""
    group, path = GROUPS[name], DATA / f"{name}.json"
    space = group.space()
    head = {
        "command": f"python benchmarks/supernet_ranking.py --truth {name}",
        "space": space.identity,
        "task": group.task.identity,
        "recipe": group.recipe.to_json(),
        "seeds": list(STANDALONE_SEEDS),
    }
    stored = json.loads(path.read_text()) if path.exists() else head | {"architectures": []}
    if {key: stored.get(key) for key in head} != head:
        sys.exit(f"{path} holds results of another space, task or recipe; remove it to make it anew.")
    genomes = group.genomes(space)
    for genome in genomes[len(stored["architectures"]) :]:
        began = time.perf_counter()
        architecture = space.decode(genome)
        accuracies = [
            train_standalone(space, architecture, group.task, group.recipe, seed=seed).valid_accuracy
            for seed in STANDALONE_SEEDS
        ]
        rounded = [round(accuracy, 5) for accuracy in accuracies]
        stored["architectures"].append({"genome": genome.tolist(), "accuracy": rounded})
        _write(path, stored)
        print(
            f"{len(stored['architectures'])}/{len(genomes)} {rounded} {time.perf_counter() - began:.1f} s", flush=True
        )


def truth(name: str) -> tuple[Population, Array]:
    """[N, G] genomes and [2, N] accuracies of a group."""
    path = DATA / f"{name}.json"
    if not path.exists():
        sys.exit(f"{path} is missing; make it with --truth {name}.")
    rows = json.loads(path.read_text())["architectures"]
    genomes = np.array([row["genome"] for row in rows], dtype=np.int16)
    return genomes, np.array([row["accuracy"] for row in rows]).T


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".writing")
    scratch.write_text(json.dumps(content))
    scratch.replace(path)


# --- what a supernet believes -------------------------------------------------------------------------------------


def scores(name: str, changed: Mapping[str, Any], seed: int) -> Array:
    """[N] a supernet's scores of a group's architectures; trained where they are not stored."""
    path = _scores_path(name)
    settings = SupernetSettings.from_json(changed)
    stored = json.loads(path.read_text()) if path.exists() else {"runs": []}
    for run in stored["runs"]:
        # Settings that came later had their defaults.
        if run["seed"] == seed and SupernetSettings().to_json() | run["settings"] == settings.to_json():
            return np.array(run["scores"])
    group = GROUPS[name]
    space, task = group.space(), group.task
    genomes = group.genomes(space)
    with tempfile.TemporaryDirectory() as folder:
        trained = supernet_trainer(space, task, settings, seed=seed, directory=Path(folder)).run()
        scorer = SupernetScorer(space, task, trained.weights, settings)
        told = [round(scorer.score(genome), 5) for genome in genomes]
    run = {"settings": settings.to_json(), "seed": seed, "seconds": round(trained.seconds, 1), "scores": told}
    stored = json.loads(path.read_text()) if path.exists() else {"runs": []}  # others may have added theirs
    _write(path, {"runs": [*stored["runs"], run]})
    return np.array(told)


def _scores_path(name: str) -> Path:
    return DATA / f"{name}_scores.json"


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well scores rank; every quantity over bootstrap resamples, the first of which is the sample itself.

    Attributes:
        taus: [R] mean tau over supernet seeds and standalone seeds.
        between: [R] tau between the two standalone seeds.
        regret: mean over supernet seeds, percentage points.
    """

    taus: Array
    between: Array
    regret: float


def rank(told: Array, accuracies: Array) -> Ranking:
    """Compare scores [S, N] of S supernets with accuracies [2, N]."""
    rng = np.random.default_rng(0)
    supernets, count = told.shape
    counts = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
    counts[0] = 1.0
    seeds = rng.multinomial(supernets, np.full(supernets, 1 / supernets), size=RESAMPLES).astype(np.float64)
    seeds[0] = 1.0
    pairs = np.array([[_taus(row, alone, counts) for alone in accuracies] for row in told])
    best = accuracies.mean(axis=0)
    picks = best[told.argmax(axis=1)]
    return Ranking(
        taus=(pairs.mean(axis=1) * seeds.T).sum(axis=0) / supernets,
        between=_taus(accuracies[0], accuracies[1], counts),
        regret=100 * float(best.max() - picks.mean()),
    )


def _taus(a: Array, b: Array, counts: Array) -> Array:
    """[R] Kendall's tau-b of a and b [N], where resample r has architecture n `counts` [R, N] times."""
    left, right = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    agreeing, in_a, in_b = (
        np.einsum("rn,nm,rm->r", counts, signs, counts, optimize=True)
        for signs in (left * right, np.abs(left), np.abs(right))
    )
    return agreeing / np.sqrt(in_a * in_b)


def interval(values: Array) -> str:
    """The sample's own value and the 95 % interval of the resamples."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:.2f} [{low:.2f}, {high:.2f}]"


# --- tables -------------------------------------------------------------------------------------------------------


def table(name: str, rows: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> None:
    """Print how supernets of different settings rank the architectures of a group."""
    genomes, accuracies = truth(name)
    space = GROUPS[name].space()
    best = accuracies.mean(axis=0)
    macs, params = (count(genomes).astype(np.float64)[None] for count in (space.macs, space.params))
    simple = {"MACs": rank(macs, accuracies), "parameters": rank(params, accuracies)}
    between = next(iter(simple.values())).between
    print(
        f"\n{name}: {accuracies.shape[1]} architectures, accuracy {100 * best.min():.1f} to {100 * best.max():.1f} %, "
        f"median {100 * np.median(best):.1f} %; tau between two trainings alone {interval(between)}\n"
    )
    print("| scores | tau | ratio | tau less the first row's | regret |\n|---|---|---|---|---|", flush=True)
    first = None
    for label, changed in rows.items():
        ranking = rank(np.array([scores(name, changed, seed) for seed in seeds]), accuracies)
        first = ranking if first is None else first
        gain = "" if first is ranking else interval(ranking.taus - first.taus)
        _print_row(label, ranking, gain)
    for label, ranking in simple.items():
        _print_row(label, ranking, "")


def _print_row(label: str, ranking: Ranking, gain: str) -> None:
    ratio = interval(ranking.taus / ranking.between)
    print(f"| {label} | {interval(ranking.taus)} | {ratio} | {gain} | {ranking.regret:.1f} |", flush=True)


def main() -> None:
    """Make the truth, or print what supernets make of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", choices=GROUPS, help="train a group's architectures alone")
    parser.add_argument("--group", choices=GROUPS, action="append", help="look at this group alone")
    parser.add_argument("--knobs", action="store_true", help="one setting changed at a time")
    parser.add_argument("--sharing", action="store_true", help="one-shot against few-shot")
    parser.add_argument("--quick", action="store_true", help="one supernet seed")
    parser.add_argument("--fresh", action="store_true", help="train all supernets anew")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.truth:
        make_truth(arguments.truth)
        return
    groups = [name for name in arguments.group or GROUPS if not arguments.knobs or name in KNOBS]
    if arguments.fresh:
        for name in groups:
            _scores_path(name).unlink(missing_ok=True)
    seeds = CHOOSING_SEEDS if arguments.knobs else SEEDS
    for name in groups:
        rows = KNOBS[name] if arguments.knobs else SHARINGS if arguments.sharing else {"default": {}}
        table(name, rows, seeds[:1] if arguments.quick else seeds)


if __name__ == "__main__":
    main()
