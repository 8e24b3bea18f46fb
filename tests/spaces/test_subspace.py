"""Parts of a space: what they contain, and that they say the same as the whole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.subspace import SubSpace

WHOLE = spaces.get("mobilenet", "tiny")
LIMITS = {"stages.0.depth": (1,), "stages.1.width": (8, 24), "stages.1.1.kernel": (5,)}


@pytest.fixture(scope="module")
def part() -> SubSpace:
    return SubSpace(WHOLE, LIMITS)


def test_lifted_genomes_are_exactly_those_with_allowed_values(part):
    every = np.unique(WHOLE.sample(40_000, np.random.default_rng(0)), axis=0)
    assert len(every) == WHOLE.size
    allowed = [
        all(choices.get(name, values[0]) in values for name, values in LIMITS.items())
        for choices in (WHOLE.decode(genome).choices for genome in every)
    ]
    np.testing.assert_array_equal(part.contains(every), allowed)
    inside = every[part.contains(every)]
    assert len(inside) == part.size
    np.testing.assert_array_equal(part.lift(part.lower(inside)), inside)


def test_genes_that_can_never_be_active_are_gone(part):
    names = {gene.name for gene in part.genes}
    assert "stages.0.1.kernel" not in names
    assert "stages.1.1.kernel" in names


def test_part_tells_the_same_as_the_whole(part):
    genomes = part.sample(20, np.random.default_rng(1))
    lifted = part.lift(genomes)
    np.testing.assert_array_equal(part.macs(genomes), WHOLE.macs(lifted))
    np.testing.assert_array_equal(part.params(genomes), WHOLE.params(lifted))
    np.testing.assert_array_equal(part.keys(genomes), WHOLE.keys(lifted))
    architecture = part.decode(genomes[0])
    assert architecture == WHOLE.decode(lifted[0])
    assert part.ops(architecture) == WHOLE.ops(architecture)
    np.testing.assert_array_equal(part.encode(architecture), genomes[0])


def test_extremes_are_those_of_the_allowed_values(part):
    largest, smallest = part.decode(part.largest()).choices, part.decode(part.smallest()).choices
    assert (largest["stages.1.width"], smallest["stages.1.width"]) == (24, 8)
    assert largest["stages.0.depth"] == smallest["stages.0.depth"] == 1


def test_supernet_of_the_part_runs_what_that_of_the_whole_does(part):
    architecture = part.decode(part.sample(1, np.random.default_rng(2))[0])
    (x,) = part.example_inputs(4)
    ours, theirs = part.supernet(seed=5), WHOLE.supernet(seed=5)
    torch.testing.assert_close(ours(x, architecture), theirs(x, architecture))
    assert part.network(architecture, seed=0)(x).shape == (4, 10)


def test_part_of_a_part_is_a_part(part):
    inner = SubSpace(part, {"stages.1.width": (24,)})
    genomes = inner.sample(5, np.random.default_rng(0))
    assert all(inner.decode(genome).choices["stages.1.width"] == 24 for genome in genomes)
    assert part.contains(part.lift(inner.lift(genomes))).all()


def test_part_travels_between_processes(part):
    again = pickle.loads(pickle.dumps(part))
    assert again.identity == part.identity != WHOLE.identity


def test_architecture_outside_is_refused_with_what_is_allowed(part):
    outside = WHOLE.architecture({"stages.0.depth": 2})
    with pytest.raises(SpaceError, match=r"'stages.0.depth': 2.*not in this part.*\(1,\)"):
        part.encode(outside)


@pytest.mark.parametrize("limits", [{"stages.0.deph": (1,)}, {"stages.0.depth": (7,)}])
def test_unknown_genes_and_values_are_refused(limits):
    with pytest.raises(SpaceError, match=r"stages\.0\.depth"):
        SubSpace(WHOLE, limits)


def test_gene_without_a_value_left_is_refused():
    with pytest.raises(SpaceError, match="at least one"):
        SubSpace(WHOLE, {"stages.0.depth": ()})
