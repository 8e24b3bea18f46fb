from __future__ import annotations

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.hierarchical import PRESETS, HierarchicalSpace, HierarchicalSpec
from archsmith.spaces.families.hierarchical_motifs import (
    CELL_PAIRS,
    MOTIF_PAIRS,
    PRIMITIVES,
    content_number,
    representatives,
)
from archsmith.spaces.op import total_macs, total_params


@pytest.fixture(scope="module")
def tiny():
    return HierarchicalSpace(PRESETS["tiny"], preset="tiny")


def test_expansion_puts_the_motif_that_each_edge_names_there(tiny):
    for genome in tiny.sample(20, np.random.default_rng(0)):
        choices = tiny.decode(genome).choices
        for (source, target), content in zip(CELL_PAIRS, tiny.expand(genome[None])[0].tolist(), strict=True):
            motif = choices[f"cell.{source}-{target}"]
            expected = [0] * 6
            if motif != "none":
                number = str(motif).removeprefix("motif")
                names = [choices[f"motifs.{number}.{x}-{y}"] for x, y in MOTIF_PAIRS]
                expected = [0 if name == "none" else PRIMITIVES.index(name) + 1 for name in names]
            assert content == expected


def test_mutated_motif_changes_exactly_the_edges_that_hold_it(tiny):
    genome = tiny.sample(1, np.random.default_rng(1))[0]
    other = genome.copy()
    position = tiny.table.find("motifs.1.0-1")
    other[position] = (other[position] + 1) % 6
    before, after = tiny.expand(np.stack([genome, other]))
    held = [tiny.decode(genome).choices["cell.{}-{}".format(*pair)] == "motif1" for pair in CELL_PAIRS]
    assert (before != after).any(axis=1).tolist() == held
    assert (before != after).sum() == sum(held)


def test_motifs_renamed_or_unused_do_not_change_the_key(tiny):
    genomes = tiny.sample(50, np.random.default_rng(2))
    swapped = genomes.copy()
    swapped[:, :6], swapped[:, 6:12] = genomes[:, 6:12], genomes[:, :6]
    for position in range(12, len(tiny.genes)):
        none = tiny.genes[position].values[0] == "none"
        held = genomes[:, position] - none
        swapped[:, position] = np.where(held >= 0, 1 - held, held) + none
    assert np.array_equal(tiny.keys(genomes), tiny.keys(swapped))
    assert not np.array_equal(genomes, swapped)
    alone = genomes.copy()
    for position in range(12, len(tiny.genes)):
        alone[:, position] = tiny.genes[position].index("motif0")
    other = alone.copy()
    other[:, 6:12] = (other[:, 6:12] + 1) % 6
    assert np.array_equal(tiny.keys(alone), tiny.keys(other))


def written(content):
    """What a motif computes, written out: a second implementation of its class, by nested tuples."""
    nodes = ["x"]
    for target in (1, 2, 3):
        terms = []
        for edge, (source, end) in enumerate(MOTIF_PAIRS):
            if end == target and content[edge]:
                name = PRIMITIVES[content[edge] - 1]
                place = edge if name in ("conv_1x1", "depthwise_3x3", "separable_3x3") else -1
                terms.append(nodes[source] if name == "identity" else (name, place, nodes[source]))
        nodes.append(terms[0] if len(terms) == 1 else ("join", target, *terms))
    return nodes[-1]


def test_motif_classes_are_those_of_the_written_out_computations():
    consecutive = [target == source + 1 for source, target in MOTIF_PAIRS]
    ranges = [range(1, 7) if always else range(7) for always in consecutive]
    contents = np.stack([grid.ravel() for grid in np.meshgrid(*ranges, indexing="ij")], axis=1)
    assert len(contents) == 6**3 * 7**3
    numbers = {}
    expected = [numbers.setdefault(written(content), len(numbers)) for content in contents.tolist()]
    forms = representatives()[content_number(contents)]
    found = np.unique(content_number(forms), return_inverse=True)[1]
    assert len({*zip(expected, found.tolist(), strict=True)}) == len(numbers) == found.max() + 1 < len(contents)
    assert (forms[:, consecutive] > 0).all()


def raw_output(supernet, genome, x):
    """The network run from the expanded genome as written."""
    contents = [tuple(c) if any(c) else None for c in supernet.space.expand(genome[None])[0].tolist()]
    x = supernet.stem(x)
    for cell, link in zip(supernet.cells, supernet.links, strict=True):
        x = link(cell(x, contents))
    return supernet.head(x)


def test_equal_keys_give_equal_outputs_and_ops_and_other_keys_other_outputs(tiny):
    """Cells of one motif of identities and poolings, where many contents compute the same."""
    rng = np.random.default_rng(3)
    genomes = np.tile(tiny.largest(), (80, 1))
    light = ("identity", "max_pool_3x3")
    for position, gene in enumerate(tiny.genes[:6]):
        choices = [gene.index(name) for name in (*light, *(("none",) if "none" in gene.values else ()))]
        genomes[:, position] = rng.choice(choices, len(genomes))
    _, first, group = np.unique(tiny.keys(genomes), axis=0, return_index=True, return_inverse=True)
    supernet, (x,) = tiny.supernet(seed=0).train(), tiny.example_inputs(4)
    with torch.no_grad():
        outputs = [raw_output(supernet, genome, x) for genome in genomes]
    assert 1 < len(first) < len(np.unique(genomes, axis=0))
    for row, number in enumerate(group.ravel()):
        architecture = tiny.decode(genomes[row])
        torch.testing.assert_close(outputs[row], outputs[first[number]], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(outputs[row], supernet(x, architecture), atol=1e-5, rtol=1e-5)
        assert tiny.ops(architecture) == tiny.ops(tiny.decode(genomes[first[number]]))
    kept = [outputs[row] for row in first]
    assert not any(torch.allclose(a, b, atol=1e-6) for i, a in enumerate(kept) for b in kept[:i])


def test_costs_equal_the_ops(tiny):
    space = HierarchicalSpace(PRESETS["digits"])
    for one in (tiny, space):
        genomes = one.sample(25, np.random.default_rng(4))
        ops = [one.ops(one.decode(genome)) for genome in genomes]
        assert one.macs(genomes).tolist() == [total_macs(made) for made in ops]
        assert one.params(genomes).tolist() == [total_params(made) for made in ops]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"motifs": 0}, "motifs is 0"), ({"resolution": 7}, "too small for a total stride of 8")],
)
def test_wrong_spec_says_what_is_allowed(options, message):
    with pytest.raises(SpaceError, match=message):
        HierarchicalSpec(**options)
