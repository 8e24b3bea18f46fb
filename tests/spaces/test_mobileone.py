from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.mobileone import PRESETS, REFERENCES, MobileOneStage, fuse
from archsmith.spaces.op import total_macs, total_params


def build(preset, **options):
    return ChainSpace(dataclasses.replace(PRESETS[preset], **options), name="mobileone", preset=preset)


class TestDeployed(SpaceKit, NetworkKit):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return build("tiny", deploy=True)


def test_deployed_s0_costs_what_the_paper_says():
    """Table 1 of the paper: 2.1 M parameters and 275 M MACs."""
    space, architecture = REFERENCES["mobileone_s0"](None)
    deployed = ChainSpace(dataclasses.replace(space.spec, deploy=True), name="mobileone")
    choices = {name: value for name, value in architecture.choices.items() if not name.endswith("branches")}
    ops = deployed.ops(deployed.architecture(choices))
    assert total_params(ops) / 1e6 == pytest.approx(2.1, abs=0.05)
    assert total_macs(ops) / 1e6 == pytest.approx(275, abs=3)


@torch.no_grad()
def _train_briefly(network, x):
    """Give norms the statistics of their inputs and random weights: what training leaves behind."""
    generator = torch.Generator().manual_seed(1)
    for norm in (layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)):
        norm.weight.copy_(0.5 + torch.rand(norm.weight.shape, generator=generator))
        norm.bias.copy_(torch.rand(norm.bias.shape, generator=generator) - 0.5)
    for _ in range(20):
        network.train()(x)
    return network.eval()


def test_fused_network_equals_the_trained_one_and_fits_the_deployed_space():
    training, deployed = build("tiny"), build("tiny", deploy=True)
    (x,) = training.example_inputs(4)
    for genome in training.sample(8, np.random.default_rng(0)):
        architecture = training.decode(genome)
        network = _train_briefly(training.network(architecture, seed=0), x)
        fused = fuse(network)
        torch.testing.assert_close(fused(x), network(x), atol=1e-5, rtol=1e-5)
        choices = {name: value for name, value in architecture.choices.items() if not name.endswith("branches")}
        blank = deployed.network(deployed.architecture(choices), seed=1).eval()
        blank.load_state_dict(fused.state_dict())
        torch.testing.assert_close(blank(x), network(x), atol=1e-5, rtol=1e-5)


def test_fused_network_is_a_copy():
    space = build("tiny")
    network = space.network(space.decode(space.largest()), seed=0).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fused = fuse(network)
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in fused.modules())


def test_deployed_space_has_no_gene_for_branches():
    assert "stages.0.branches" in build("tiny").table.names
    assert not any(name.endswith("branches") for name in build("tiny", deploy=True).table.names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 3}, "resolution 3 is too small for a total stride of 4"),
        ({"branches": (0,)}, "branches .* at least 1"),
        ({"deploy": "yes"}, "deploy is 'yes'"),
        ({"stages": (MobileOneStage(depths=(1, 2), widths=(8,), squeezes=(0, 2)),)}, "smallest depth, 1"),
        ({"stages": (MobileOneStage(depths=(1,), widths=(0,)),)}, "must be at least 1"),
    ],
)
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)
