"""Every published network against pytorch-image-models, and DARTS cells against what their authors state."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from archsmith import spaces
from archsmith.spaces.families.darts import GENOTYPES
from archsmith.spaces.op import total_macs, total_params
from archsmith.spaces.reference import reference_names

NETWORKS = json.loads(Path(__file__).with_name("references.json").read_text())["networks"]

COUNTED_WORK = {"batch_norm": 2, "layer_norm": 5}
"""What the published table counts besides multiply-accumulates: operations per element of a norm's output."""


OTHERS = {name for name in reference_names() if name.startswith("autoformer_")}
"""Networks that pytorch-image-models lacks; `test_vit` holds them against what their authors state."""


def test_every_reference_has_golden_values():
    assert set(NETWORKS) | OTHERS == set(reference_names())


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_reference_costs_are_exactly_those_of_the_published_model(name):
    space, architecture = spaces.reference(name)
    golden, ops = NETWORKS[name], space.ops(architecture)
    assert ops[0].inputs[0].shape == (3, golden["resolution"], golden["resolution"])
    assert (total_params(ops), total_macs(ops)) == (golden["params"], golden["macs"])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_reference_costs_and_norms_make_the_published_table(name):
    """To the table's last digit: its GMACs are ours and, for every element, 2 of a batch norm or 5 of a layer norm."""
    golden, (space, architecture) = NETWORKS[name], spaces.reference(name)
    ops = space.ops(architecture)
    norms = sum(COUNTED_WORK.get(op.kind, 0) * math.prod(op.output.shape) for op in ops)
    assert golden["params"] / 1e6 == pytest.approx(golden["table_mparams"], abs=0.00501)
    assert (golden["macs"] + norms) / 1e9 == pytest.approx(golden["table_gmacs"], abs=0.00501)


# One of each kind of network: building all of them would take minutes.
@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "mobileone_s0", "regnety_002", "resnet18", "starnet_s1"])
def test_reference_network_has_the_published_parameters(name):
    space, architecture = spaces.reference(name)
    network = space.network(architecture, seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == NETWORKS[name]["params"]
    genome = space.encode(architecture)[None]
    assert (space.params(genome)[0], space.macs(genome)[0]) == (NETWORKS[name]["params"], NETWORKS[name]["macs"])


# --- DARTS ----------------------------------------------------------------------------------------------------------

P_DARTS = {
    "normal": (
        ("skip_connect", 0), ("dil_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 0), ("dil_conv_5x5", 4),
    ),
    "reduction": (
        ("avg_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2),
        ("max_pool_3x3", 0), ("dil_conv_3x3", 1), ("dil_conv_3x3", 1), ("dil_conv_5x5", 3),
    ),
}  # fmt: skip
"""`PDARTS` of https://github.com/chenxin061/pdarts, genotypes.py."""

PC_DARTS = {
    "normal": (
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 0), ("dil_conv_3x3", 1),
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 1), ("avg_pool_3x3", 0), ("dil_conv_3x3", 1),
    ),
    "reduction": (
        ("sep_conv_5x5", 1), ("max_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 3), ("sep_conv_3x3", 1), ("sep_conv_3x3", 2),
    ),
}  # fmt: skip
"""`PC_DARTS_cifar` of https://github.com/yuhuixu1993/PC-DARTS, genotypes.py."""


@pytest.mark.parametrize(
    ("preset", "genotype", "params", "stated"),
    [
        # README of https://github.com/quark0/darts: 3.349 and 4.719 million.
        ("cifar10", GENOTYPES["darts_v2"], 3_349_342, 3.349),
        ("imagenet", GENOTYPES["darts_v2"], 4_718_752, 4.719),
        # Issue 7 of https://github.com/chenxin061/pdarts counts 3,433,798 without the auxiliary head.
        ("cifar10", P_DARTS, 3_433_798, 3.433798),
        # README of https://github.com/yuhuixu1993/PC-DARTS: 3.6 million.
        ("cifar10", PC_DARTS, 3_634_678, 3.6),
    ],
)
def test_darts_network_has_the_parameters_its_authors_state(preset, genotype, params, stated):
    space = spaces.get("darts", preset)
    architecture = space.from_genotype(genotype)
    digits = len(str(stated).partition(".")[2])
    assert total_params(space.ops(architecture)) == params
    assert round(params / 1e6, digits) == stated


def test_darts_search_network_has_the_parameters_of_naslib():
    """1.930618 million: the model size that the tests of https://github.com/automl/NASLib expect."""
    with torch.device("meta"):
        supernet = spaces.get("darts", "search").supernet()
    assert sum(parameter.numel() for parameter in supernet.parameters()) == 1_930_618
