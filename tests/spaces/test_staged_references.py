"""Published networks as points of the staged families; `test_references.py` holds all to their published costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.families.mobilenetv2 import PRESETS
from archsmith.spaces.families.staged_reference import point
from archsmith.spaces.op import total_macs, total_params
from archsmith.spaces.reference import MODULES

STAGED = {"efficientnet", "fbnet", "fbnetv3", "mnasnet", "mobilenetv2", "mobilenetv3", "mobilenetv4", "single_path_nas"}
NETWORKS = json.loads(Path(__file__).with_name("references.json").read_text())["networks"]


@pytest.mark.parametrize("name", [name for name, module in MODULES.items() if module in STAGED])
def test_reference_network_has_the_published_parameters(name):
    space, architecture = spaces.reference(name)
    with torch.device("meta"):
        network = space.blank(architecture)
    assert sum(parameter.numel() for parameter in network.parameters()) == NETWORKS[name]["params"]


@pytest.mark.parametrize(
    ("name", "macs"), [("mobilenetv4_conv_medium", 827_649_984), ("mobilenetv4_hybrid_medium", 966_311_360)]
)
def test_reference_at_another_resolution(name, macs):
    space, architecture = spaces.reference(name, 224)
    assert total_macs(space.ops(architecture)) == macs
    assert total_params(space.ops(architecture)) == NETWORKS[name]["params"]


def test_reference_runs_and_costs_what_its_sites_say():
    space, architecture = spaces.reference("mobilenetv3_small_100", 64)
    genome = space.encode(architecture)[None]
    assert space.params(genome).tolist() == [NETWORKS["mobilenetv3_small_100"]["params"]]
    assert space.macs(genome).tolist() == [total_macs(space.ops(architecture))]
    network = space.network(architecture, seed=0).eval()
    assert network(*space.example_inputs(1)).shape == (1, 1000)


def test_point_outside_its_preset_is_refused():
    build = point(PRESETS["imagenet"], {"stages.0.width": 24}, name="mobilenetv2", preset="imagenet", resolution=224)
    with pytest.raises(SpaceError, match=r"needs stages.0.width = 24, but the preset fixes 16"):
        build(None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spaces.reference("mobilenetv3_larg_100"), "did you mean one of .*mobilenetv3_large_100"),
        (lambda: spaces.reference("mobilenetv2_100", 16), "resolution is 16.*at least 32"),
    ],
)
def test_wrong_reference_says_what_is_allowed(call, message):
    with pytest.raises(SpaceError, match=message):
        call()
