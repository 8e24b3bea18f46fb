"""Gradient-based search as a whole: it learns, keeps its limit, repeats and resumes to the bit; faults are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archsmith import spaces
from archsmith.errors import ConfigError, PredictorError, StrategyError
from archsmith.predictors.supernet.checkpoint import CheckpointStore
from archsmith.predictors.supernet.trainer import TrainingInterrupted
from archsmith.predictors.tasks import catalog as tasks
from archsmith.search.gradient.settings import GradientSettings
from archsmith.search.gradient.trainer import GradientSearch, LearnedSearch

FEW: dict[str, Any] = {"steps": 6, "batch_size": 8, "checkpoint_every": 2}
FBNET = {"relaxation": {"name": "gumbel"}, "cost": {"penalty": "fbnet", "bound": "target"}}
PROXYLESS = {
    "relaxation": {"name": "binary_gates"},
    "cost": {"penalty": "mul_log", "bound": "lagrangian"},
    "choices": {"momentum": 0.0, "learning_rate": 0.05},
}
SINGLE_PATH = {
    "relaxation": {"name": "thresholds"},
    "cost": {"penalty": "add_log"},
    "schedule": {"name": "single_level"},
    "derivation": {"name": "argmax"},
}
CELLS = {"derivation": {"name": "top_edges"}}
SOFTMAX = {"name": "softmax", "start": 1.0, "end": 1.0}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "fbnet": ("fbnet", FBNET),
    "proxylessnas": ("proxylessnas", PROXYLESS),
    "single_path_nas": ("single_path_nas", SINGLE_PATH),
    "darts": ("darts", {**CELLS, "relaxation": SOFTMAX, "schedule": {"order": 2, "warmup": 0.0}, "steps": 2}),
    "pc_darts": ("darts", {**CELLS, "relaxation": {**SOFTMAX, "edges": "softmax", "partial": 2}, "steps": 4}),
    "rc_darts": (
        "darts",
        {**CELLS, "relaxation": SOFTMAX, "cost": {"quantity": "params", "bound": "projection", "project_every": 1}},
    ),
    "rome": (
        "darts",
        {
            "relaxation": {"name": "straight_through", "edges": "sampled"},
            "schedule": {"samples": 2},
            "derivation": {"name": "argmax"},
        },
    ),
}
CHILD = """
import json, sys
from pathlib import Path
import torch
from archsmith import spaces
from archsmith.predictors.tasks import catalog
from archsmith.search.gradient.settings import GradientSettings
from archsmith.search.gradient.trainer import GradientSearch

torch.set_num_threads(1)
space = spaces.get("proxylessnas", "tiny")
search = GradientSearch(
    space, catalog.get("digits_shifted", canvas=16), GradientSettings.from_json(json.loads(sys.argv[2])), seed=3,
    directory=Path(sys.argv[1]), quantity=lambda genomes: space.macs(genomes).astype(float), limit=1.5e5, device="cpu",
)
search.run(progress=lambda done, total, message: print(done, flush=True))
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def search_of(
    directory: Path, name: str, given: dict[str, Any], *, seed: int = 3, limit: float | None = None
) -> GradientSearch:
    space = spaces.get(name, "tiny")
    settings = GradientSettings.from_json({**FEW, **given})
    count = space.params if settings.cost is not None and settings.cost.quantity == "params" else space.macs

    def quantity(genomes):
        return count(genomes).astype(np.float64)

    if settings.cost is not None and limit is None and settings.cost.limit is None:
        limit = float(np.quantile(quantity(space.sample(200, np.random.default_rng(0))), 0.4))
    task = tasks.get("digits_shifted", canvas=16)
    return GradientSearch(
        space, task, settings, seed=seed, directory=directory, quantity=quantity, limit=limit, device="cpu"
    )


def assert_equal(first: LearnedSearch, second: LearnedSearch) -> None:
    for a, b in ((first.weights, second.weights), (first.parameters, second.parameters)):
        left, right = load_file(a), load_file(b)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert first.history == second.history
    assert first.genome == second.genome


@pytest.mark.parametrize("method", sorted(METHODS))
def test_method_runs_resumes_to_the_bit_and_keeps_its_limit(method: str, tmp_path: Path) -> None:
    name, given = METHODS[method]
    whole = search_of(tmp_path / "whole", name, given).run()
    half = search_of(tmp_path, name, given).settings.steps // 2
    asked = iter([False] * half + [True])
    with pytest.raises(TrainingInterrupted) as stopped:
        search_of(tmp_path / "parts", name, given).run(should_stop=lambda: next(asked))
    assert stopped.value.step == half
    assert_equal(search_of(tmp_path / "parts", name, given).run(), whole)
    space = spaces.get(name, "tiny")
    space.decode(np.array(whole.genome, dtype=np.int16))
    assert space.choices_of(np.array(whole.genome, dtype=np.int16)) == whole.chosen
    if whole.limit is not None:
        assert whole.cost is not None
        assert whole.cost <= whole.limit
    summary = json.loads(json.dumps(whole.summary()))
    assert summary["steps"] == len(summary["history"]) == 2 * half
    assert {"entropy", "loss", "temperature"} <= summary["history"][-1].keys()


