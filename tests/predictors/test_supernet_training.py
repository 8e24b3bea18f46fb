"""Supernet training: sandwich gradients, determinism, resuming after a kill, divergence, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from archsmith.errors import ConfigError, PredictorError
from archsmith.predictors.optimization import learning_rate
from archsmith.predictors.supernet.checkpoint import CheckpointStore
from archsmith.predictors.supernet.losses import label_loss, soft_target_loss
from archsmith.predictors.supernet.path import Target
from archsmith.predictors.supernet.samplers import Sandwich
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.step import backward
from archsmith.predictors.supernet.trainer import SupernetTrainer, TrainingInterrupted

SETTINGS = SupernetSettings(steps=12, batch_size=16, checkpoint_every=4, calibration_batch_size=32)
CHILD = """
import json, sys
from pathlib import Path
import torch
from archsmith import spaces
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks import catalog

torch.set_num_threads(1)
settings = SupernetSettings.from_json(json.loads(sys.argv[2]))
space, task = spaces.get("mobilenet", "tiny"), catalog.get("digits_shifted")
trainer = SupernetTrainer(space, task, settings, seed=3, directory=Path(sys.argv[1]), device="cpu")
trainer.run(progress=lambda done, total, message: print(done, flush=True))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def trainer_in(directory: Path, space, task, settings=SETTINGS, seed=3) -> SupernetTrainer:
    return SupernetTrainer(space, task, settings, seed=seed, directory=directory, device="cpu")


def assert_same_weights(first: Path, second: Path) -> None:
    a, b = load_file(first), load_file(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_sandwich_gradient_is_the_sum_of_the_paths_gradients_taken_alone(space, task):
    supernet = space.supernet(seed=0).double()
    batch = task.batch(0, 16, 0)
    batch = type(batch)(batch.inputs.double(), batch.labels)
    paths = Sandwich(space, random_paths=2, seed=0).paths(5)
    backward(supernet, paths, batch, SETTINGS)
    together = [parameter.grad.clone() for parameter in supernet.parameters()]

    expected = [torch.zeros_like(parameter) for parameter in supernet.parameters()]
    teacher = supernet(batch.inputs, paths[0].architecture).detach()
    for path in paths:
        supernet.zero_grad()
        logits = supernet(batch.inputs, path.architecture)
        taught = path.target is Target.TEACHER
        loss = soft_target_loss(logits, teacher) if taught else label_loss(logits, batch.labels, 0.1)
        loss.backward()
        for total, parameter in zip(expected, supernet.parameters(), strict=True):
            total += 0 if parameter.grad is None else parameter.grad
    # The losses are computed in float32, hence no tighter.
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(together, expected, strict=True))


def test_teacher_gets_no_gradient_from_its_students():
    teacher = torch.randn(4, 3, requires_grad=True)
    student = torch.randn(4, 3, requires_grad=True)
    soft_target_loss(student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_distillation_gradient_vanishes_at_the_teachers_logits():
    logits = torch.randn(4, 3)
    student = logits.clone().requires_grad_()
    soft_target_loss(student, logits, 3.0).backward()
    assert student.grad.abs().max() < 1e-6


def test_sandwich_runs_largest_with_labels_then_smallest_then_random_ones(space):
    paths = Sandwich(space, random_paths=3, seed=1).paths(9)
    assert paths == Sandwich(space, random_paths=3, seed=1).paths(9)
    assert [path.target for path in paths] == [Target.LABELS] + 4 * [Target.TEACHER]
    assert paths[0].architecture == space.decode(space.largest())
    assert paths[1].architecture == space.decode(space.smallest())
    assert paths[2:] != Sandwich(space, random_paths=3, seed=1).paths(10)[2:]


def test_sandwich_trains_the_smallest_in_its_share_of_the_steps(space):
    sampler = Sandwich(space, random_paths=0, smallest_share=0.25, seed=1)
    shares = [len(sampler.paths(step)) - 1 for step in range(400)]
    assert abs(sum(shares) / 400 - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    assert all(len(Sandwich(space, random_paths=2, smallest_share=0, seed=1).paths(step)) == 3 for step in range(50))


def test_training_learns_and_repeats_bit_for_bit(space, task, tmp_path):
    settings = replace(SETTINGS, steps=40, batch_size=32, learning_rate=0.4)
    first = trainer_in(tmp_path / "a", space, task, settings).run()
    second = trainer_in(tmp_path / "b", space, task, settings).run()
    assert_same_weights(first.weights, second.weights)
    assert first.history == second.history
    assert first.history[-1]["loss"] < first.history[0]["loss"] - 0.1
    assert json.loads(json.dumps(first.summary()))["steps"] == 40


def test_interrupted_training_resumes_bit_for_bit(space, task, tmp_path):
    whole = trainer_in(tmp_path / "whole", space, task).run()
    asked = iter([False] * 6 + [True])
    with pytest.raises(TrainingInterrupted) as stopped:
        trainer_in(tmp_path / "parts", space, task).run(should_stop=lambda: next(asked))
    assert stopped.value.step == 6
    done: list[int] = []
    parts = trainer_in(tmp_path / "parts", space, task).run(progress=lambda step, total, message: done.append(step))
    assert done == [7, 8, 9, 10, 11, 12]
    assert_same_weights(whole.weights, parts.weights)
    assert whole.history == parts.history


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sampler": "predictor_weighted", "predictor_fits": 5, "predictor_scores": 5, "norm_statistics": "tracked"},
        {
            "sampler": "attentive_best",
            "teacher": "largest",
            "warmup_largest": 0.3,
            "accumulate": 2,
            "optimizer": "adamw",
        },
    ],
    ids=["sandwich", "predictor", "teacher"],
)
def test_killed_training_resumes_bit_for_bit(space, task, tmp_path, changes):
    settings = replace(SETTINGS, steps=16, checkpoint_every=3, **changes)
    whole = trainer_in(tmp_path / "whole", space, task, settings).run()
    command = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), json.dumps(settings.to_json())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 5:
            pass
        time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    done: list[int] = []
    parts = trainer_in(tmp_path / "killed", space, task, settings).run(progress=lambda step, *_: done.append(step))
    assert 1 < done[0] <= 16
    assert_same_weights(whole.weights, parts.weights)


