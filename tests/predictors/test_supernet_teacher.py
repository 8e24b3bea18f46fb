"""Teachers of their own, and networks from files: who learns from what, and what does not fit is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from archsmith import spaces
from archsmith.errors import PredictorError
from archsmith.predictors.supernet.files import content_hash, initialise_from, load_network
from archsmith.predictors.supernet.losses import label_loss, soft_target_loss
from archsmith.predictors.supernet.samplers import UniformPath
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.step import backward
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.supernet.training_run import TEACHER_FILE
from archsmith.spaces.export import export_network

SETTINGS = SupernetSettings(steps=6, batch_size=16, checkpoint_every=2, calibration_batch_size=32)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def exported(space, tmp_path_factory):
    """A small network of the space, as the pipeline exports it."""
    architecture = space.decode(space.sample(1, np.random.default_rng(5))[0])
    network = space.network(architecture, seed=9)
    return architecture, network, export_network(network, space, architecture, tmp_path_factory.mktemp("exported"))


@pytest.fixture
def largest_file(space, tmp_path):
    """The largest network alone, without a word on which it is."""
    path = tmp_path / "own.safetensors"
    save_file(space.network(space.decode(space.largest()), seed=4).state_dict(), path)
    return path


def trainer(space, task, directory, **changes):
    return SupernetTrainer(space, task, replace(SETTINGS, **changes), seed=3, directory=directory, device="cpu")


# --- teaching ---------------------------------------------------------------------------------------------------------


def test_teacher_of_its_own_teaches_every_path_beside_the_labels(space, task):
    supernet = space.supernet(seed=0).train()
    batch, paths = task.batch(0, 16, 0), UniformPath(space, random_paths=2, seed=0).paths(0)
    teacher = space.network(space.decode(space.largest()), seed=8).eval()
    settings = replace(SETTINGS, label_weight=0.5)
    losses, _ = backward(supernet, paths, batch, settings, teacher=lambda x: teacher(x).detach())
    with torch.no_grad():
        lesson = teacher(batch.inputs)
        for path, loss in zip(paths, losses, strict=True):
            logits = supernet(batch.inputs, path.architecture)
            expected = soft_target_loss(logits, lesson) + 0.5 * label_loss(logits, batch.labels, 0.1)
            torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_largest_teaches_as_it_was_after_it_trained_alone(space, task, tmp_path):
    changes = {"teacher": "largest", "warmup_largest": 0.5, "label_weight": 1.0}
    whole = trainer(space, task, tmp_path / "whole", **changes).run()
    stops = iter([False] * 3 + [True])  # exactly where the teacher is met: nothing is kept of it yet
    early = trainer(space, task, tmp_path / "early", **changes)
    with pytest.raises(Exception, match="stopped after step 3"):
        early.run(should_stop=lambda: next(stops))
    assert not (tmp_path / "early" / TEACHER_FILE).exists()
    assert early.run().weights.read_bytes() == whole.weights.read_bytes()
    late = trainer(space, task, tmp_path / "late", **changes)
    stops = iter([False] * 5 + [True])
    with pytest.raises(Exception, match="stopped after step 5"):
        late.run(should_stop=lambda: next(stops))
    assert late.run().weights.read_bytes() == whole.weights.read_bytes()
    taught = load_network(space, tmp_path / "whole" / TEACHER_FILE)
    assert float(taught.stem.norm.running_mean.abs().sum()) > 0  # calibrated
    alone = trainer(space, task, tmp_path / "alone", warmup_largest=0.5).run()
    assert alone.weights.read_bytes() != whole.weights.read_bytes()


def test_teacher_from_a_file_decides_the_identity_by_its_content(space, task, tmp_path, largest_file):
    first = trainer(space, task, tmp_path, teacher=str(largest_file))
    assert first.run().steps == 6
    moved = tmp_path / "moved.safetensors"
    shutil.copy(largest_file, moved)
    assert trainer(space, task, tmp_path, teacher=str(moved)).identity == first.identity
    save_file(space.network(space.decode(space.largest()), seed=5).state_dict(), largest_file)
    assert trainer(space, task, tmp_path, teacher=str(largest_file)).identity != first.identity


# --- first weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "preset"),
    [("mobilenet", "tiny"), ("ofa_mobilenetv3", "tiny"), ("tdnn", "tiny"), ("vit", "tiny"), ("nas_bench_201", "tiny")],
)
def test_absorbed_network_is_extracted_again(family, preset):
    space = spaces.get(family, preset)
    for genome in (space.largest(), *space.sample(2, np.random.default_rng(2))):
        architecture = space.decode(genome)
        weights = space.network(architecture, seed=7).state_dict()
        supernet = space.supernet(seed=1)
        before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        supernet.absorb(architecture, weights)
        out = supernet.extract(architecture).state_dict()
        assert all(torch.equal(out[name], weights[name]) for name in weights)
        after = supernet.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before.keys() - weights.keys())


def test_initial_weights_of_an_exported_subnet_lie_where_it_shares_them(space, task, exported, tmp_path):
    architecture, network, files = exported
    supernet = space.supernet(seed=0)
    initialise_from(supernet, space, files["weights.safetensors"])
    out = supernet.extract(architecture).state_dict()
    assert all(torch.equal(out[name], tensor) for name, tensor in network.state_dict().items() if "num_" not in name)
    settings = {"initial": str(files["weights.safetensors"]), "learning_rate": 1e-9, "steps": 1}
    trained = load_file(trainer(space, task, tmp_path, **settings).run().weights)
    torch.testing.assert_close(trained["head.classifier.weight"], supernet.state_dict()["head.classifier.weight"])


def test_network_without_description_is_the_largest(space, largest_file):
    network = load_network(space, largest_file)
    assert torch.equal(network.head.classifier.weight, load_file(largest_file)["head.classifier.weight"])
    assert not network.training


def test_what_does_not_fit_is_named(space, exported, largest_file, tmp_path):
    _, _, files = exported
    lonely = tmp_path / "lonely.safetensors"
    shutil.copy(files["weights.safetensors"], lonely)  # smaller than the largest, and nothing says so
    with pytest.raises(PredictorError, match=r"'(stages|head)\..*architecture\.json"):
        load_network(space, lonely)
    tensors = load_file(largest_file)
    save_file(tensors | {"head.classifier.weight": tensors["head.classifier.weight"][:7].clone()}, lonely)
    with pytest.raises(PredictorError, match=r"'head\.classifier\.weight' has shape \(7, .*must be \(10"):
        load_network(space, lonely)
    save_file(tensors | {"neck.weight": torch.zeros(1)}, lonely)
    with pytest.raises(PredictorError, match=r"'neck\.weight' is no weight of this network"):
        load_network(space, lonely)
    with pytest.raises(PredictorError, match=r"gone\.safetensors"):
        content_hash(tmp_path / "gone.safetensors")
    (tmp_path / "architecture.json").write_text(json.dumps({"architecture": {"choices": {"depth": 9}}}))
    with pytest.raises(PredictorError, match=r"architecture\.json: no architecture of space 'mobilenet'"):
        load_network(space, largest_file)
    largest_file.write_bytes(b"not safetensors")
    with pytest.raises(PredictorError, match=r"own\.safetensors"):
        load_network(space, largest_file)
