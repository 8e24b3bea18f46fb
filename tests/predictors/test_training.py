"""Standalone training: it learns, repeats, stores its weights, and only then sees the test split when asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archsmith.errors import ConfigError, PredictorError
from archsmith.predictors.evaluation import measure_accuracy
from archsmith.predictors.training import StandaloneSettings, TrainingStopped, build_trainer, train_standalone

SETTINGS = StandaloneSettings(steps=60, batch_size=32, learning_rate=0.4)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_learns_and_repeats_bit_for_bit(space, task):
    architecture = space.decode(space.largest())
    first, second = (train_standalone(space, architecture, task, SETTINGS, seed=1, device="cpu") for _ in range(2))
    assert first.valid_accuracy > 0.3  # ten classes: far above chance
    assert first.test_accuracy is None
    ours, theirs = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_trainer_for_pools_stores_weights_that_reach_the_reported_accuracy(space, task, tmp_path):
    train = build_trainer({
        "space": {"name": "mobilenet", "preset": "tiny"},
        "task": {"name": "digits_shifted"},
        "settings": SETTINGS.to_json() | {"steps": 15},
    })  # fmt: skip
    genome = space.sample(1, np.random.default_rng(0))[0]
    path = tmp_path / "weights.safetensors"
    result = train({"genome": genome.tolist(), "seed": 2, "test": True, "weights_path": str(path)})
    network = space.network(space.decode(genome), seed=0)
    network.load_state_dict(load_file(path))
    network.eval()
    assert measure_accuracy(network, task.split("valid")) == result["valid_accuracy"]
    assert measure_accuracy(network, task.test_split()) == result["test_accuracy"]
    assert math.isfinite(result["seconds"])


def test_training_stops_when_asked(space, task):
    with pytest.raises(TrainingStopped, match="step 0"):
        train_standalone(
            space, space.decode(space.smallest()), task, SETTINGS, seed=0, device="cpu", should_stop=lambda: True
        )


def test_divergence_names_step_and_rate(space, task):
    settings = StandaloneSettings(steps=20, batch_size=16, learning_rate=1e30)
    with pytest.raises(PredictorError, match=r"at step \d+ with learning rate"):
        train_standalone(space, space.decode(space.smallest()), task, settings, seed=0, device="cpu")


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("steps", 1.5), ("optimizer", "adam"), ("epochs", 3)])
def test_bad_setting_is_named(name, value):
    with pytest.raises(ConfigError) as caught:
        StandaloneSettings.from_json({name: value})
    assert caught.value.place == f"standalone.{name}"