def test_half_written_checkpoint_is_ignored_and_removed(space, task, tmp_path):
    whole = trainer_in(tmp_path / "whole", space, task).run()
    half = tmp_path / "parts" / ".writing-8-1"
    half.mkdir(parents=True)
    (half / "weights.safetensors").write_bytes(b"half")
    parts = trainer_in(tmp_path / "parts", space, task).run()
    assert_same_weights(whole.weights, parts.weights)
    assert not half.exists()


def test_finished_training_is_not_repeated(space, task, tmp_path):
    first = trainer_in(tmp_path, space, task).run()
    steps: list[int] = []
    second = trainer_in(tmp_path, space, task).run(progress=lambda step, *_: steps.append(step))
    assert steps == []
    assert second == first


def test_checkpoints_of_another_run_are_refused(space, task, tmp_path):
    trainer_in(tmp_path, space, task).run()
    with pytest.raises(PredictorError, match="another space, task, settings or seed"):
        trainer_in(tmp_path, space, task, seed=4).run()


def test_broken_checkpoint_is_named(space, task, tmp_path):
    trainer_in(tmp_path, space, task).run()
    (tmp_path / "step-000000012" / "optimizer.safetensors").write_bytes(b"broken")
    with pytest.raises(PredictorError, match="step-000000012"):
        trainer_in(tmp_path, space, task).run()


@pytest.mark.parametrize("sampler", ["sandwich", "uniform", "parallel"])
def test_divergence_names_step_rate_and_last_checkpoint(space, task, tmp_path, sampler):
    settings = replace(SETTINGS, learning_rate=1e5, max_grad_norm=0.0, checkpoint_every=1, sampler=sampler)
    with pytest.raises(
        PredictorError, match=r"at step \d+ with learning rate .*last good checkpoint: .*step-"
    ) as caught:
        trainer_in(tmp_path, space, task, settings).run()
    failed = CheckpointStore(tmp_path, "").steps()[-1]
    assert f"at step {failed} " in str(caught.value)
    assert f"step-{failed - 1:09d}" in str(caught.value)


def test_learning_rate_rises_then_falls_to_zero():
    rates = [learning_rate(step, 100, 0.5, 0.1) for step in range(100)]
    assert rates[9] == max(rates) == 0.5
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("batch_size", 1), ("learning_rate", "high"), ("sampler", "best"), ("warmup", 1.5), ("stepz", 3)],
)
def test_bad_setting_is_named(name, value):
    with pytest.raises(ConfigError) as caught:
        SupernetSettings.from_json({name: value})
    assert caught.value.place == f"supernet.{name}"


@pytest.mark.gpu
def test_training_on_cuda_learns_and_scores(space, task, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    settings = replace(SETTINGS, steps=80, batch_size=32)
    trained = SupernetTrainer(space, task, settings, seed=0, directory=tmp_path, device="cuda").run()
    assert trained.history[-1]["loss"] < trained.history[0]["loss"] - 0.1
