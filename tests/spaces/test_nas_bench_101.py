from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.nas_bench_101 import PRESETS, NasBench101Space, NasBench101Spec
from archsmith.spaces.families.nas_bench_101_module import CHOICES
from archsmith.spaces.graph import all_codes, count_edges, edge_pairs, prune
from archsmith.spaces.op import total_macs, total_params

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nb101_energy.csv.gz"
CONV3, CONV1, POOL = CHOICES


@pytest.fixture(scope="module")
def tiny():
    return NasBench101Space(PRESETS["tiny"], preset="tiny")


def test_topologies_of_all_modules_are_the_published_number(tiny):
    """Every graph that is one of the benchmark's when pruned, with every label, without using the table of modules."""
    codes = np.unique(np.concatenate([prune(part, 7) for part in all_codes(7)]))
    codes = codes[(codes != 0) & (count_edges(codes) <= 9)]
    labels = np.stack([grid.ravel() for grid in np.indices((3,) * 5, dtype=np.int16)], axis=1)
    found = set()
    for part in np.array_split(codes, 40):
        edges = np.repeat(part, len(labels))[:, None] >> np.arange(21) & 1
        genomes = np.hstack([edges, np.tile(labels, (len(part), 1))]).astype(np.int16)
        found.update(np.unique(tiny.topology_keys(genomes)[:, 0]).tolist())
    assert len(found) == len(tiny.all_modules()) == 423_624


def test_topology_keys_are_the_same_in_every_version(tiny):
    example = tiny.topology_keys(tiny.largest()[None])
    assert example.tolist() == [[3453243893394510758, 4226056054053380617]]


def test_table_of_modules_holds_valid_ones_that_stand_for_themselves(tiny):
    genomes = tiny.all_modules()[::37]
    codes, labels = tiny.modules(genomes)
    assert tiny.valid(genomes).all()
    assert np.array_equal(genomes[:, :21] @ 2 ** np.arange(21), codes)
    assert np.array_equal(genomes[:, 21:], labels)


def test_sample_takes_every_module_alike(tiny):
    genomes = tiny.sample(20_000, np.random.default_rng(0))
    edges = genomes[:, :21].sum(axis=1)
    assert tiny.valid(genomes).all()
    assert edges.mean() == pytest.approx(tiny.all_modules()[:, :21].sum(axis=1).mean(), abs=0.02)
    assert len(np.unique(tiny.keys(genomes), axis=0)) > 19_000


def test_children_of_modules_are_modules(tiny):
    rng = np.random.default_rng(2)
    a, b = tiny.sample(3000, rng), tiny.sample(3000, rng)
    for rate in (None, 0.1, 1.0):
        children = tiny.mutate(a, rng, rate)
        assert tiny.valid(children).all()
        assert (children != a).any(axis=1).all()
    assert tiny.valid(tiny.crossover(a, b, rng)).all()


def test_costs_equal_the_ops_of_modules_of_any_kind(tiny):
    uneven = NasBench101Space(NasBench101Spec(in_channels=1, resolution=9, channels=7, stacks=2, modules=2))
    rng = np.random.default_rng(3)
    for space in (tiny, uneven):
        genomes = np.concatenate([space.sample(60, rng), rng.integers(0, 2, (60, 26)).astype(np.int16)])
        assert not space.valid(genomes).all()
        ops = [space.ops(space.decode(genome)) for genome in genomes]
        assert space.macs(genomes).tolist() == [total_macs(made) for made in ops]
        assert space.params(genomes).tolist() == [total_params(made) for made in ops]


def shuffled(genome, order):
    """The same module with inner vertex v moved to order[v - 1], or None where an edge would turn backwards."""
    place = (0, *order, 6)
    out = np.zeros_like(genome)
    for bit, (x, y) in enumerate(edge_pairs(7)):
        if genome[bit]:
            if place[x] > place[y]:
                return None
            out[edge_pairs(7).index((place[x], place[y]))] = 1
    for vertex in range(1, 6):
        out[20 + place[vertex]] = genome[20 + vertex]
    return out


