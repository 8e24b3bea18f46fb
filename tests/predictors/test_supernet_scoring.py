"""Calibration and scoring: exact statistics, untouched weights, scores that depend on nothing but the genome."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.errors import PredictorError
from archsmith.predictors.evaluation import measure_accuracy
from archsmith.predictors.supernet.calibration import Calibration
from archsmith.predictors.supernet.scoring import SupernetScorer, build_scorer
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer

SETTINGS = SupernetSettings(steps=80, batch_size=64, learning_rate=0.2, calibration_batch_size=128, scoring_samples=500)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(space, task, tmp_path_factory):
    directory = tmp_path_factory.mktemp("supernet")
    return SupernetTrainer(space, task, SETTINGS, seed=0, directory=directory, device="cpu").run().weights


@pytest.fixture(scope="module")
def genomes(space):
    return space.sample(4, np.random.default_rng(0))


def test_calibration_on_one_batch_stores_that_batchs_moments(space, task):
    supernet, calibration = space.supernet(seed=0), Calibration(task, SETTINGS, torch.device("cpu"))
    seen: list[torch.Tensor] = []
    norm = supernet.stem.norm
    hook = norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    calibration.apply(supernet, space.decode(space.largest()))
    hook.remove()
    assert len(seen) == 1
    torch.testing.assert_close(norm.running_mean, seen[0].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen[0].var(dim=(0, 2, 3), unbiased=False))


def test_calibration_repeats_and_leaves_weights_alone(space, task):
    supernet, calibration = space.supernet(seed=0), Calibration(task, SETTINGS, torch.device("cpu"))
    before = {name: parameter.clone() for name, parameter in supernet.named_parameters()}
    architecture = space.decode(space.largest())
    calibration.apply(supernet, architecture)
    first = supernet.statistics()
    calibration.apply(supernet, space.decode(space.smallest()))
    calibration.apply(supernet, architecture)
    assert all(torch.equal(first[name], value) for name, value in supernet.statistics().items())
    assert all(torch.equal(before[name], parameter) for name, parameter in supernet.named_parameters())


def test_score_does_not_depend_on_what_was_scored_before(space, task, weights, genomes):
    forward = SupernetScorer(space, task, weights, SETTINGS, device="cpu")
    backward = SupernetScorer(space, task, weights, SETTINGS, device="cpu")
    scores = [forward.score(genome) for genome in genomes]
    assert scores == [backward.score(genome) for genome in genomes[::-1]][::-1]
    assert all(0 <= score <= 1 for score in scores)
    assert forward.score(space.largest()) > 0.3  # ten classes: far above chance


def test_score_equals_the_extracted_networks_accuracy(space, task, weights, genomes):
    scorer = SupernetScorer(space, task, weights, SETTINGS, device="cpu")
    network = scorer.extract(genomes[0])
    assert measure_accuracy(network, scorer.valid) == pytest.approx(scorer.score(genomes[0]), abs=2e-3)


def test_scorer_in_a_fresh_process_gives_the_same_score(space, task, weights, genomes):
    config = {
        "space": {"name": "mobilenet", "preset": "tiny", "options": {}},
        "task": {"name": "digits_shifted", "options": {}},
        "weights": str(weights),
        "settings": SETTINGS.to_json(),
    }
    item = {"genome": genomes[1].tolist()}
    here = build_scorer(config)(item)
    program = (
        "import json, sys\n"
        "from archsmith.predictors.supernet.scoring import build_scorer\n"
        "config, item = json.loads(sys.argv[1])\n"
        "print(json.dumps(build_scorer(config)(item)))\n"
    )
    command = [sys.executable, "-c", program, json.dumps([config, item])]
    there = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert there["accuracy"] == here["accuracy"]
    assert there["seconds"] > 0


def test_weights_that_are_missing_or_foreign_are_refused(space, task, weights, tmp_path):
    with pytest.raises(PredictorError, match=r"gone\.safetensors"):
        SupernetScorer(space, task, tmp_path / "gone.safetensors", SETTINGS)
    with pytest.raises(PredictorError, match="another space"):
        SupernetScorer(spaces.get("mobilenet", "digits"), task, weights, SETTINGS)
