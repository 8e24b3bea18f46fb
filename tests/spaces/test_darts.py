from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from contracts.space_kit import NetworkKit, SupernetKit

from archsmith.errors import SpaceError
from archsmith.spaces.families.darts import GENOTYPES, PRESETS, DartsSpace
from archsmith.spaces.families.darts_network import SHARP_CHOICES, DartsSpec
from archsmith.spaces.op import total_macs, total_params

SHARP = dataclasses.replace(PRESETS["tiny"], choices=SHARP_CHOICES, sharp=True)


@pytest.fixture(scope="module")
def tiny():
    return DartsSpace(PRESETS["tiny"], preset="tiny")


class TestSharp(NetworkKit, SupernetKit):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return DartsSpace(SHARP)


class TestLargeStem(NetworkKit):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return DartsSpace(dataclasses.replace(PRESETS["tiny"], stem="large", resolution=64))


def test_sizes_are_the_published_ones():
    assert DartsSpace(PRESETS["cifar10"]).size == (7**8 * 3 * 6 * 10) ** 2
    assert 1e18 < DartsSpace(PRESETS["cifar10"]).size < 2e18


def test_published_network_has_its_published_parameters():
    """3.349342 M, as the reference implementation prints for the second-order cells without the auxiliary head."""
    space = DartsSpace(PRESETS["cifar10"])
    architecture = space.from_genotype(GENOTYPES["darts_v2"])
    assert space.params(space.encode(architecture)[None]).tolist() == [3_349_342]
    assert total_params(space.ops(architecture)) == 3_349_342


def test_published_search_network_has_its_published_parameters():
    """1.930618 M, as the reference implementation prints."""
    supernet = DartsSpace(PRESETS["search"]).supernet(seed=0)
    assert sum(parameter.numel() for parameter in supernet.parameters()) == 1_930_618


def test_published_imagenet_network_fits_its_published_size():
    """4.7 M parameters (DARTS, table 3); the published 574 M operations also count norms and activations."""
    space = DartsSpace(PRESETS["imagenet"])
    ops = space.ops(space.from_genotype(GENOTYPES["darts_v2"]))
    assert total_params(ops) == 4_718_752
    assert 0.9 < total_macs(ops) / 574e6 < 1


def test_sharp_block_has_the_middle_width_of_its_name():
    space = DartsSpace(dataclasses.replace(SHARP, channels=8))
    names = ("flood_conv_3x3", "dil_choke_conv_3x3")
    ops = {
        op.name: op
        for op in space.ops(space.architecture({f"normal.0.{x}": n for x, n in zip("ab", names, strict=True)}))
    }
    assert ops["cells.0.edges.0-2.flood_conv_3x3.0.pointwise"].output.shape[0] == 32
    assert ops["cells.0.edges.1-2.dil_choke_conv_3x3.0.pointwise"].output.shape[0] == 32
    assert ops["cells.0.edges.1-2.dil_choke_conv_3x3.0.depthwise"].attributes["dilation"] == 2
    assert ops["cells.0.edges.1-2.dil_choke_conv_3x3.1.depthwise"].attributes["dilation"] == 1


def test_search_form_without_affine_norms_extracts_exactly():
    space = DartsSpace(dataclasses.replace(PRESETS["tiny"], affine=False, pool_norm=True))
    supernet, (x,) = space.supernet(seed=0), space.example_inputs(6)
    for genome in space.sample(5, np.random.default_rng(0)):
        architecture = space.decode(genome)
        supernet.calibrate(architecture, [x])
        for training in (True, False):
            supernet.train(training)
            torch.testing.assert_close(
                supernet.extract(architecture)(x), supernet(x, architecture), atol=1e-5, rtol=1e-5
            )
        assert total_params(space.ops(architecture)) == space.params(genome[None])[0]


