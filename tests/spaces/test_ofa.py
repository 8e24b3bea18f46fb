from __future__ import annotations

import ast
import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from archsmith import spaces

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

GOLDEN_KEYS = [
    "82ba7cbbd44d01a33a5801735c4faac6",
    "7e69750a98c8ab4931bff9017cc09f5c",
]
"""Of the smallest and the largest network; a change makes stored evaluations unreachable."""


def data_file(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent; it holds published measurements that are not part of the project")
    return path


@pytest.fixture(scope="module")
def ofa():
    return spaces.get("ofa_mobilenetv3", "w1.0")


def indices(space, rows):
    """[B, G] choice indices of rows of gene values."""
    columns = [[gene.index(int(value)) for value in column] for gene, column in zip(space.genes, rows.T, strict=True)]
    return np.array(columns, dtype=np.int16).T


def test_count_is_the_published_one_at_every_resolution(ofa):
    assert ofa.size == 25 * (9**2 + 9**3 + 9**4) ** 5
    assert spaces.get("ofa_mobilenetv3", "w1.0", resolution=224).size == (9**2 + 9**3 + 9**4) ** 5


def test_genes_stand_in_the_published_order(ofa):
    names = [gene.name.rpartition(".")[2] for gene in ofa.genes]
    assert names == ["kernel"] * 20 + ["expansion"] * 20 + ["depth"] * 5 + ["resolution"]
    blocks = [f"stages.{stage}.{block}" for stage in range(1, 6) for block in range(4)]
    assert [gene.name.rpartition(".")[0] for gene in ofa.genes[:40]] == 2 * blocks


def test_depth_two_has_two_blocks_in_every_unit(ofa):
    plan = ofa.plan(ofa.decode(ofa.smallest()))
    assert [len(stage) for stage in plan.stages] == [1, 2, 2, 2, 2, 2]
    assert plan.resolution == 128


def test_wider_preset_widens_every_layer():
    space = spaces.get("ofa_mobilenetv3", "w1.2")
    plan = space.plan(space.decode(space.largest()))
    widths = [stage[0].out_channels for stage in plan.stages]
    assert (plan.stem.out_channels, widths) == (24, [24, 32, 48, 96, 136, 192])
    assert (plan.head.channels, plan.head.mixed) == (1152, 1536)


def test_proxyless_units_have_the_published_blocks():
    space = spaces.get("ofa_proxylessnas", "w1.0")
    plan = space.plan(space.decode(space.largest()))
    assert [len(stage) for stage in plan.stages] == [1, 4, 4, 4, 4, 4, 1]
    assert [stage[0].out_channels for stage in plan.stages] == [16, 24, 40, 80, 96, 192, 320]
    assert space.spec.total_stride == 32
    assert space.size == 25 * 9 * (9**2 + 9**3 + 9**4) ** 5


def test_keys_are_stable_across_versions(ofa):
    assert [ofa.decode(genome).key for genome in (ofa.smallest(), ofa.largest())] == GOLDEN_KEYS


def test_different_genomes_have_different_keys(ofa):
    genomes = ofa.sample(2000, np.random.default_rng(0))
    assert len(np.unique(ofa.keys(genomes), axis=0)) == len(np.unique(genomes, axis=0))


@pytest.mark.data
def test_real_subnets_have_their_published_parameters_and_macs(ofa):
    with gzip.open(data_file("ofa_mbv3_imagenet_top1.csv.gz"), "rt") as file:
        rows = list(csv.DictReader(file))
    networks = [ast.literal_eval(row["Sub-network"]) for row in rows]
    values = np.array([network["ks"] + network["e"] + network["d"] + network["r"] for network in networks])
    genomes = ofa.canonical(indices(ofa, values))
    assert ofa.params(genomes).tolist() == [int(row["Model Parameters"]) for row in rows]
    assert ofa.macs(genomes).tolist() == [int(row["MACs"]) for row in rows]


@pytest.mark.data
def test_published_encoding_is_a_population(ofa):
    data = np.load(data_file("ofa_latency.npz"), allow_pickle=False)
    short = {"kernel": "ks", "expansion": "e", "depth": "d", "resolution": "r"}
    assert [name.rstrip("0123456789") for name in data["arch_names"]] == [
        short[gene.name.rpartition(".")[2]] for gene in ofa.genes
    ]
    genomes = ofa.canonical(indices(ofa, data["arch"]))
    slow = data["latency_ms"][:, list(data["latency_names"]).index("2080ti_64")]
    assert np.corrcoef(np.argsort(np.argsort(ofa.macs(genomes))), np.argsort(np.argsort(slow)))[0, 1] > 0.9
