"""Batches in parts: the same gradients, more parts when memory runs out, and errors that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from archsmith import spaces
from archsmith.errors import PredictorError
from archsmith.predictors.supernet import training_run
from archsmith.predictors.supernet.checkpoint import CheckpointStore
from archsmith.predictors.supernet.memory import is_out_of_memory, more_parts
from archsmith.predictors.supernet.samplers import Sandwich
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.step import backward
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks import catalog as tasks

SETTINGS = SupernetSettings(steps=3, batch_size=16, calibration_batch_size=32)

pytestmark = pytest.mark.usefixtures("one_thread")

LIMITED = """
import json, resource, sys
from pathlib import Path
import torch
from archsmith import spaces
from archsmith.errors import PredictorError
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks import catalog

torch.set_num_threads(1)
space, task = spaces.get("mobilenet", "tiny"), catalog.get("digits_shifted")

def train(name, **changes):
    settings = SupernetSettings(steps=1, sampler="uniform", random_paths=1, **changes)
    return SupernetTrainer(space, task, settings, seed=3, directory=Path(sys.argv[1]) / name, device="cpu").run()

train("first", batch_size=16)  # what is allocated once is there
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), -1))
told = {}
try:
    train("none", batch_size=8192)
except PredictorError as error:
    told["none"] = str(error)
train("auto", batch_size=8192, accumulate="auto")
state = Path(sys.argv[1]) / "auto" / "step-000000001" / "state.json"
told["parts"] = json.loads(state.read_text())["parts"]
print(json.dumps(told))
"""


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_add_up_to_the_whole_batch(parts):
    space = spaces.get("vit", "tiny")  # its norms see one sample at a time
    task = tasks.get("digits")
    supernet = space.supernet(seed=0).double().train()
    batch = task.batch(0, 16, 0).map_inputs(torch.Tensor.double)
    paths = Sandwich(space, random_paths=2, seed=0).paths(1)
    whole_losses, whole_logits = backward(supernet, paths, batch, SETTINGS)
    whole = {name: item.grad.clone() for name, item in supernet.named_parameters()}
    supernet.zero_grad()
    losses, logits = backward(supernet, paths, batch, SETTINGS, parts=parts)
    for name, item in supernet.named_parameters():
        torch.testing.assert_close(item.grad, whole[name], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(torch.stack(losses), torch.stack(whole_losses))
    torch.testing.assert_close(logits, whole_logits)


def test_given_number_of_parts_trains_and_resumes(space, task, tmp_path):
    settings = replace(SETTINGS, accumulate=4)
    whole = SupernetTrainer(space, task, settings, seed=0, directory=tmp_path / "a", device="cpu").run()
    stops = iter([False, True])
    part = SupernetTrainer(space, task, settings, seed=0, directory=tmp_path / "b", device="cpu")
    with pytest.raises(Exception, match="stopped after step 1"):
        part.run(should_stop=lambda: next(stops))
    assert part.run().weights.read_bytes() == whole.weights.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
def test_real_shortage_names_the_batch_or_goes_on_in_parts(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(400 << 20)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "out of memory with supernet.batch_size 8192" in told["none"]
    assert "accumulate" in told["none"]
    assert told["parts"] >= 2


def test_parts_found_once_are_kept_in_checkpoints(space, task, tmp_path, monkeypatch):
    """The shortage is a real error of torch, raised on purpose when the gradients of too few parts are there."""
    real = training_run.backward

    def short(*arguments, parts, **options):
        told = real(*arguments, parts=parts, **options)
        if parts < 4:
            torch.empty(1 << 60, dtype=torch.uint8)
        return told

    monkeypatch.setattr(training_run, "backward", short)
    settings = replace(SETTINGS, accumulate="auto", checkpoint_every=1, norm_statistics="tracked")
    found = SupernetTrainer(space, task, settings, seed=0, directory=tmp_path / "auto", device="cpu")
    found.run()
    state = CheckpointStore(tmp_path / "auto", found.identity).load_last(torch.device("cpu"))
    assert state is not None
    assert state.extra["parts"] == 4
    monkeypatch.setattr(training_run, "backward", real)
    given = SupernetTrainer(
        space, task, replace(settings, accumulate=4), seed=0, directory=tmp_path / "given", device="cpu"
    ).run()
    assert (tmp_path / "auto" / "weights.safetensors").read_bytes() == given.weights.read_bytes()


def test_shortage_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("expected 4D input"))
    assert more_parts(2, 16, automatic=True, cause="x") == 4
    with pytest.raises(PredictorError, match="batch_size 16 in 8 parts"):
        more_parts(8, 16, automatic=True, cause="x")