def raw_output(supernet, architecture, x):
    """The network run from the genes themselves, in the order they are written."""
    space, choices = supernet.space, architecture.choices
    older = newer = supernet.stem(x)
    for place, cell in zip(space.spec.places(), supernet.cells, strict=True):
        nodes = [prepare(y) for prepare, y in zip(cell.prepare, (older, newer), strict=True)]
        for node in range(4):
            terms = []
            reads = choices.get(f"{place.kind}.{node}.inputs", (0, 1))
            for source, letter in zip(reads, "ab", strict=True):
                edge = place.edge(source, 2 + node, choices[f"{place.kind}.{node}.{letter}"])
                y = nodes[source]
                terms.append(y if edge.spec is None else cell.edges[f"{source}-{2 + node}"][edge.choice](y))
            nodes.append(terms[0] + terms[1])
        older, newer = newer, torch.cat(nodes[2:], dim=1)
    return supernet.head(newer)


def test_supernet_equals_the_genes_run_as_written(tiny):
    supernet, (x,) = tiny.supernet(seed=0).train(), tiny.example_inputs(4)
    for genome in tiny.sample(30, np.random.default_rng(1)):
        architecture = tiny.decode(genome)
        torch.testing.assert_close(
            supernet(x, architecture), raw_output(supernet, architecture, x), atol=1e-5, rtol=1e-5
        )


def test_equal_keys_are_equal_outputs_under_shared_weights(tiny):
    """Two equal first nodes and few operations in one cell, the other fixed, so that many genomes compute the same."""
    rng = np.random.default_rng(2)
    genomes = np.tile(tiny.largest(), (160, 1))
    find, light = tiny.table.find, [tiny.spec.choices.index(name) for name in ("max_pool_3x3", "skip_connect")]
    for node in range(4):
        for letter in "ab":
            genomes[:, find(f"normal.{node}.{letter}")] = rng.choice(light, len(genomes))
    for letter in "ab":
        genomes[:, find(f"normal.1.{letter}")] = genomes[:, find(f"normal.0.{letter}")]
    genomes[:, find("normal.2.inputs")] = rng.integers(0, 6, len(genomes))
    _, first, group = np.unique(tiny.keys(genomes), axis=0, return_index=True, return_inverse=True)
    supernet, (x,) = tiny.supernet(seed=0).train(), tiny.example_inputs(4)
    with torch.no_grad():
        outputs = [raw_output(supernet, tiny.decode(genome), x) for genome in genomes]
    assert len(first) < len(np.unique(genomes, axis=0))
    for row, number in enumerate(group.ravel()):
        torch.testing.assert_close(outputs[row], outputs[first[number]], atol=1e-5, rtol=1e-5)
        same, other = (tiny.ops(tiny.decode(genomes[index])) for index in (row, first[number]))
        assert same == other
    representatives = [outputs[row] for row in first]
    assert not any(torch.allclose(a, b, atol=1e-6) for i, a in enumerate(representatives) for b in representatives[:i])


def test_equal_nodes_are_interchangeable_for_edges_without_weights(tiny):
    base = {f"normal.{node}.{letter}": "max_pool_3x3" for node in (0, 1) for letter in "ab"}
    base |= {"normal.1.inputs": (0, 1), "normal.2.b": "skip_connect", "normal.2.a": "sep_conv_3x3"}
    reads = [tiny.architecture(base | {"normal.2.inputs": (0, node)}) for node in (2, 3)]
    assert reads[0].key == reads[1].key
    heavy = [tiny.architecture(base | {"normal.2.inputs": (0, node), "normal.2.b": "sep_conv_3x3"}) for node in (2, 3)]
    assert heavy[0].key != heavy[1].key


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DartsSpec(layers=2), "layers is 2; it must be an integer of at least 3"),
        (lambda: DartsSpec(resolution=30), "multiple of the total stride 4"),
        (lambda: DartsSpec(choices=("sep_conv_9x9",)), "sep_conv_9x9"),
        (
            lambda: DartsSpace(PRESETS["tiny"]).from_genotype({"normal": [("skip_connect", 0)] * 8, "reduction": ()}),
            "reads nodes 0 and 0",
        ),
    ],
)
def test_wrong_request_says_what_is_allowed(call, message):
    with pytest.raises(SpaceError, match=message):
        call()
