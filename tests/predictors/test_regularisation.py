"""Dropout, drop path, mixup and averaged weights: their means, their traces, and what cannot be done."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from archsmith import spaces
from archsmith.errors import ConfigError, PredictorError
from archsmith.predictors.regularisation import AveragedWeights, mixed, noise
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks.task import Samples
from archsmith.predictors.training import StandaloneSettings, build_trainer, source_of, train_standalone

SETTINGS = StandaloneSettings(steps=4, batch_size=16, learning_rate=0.1)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network(space):
    return space.network(space.decode(space.largest()), seed=0)


def test_dropped_features_have_the_right_mean_and_follow_from_the_step(network):
    (x,) = torch.randn(4, 1, 11, 11, generator=torch.Generator().manual_seed(0)).split(4)
    network.train()
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 0.0
    plain = network(x)
    with noise(network, dropout=0.5, drop_path=0.0, seed=1) as begin:
        outputs = []
        for step in range(400):
            begin(step)
            outputs.append(network(x).detach())
        begin(3)
        assert torch.equal(network(x), outputs[3])
        assert not torch.equal(outputs[3], outputs[4])
        torch.testing.assert_close(network.eval()(x), network(x))
        network.train()
    spread = torch.stack(outputs).std(dim=0) / len(outputs) ** 0.5
    assert ((torch.stack(outputs).mean(dim=0) - plain).abs() < 5 * spread).all()
    assert torch.equal(network(x), plain)  # nothing is left of it


def test_dropped_branches_leave_the_input(network):
    blocks = [block for stage in network.stages for block in stage if block.residual]
    seen = []
    for block in blocks:
        block.register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0], output)))
    (x,) = torch.randn(64, 1, 11, 11, generator=torch.Generator().manual_seed(0)).split(64)
    with noise(network.train(), dropout=0.0, drop_path=0.6, seed=1) as begin:
        begin(0)
        network(x)
    assert blocks
    # The hooks above stand before those that drop: the next block's input, or the head's, is what is left.
    kept = [bool((output != taken).any()) for taken, output in seen]
    assert all(kept)
    with noise(network, dropout=0.0, drop_path=0.6, seed=1) as begin:
        begin(0)
        block = blocks[-1]
        y = torch.randn(400, block.project.conv.out_channels, 4, 4, generator=torch.Generator().manual_seed(1))
        out = block(y)
    same = (out == y).flatten(1).all(dim=1).float().mean()
    assert float(same) == pytest.approx(0.6, abs=0.1)


def test_mixed_batches_blend_inputs_and_losses():
    batch = Samples(torch.randn(8, 1, 2, 2), torch.arange(8))
    pairs = mixed(batch, 0.4, seed=0, step=5)
    expected = pairs.share * batch.inputs + (1 - pairs.share) * batch.inputs[pairs.others.labels]
    torch.testing.assert_close(pairs.samples.inputs, expected)
    assert torch.equal(pairs.samples.inputs, pairs.others.inputs)
    assert mixed(batch, 0.4, seed=0, step=5).share == pairs.share != mixed(batch, 0.4, seed=0, step=6).share
    with pytest.raises(PredictorError, match=r"standalone\.mixup"):
        mixed(Samples(torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3, dtype=torch.int64)), 0.4, 0, 0)


def test_averaged_weights_follow_the_network(network):
    average = AveragedWeights(network)
    name, weight = next(iter(network.named_parameters()))
    expected = weight.detach().clone()
    for update in range(1, 4):
        with torch.no_grad():
            weight.add_(1.0)
        average.update(network)
        expected = expected.lerp(weight.detach(), 1 - (1 + update) / (10 + update))
    torch.testing.assert_close(average.average[name], expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.3},
        {"drop_path": 0.3},
        {"mixup": 0.4},
        {"ema": True},
        {"optimizer": "rmsprop", "learning_rate": 0.02},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_part_of_a_recipe_changes_the_training_and_repeats(space, task, changes):
    architecture, settings = space.decode(space.largest()), replace(SETTINGS, **changes)

    def weights(settings):
        network = train_standalone(space, architecture, task, settings, seed=1, device="cpu").network
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    assert torch.equal(weights(settings), weights(settings))
    assert not torch.equal(weights(settings), weights(SETTINGS))


def test_network_without_branches_says_so():
    space = spaces.get("resnet", "tiny")
    network = space.network(space.decode(space.smallest()), seed=0)
    with (
        pytest.raises(PredictorError, match=r"standalone\.drop_path"),
        noise(network, dropout=0, drop_path=0.1, seed=0),
    ):
        pass


def test_fine_tuning_starts_from_the_shared_weights(space, task, tmp_path):
    shared = SupernetSettings(steps=40, batch_size=32, learning_rate=0.4, calibration_batch_size=64)
    supernet = SupernetTrainer(space, task, shared, seed=0, directory=tmp_path, device="cpu").run()
    config = {
        "space": {"name": "mobilenet", "preset": "tiny"},
        "task": {"name": "digits_shifted"},
        "supernet": {"weights": str(supernet.weights), "settings": shared.to_json()},
    }
    few = {"steps": 3, "batch_size": 32, "learning_rate": 0.01}
    item = {"genome": space.largest().tolist(), "seed": 1}
    tuned = build_trainer(config | {"settings": few | {"initial": "supernet"}})(item)
    scratch = build_trainer(config | {"settings": few})(item)
    assert tuned["valid_accuracy"] > scratch["valid_accuracy"] + 0.1
    with pytest.raises(ConfigError, match="no supernet was trained"):
        build_trainer({**config, "supernet": None, "settings": few | {"initial": "supernet"}})
    assert source_of(StandaloneSettings(initial="supernet")) == "measured:fine_tuned"
    assert source_of(StandaloneSettings()) == "measured:standalone"


@pytest.mark.parametrize(("name", "value"), [("ema", 1), ("dropout", 1.0), ("mixup", -0.1), ("initial", "best")])
def test_bad_part_of_a_recipe_is_named(name, value):
    with pytest.raises(ConfigError) as caught:
        StandaloneSettings.from_json({name: value})
    assert caught.value.place == f"standalone.{name}"