def test_killed_search_resumes_to_the_bit(tmp_path: Path) -> None:
    given = {**PROXYLESS, **FEW, "steps": 12, "checkpoint_every": 3}
    whole = search_of(tmp_path / "whole", "proxylessnas", given, limit=1.5e5).run()
    command = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), json.dumps(given)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 4:
            pass
        child.send_signal(signal.SIGKILL)
    done: list[int] = []
    search = search_of(tmp_path / "killed", "proxylessnas", given, limit=1.5e5)
    assert_equal(search.run(progress=lambda step, *_: done.append(step)), whole)
    assert 1 < done[0] <= 12


def test_choices_learn_what_is_cheap_and_what_is_accurate(tmp_path: Path) -> None:
    """A heavy price makes the learned distribution cheaper than uniform; without one accuracy decides alone."""
    given = {
        "relaxation": {"name": "binary_gates"},
        "choices": {"momentum": 0.0, "learning_rate": 0.2},
        "schedule": {"warmup": 0.0},
        "steps": 30,
        "derivation": {"name": "argmax"},
    }
    priced = {**given, "cost": {"penalty": "add_linear", "strength": 20.0}}
    search = search_of(tmp_path, "proxylessnas", priced, limit=2e5)
    found = search.run()
    assert search.pricing is not None
    assert found.expected_cost is not None
    assert found.expected_cost < 0.9 * search.pricing.table.uniform
    assert found.learned.entropy < 0.95
    assert found.history[-1]["expected_cost"] == pytest.approx(found.expected_cost)


def test_a_derivation_that_breaks_the_limit_gives_way_to_a_feasible_one(tmp_path: Path) -> None:
    given = {**FBNET, "derivation": {"name": "argmax"}, "cost": {"quantity": "macs"}, "steps": 1}
    search = search_of(tmp_path, "fbnet", given, limit=1.0 + float(spaces.get("fbnet", "tiny").macs(cheapest())[0]))
    found = search.run()
    assert found.derivation == "feasible"
    assert found.cost is not None
    assert found.limit is not None
    assert found.cost <= found.limit


def cheapest() -> np.ndarray:
    from archsmith.search.enumeration import every_genome

    space = spaces.get("fbnet", "tiny")
    genomes = every_genome(space)
    return genomes[space.macs(genomes).argmin()][None]


def test_frozen_choices_stay_as_they_are_during_the_warm_up(tmp_path: Path) -> None:
    search = search_of(tmp_path, "proxylessnas", {**PROXYLESS, "schedule": {"warmup": 0.99}, "steps": 3})
    found = search.run()
    assert found.learned.entropy == pytest.approx(1, abs=1e-4)
    assert "choices_loss" not in found.history[-1]


def test_divergence_names_step_rate_and_last_good_checkpoint(tmp_path: Path) -> None:
    given = {**PROXYLESS, "learning_rate": 1e6, "max_grad_norm": 0.0, "checkpoint_every": 1, "steps": 40}
    with pytest.raises(
        PredictorError, match=r"at step \d+ with learning rate .*last good checkpoint: .*step-"
    ) as caught:
        search_of(tmp_path, "proxylessnas", given).run()
    failed = CheckpointStore(tmp_path, "").steps()[-1]
    assert f"at step {failed} " in str(caught.value)
    assert f"step-{failed - 1:09d}" in str(caught.value)


def test_checkpoints_of_another_search_are_refused(tmp_path: Path) -> None:
    search_of(tmp_path, "proxylessnas", {**PROXYLESS, "steps": 2}).run()
    with pytest.raises(PredictorError, match="another space, task, settings or seed"):
        search_of(tmp_path, "proxylessnas", {**PROXYLESS, "steps": 2}, limit=1.4e5).run()


def test_what_does_not_go_together_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(StrategyError, match="no mixtures"):
        search_of(tmp_path, "mobilenet", {})
    with pytest.raises(ConfigError, match=r"gradient\.cost\.quantity"):
        GradientSearch(
            spaces.get("fbnet", "tiny"),
            tasks.get("digits_shifted", canvas=16),
            GradientSettings.from_json({"cost": {"quantity": "latency_ms@host"}}),
            seed=0,
            directory=tmp_path,
        )
    with pytest.raises(StrategyError, match="no partial channels"):
        search_of(tmp_path, "fbnet", {"relaxation": {"partial": 2}}).run()


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"steps": 0}, "gradient.steps"),
        ({"stepz": 3}, "gradient.stepz"),
        ({"relaxation": {"name": "hard"}}, "gradient.relaxation.name"),
        ({"relaxation": {"warmth": 1}}, "gradient.relaxation.warmth"),
        ({"schedule": {"order": 3}}, "gradient.schedule.order"),
        ({"schedule": {"order": 2}, "optimizer": "adamw"}, "gradient.optimizer"),
        ({"cost": {"penalty": "tax"}}, "gradient.cost.penalty"),
        ({"derivation": {"name": "best"}}, "gradient.derivation.name"),
        ({"choices": {"learning_rate": "high"}}, "gradient.choices.learning_rate"),
        (
            {"relaxation": {"name": "thresholds"}, "cost": {"bound": "projection", "limit": 1.0}},
            "gradient.cost.bound",
        ),
    ],
)
def test_bad_setting_is_named(given: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GradientSettings.from_json(given)
    assert caught.value.place == place


def test_settings_survive_plain_data() -> None:
    settings = GradientSettings.from_json({**FBNET, "schedule": {"every": 3}})
    assert GradientSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
