"""Published networks as points of the staged families.

Golden values: parameters and multiply-accumulates of the models of these names in pytorch-image-models 1.0.31, built on
the meta device and counted with `sum(p.numel() for p in model.parameters())` and `torch.utils.flop_counter` (halved,
MATH attention) at the resolutions given.
"""

from __future__ import annotations

import pytest
import torch

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.families.mobilenetv2 import PRESETS
from archsmith.spaces.families.staged_reference import point
from archsmith.spaces.op import total_macs, total_params

GOLDEN = {
    "efficientnet_b0": (5_288_548, 224, 385_814_752),
    "efficientnet_b1": (7_794_184, 240, 686_802_832),
    "efficientnet_b2": (9_109_994, 256, 859_853_760),
    "efficientnet_b3": (12_233_232, 288, 1_589_198_096),
    "fbnetc_100": (5_572_200, 224, 384_960_160),
    "fbnetv3_b": (8_598_464, 224, 407_508_576),
    "fbnetv3_d": (10_306_272, 224, 501_971_056),
    "fbnetv3_g": (16_623_888, 240, 1_253_584_000),
    "mnasnet_100": (4_383_312, 224, 314_415_872),
    "mobilenetv2_100": (3_504_872, 224, 300_774_272),
    "mobilenetv3_large_100": (5_483_032, 224, 216_589_760),
    "mobilenetv3_small_100": (2_542_856, 224, 56_510_400),
    "mobilenetv4_conv_large": (32_590_864, 384, 6_376_220_672),
    "mobilenetv4_conv_medium": (9_715_512, 256, 1_080_244_224),
    "mobilenetv4_conv_small": (3_774_024, 224, 186_005_568),
    "mobilenetv4_hybrid_medium": (11_074_648, 256, 1_271_183_360),
    "semnasnet_100": (3_887_038, 224, 311_579_072),
    "spnasnet_100": (4_421_616, 224, 333_467_072),
}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_reference_has_the_published_costs(name):
    space, architecture = spaces.reference(name)
    ops = space.ops(architecture)
    params, resolution, macs = GOLDEN[name]
    assert ops[0].inputs[0].shape == (3, resolution, resolution)
    assert (total_params(ops), total_macs(ops)) == (params, macs)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_reference_network_has_the_published_parameters(name):
    space, architecture = spaces.reference(name)
    with torch.device("meta"):
        network = space.blank(architecture)
    assert sum(parameter.numel() for parameter in network.parameters()) == GOLDEN[name][0]


@pytest.mark.parametrize(
    ("name", "macs"), [("mobilenetv4_conv_medium", 827_649_984), ("mobilenetv4_hybrid_medium", 966_311_360)]
)
def test_reference_at_another_resolution(name, macs):
    space, architecture = spaces.reference(name, 224)
    assert total_macs(space.ops(architecture)) == macs
    assert total_params(space.ops(architecture)) == GOLDEN[name][0]


def test_reference_runs_and_costs_what_its_sites_say():
    space, architecture = spaces.reference("mobilenetv3_small_100", 64)
    genome = space.encode(architecture)[None]
    assert space.params(genome).tolist() == [GOLDEN["mobilenetv3_small_100"][0]]
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