def test_isomorphic_modules_are_one_network_and_one_key(tiny):
    rng = np.random.default_rng(4)
    supernet, (x,) = tiny.supernet(seed=0).train(), tiny.example_inputs(3)
    tried = 0
    for genome in tiny.sample(600, rng):
        other = shuffled(genome, rng.permutation(np.arange(1, 6)).tolist())
        if other is None or np.array_equal(other, genome):
            continue
        tried += 1
        one, two = tiny.decode(genome), tiny.decode(other)
        assert one.key == two.key
        assert tiny.ops(one) == tiny.ops(two)
        assert torch.equal(supernet(x, one), supernet(x, two))
    assert tried >= 10


def test_different_keys_give_different_outputs_under_shared_weights(tiny):
    genomes = tiny.sample(60, np.random.default_rng(5))
    keys = tiny.keys(genomes)
    supernet, (x,) = tiny.supernet(seed=0).train(), tiny.example_inputs(3)
    with torch.no_grad():
        outputs = [supernet(x, tiny.decode(genome)) for genome in genomes]
    for i, j in zip(*np.triu_indices(len(genomes), 1), strict=True):
        assert np.array_equal(keys[i], keys[j]) == torch.allclose(outputs[i], outputs[j], atol=1e-6)


def test_genome_without_a_path_is_read_as_the_direct_connection(tiny):
    empty = np.zeros((1, 26), dtype=np.int16)
    direct = empty.copy()
    direct[0, edge_pairs(7).index((0, 6))] = 1
    assert tiny.valid(np.concatenate([empty, direct])).tolist() == [False, True]
    assert np.array_equal(tiny.keys(empty), tiny.keys(direct))
    assert "stacks.0.0.projections.6.conv" in {op.name for op in tiny.ops(tiny.decode(empty[0]))}


def test_documented_example_has_its_channels_split_with_the_remainder_first():
    space = NasBench101Space(PRESETS["cifar10"], preset="cifar10")
    architecture = space.decode(space.largest())
    assert space.valid(space.largest()[None]).all()
    first = space.plan(architecture)[0][0]
    assert sorted(first.channels) == [32, 32, 32, 32, 32, 128, 128]
    matrix = [
        [0, 1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0],
    ]  # fmt: skip
    assert space.from_matrix(matrix, [CONV1, CONV3, CONV3, CONV3, POOL]).key == architecture.key
    three = space.from_matrix(
        [[0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5], [CONV3] * 3
    )
    assert space.plan(three)[0][0].channels == (128, 43, 43, 42, 0, 0, 128)


@pytest.mark.data
def test_params_equal_the_published_table():
    """Each module of five vertices, exactly; and the table's own graph is the one that we build."""
    if not TABLE.exists():
        pytest.skip(f"needs {TABLE}")
    space = NasBench101Space(PRESETS["cifar10"], preset="cifar10")
    genomes, params = [], []
    with gzip.open(TABLE, "rt") as file:
        for row in csv.DictReader(file):
            labels = json.loads(row["ops"])[1:-1]
            genomes.append(
                space.encode(space.from_matrix(json.loads(row["adj"]), [CHOICES[label] for label in labels]))
            )
            params.append(int(row["params"]))
    assert len(params) > 1000
    assert space.params(np.stack(genomes)).tolist() == params


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda space: space.from_matrix([[0, 1], [1, 0]], []), "lead backwards"),
        (lambda space: space.from_matrix([[0, 1], [0, 0]], [CONV3]), "2 vertices and 1 operations"),
        (lambda space: NasBench101Spec(channels=4), "channels is 4; it must be an integer of at least 5"),
        (lambda space: NasBench101Spec(resolution=3), "cannot be halved 2 times"),
    ],
)
def test_wrong_request_says_what_is_allowed(tiny, call, message):
    with pytest.raises(SpaceError, match=message):
        call(tiny)
