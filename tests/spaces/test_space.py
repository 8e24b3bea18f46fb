"""The base class of search spaces: variation, keys, decoding, on gene-only spaces."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from contracts.sample_genes import ofa_genes

from archsmith.errors import SpaceError
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.space import GeneSpace


@pytest.fixture
def space() -> GeneSpace:
    return GeneSpace(ofa_genes(), name="ofa-genes")


def test_mutate_changes_every_genome_and_stays_canonical(space: GeneSpace) -> None:
    rng = np.random.default_rng(0)
    parents = space.sample(2000, rng)
    children = space.mutate(parents, rng)
    assert np.array_equal(children, space.canonical(children))
    assert (children != parents).any(axis=1).all()


def test_mutate_at_rate_one_changes_every_gene_that_stays_active(space: GeneSpace) -> None:
    rng = np.random.default_rng(0)
    parents = space.sample(500, rng)
    children = space.mutate(parents, rng, rate=1.0)
    both = space.active(parents) & space.active(children)
    assert (children != parents)[both].all()


def test_mutate_reaches_every_neighbor(space: GeneSpace) -> None:
    rng = np.random.default_rng(0)
    parent = space.smallest()
    children = space.mutate(np.repeat(parent[None], 20_000, axis=0), rng, rate=0.0)
    first = {row.tobytes() for row in space.neighbors(parent)}
    # At rate 0 exactly the one forced gene changes: where it activates nothing, the child is a neighbour.
    assert {row.tobytes() for row in children} >= {row for row in first if np.frombuffer(row, np.int16)[0] == 0}


def test_crossover_takes_every_shared_active_gene_from_a_parent(space: GeneSpace) -> None:
    rng = np.random.default_rng(0)
    a, b = space.sample(1000, rng), space.sample(1000, rng)
    child = space.crossover(a, b, rng)
    assert np.array_equal(child, space.canonical(child))
    shared = space.active(a) & space.active(b) & space.active(child)
    assert ((child == a) | (child == b))[shared].all()


def test_neighbors_differ_in_one_gene_active_in_both_and_take_defaults() -> None:
    genes = [
        Gene("depth", (1, 2), kind="ordered"),
        Gene("kernel", (3, 5, 7), kind="ordered", when=(When("depth", (2,)),), default=1),
    ]
    space = GeneSpace(genes, name="toy")
    assert space.neighbors(np.array([0, 0], dtype=np.int16)).tolist() == [[1, 1]]
    assert space.neighbors(np.array([1, 2], dtype=np.int16)).tolist() == [[0, 0], [1, 0], [1, 1]]


def test_neighbors_are_symmetric_up_to_defaults_and_distinct(space: GeneSpace) -> None:
    row = space.sample(1, np.random.default_rng(3))[0]
    neighbors = space.neighbors(row)
    active = space.active(row[None])[0]
    assert len(neighbors) == (space.table.cardinalities[active] - 1).sum() == len(np.unique(neighbors, axis=0))
    both = space.active(neighbors) & active
    assert (((neighbors != row) & both).sum(axis=1) == 1).all()


def test_keys_differ_for_different_genomes_and_spaces(space: GeneSpace) -> None:
    genomes = np.unique(space.sample(20_000, np.random.default_rng(0)), axis=0)
    keys = space.keys(genomes)
    assert keys.dtype == np.uint64
    assert keys.shape == (len(genomes), 2)
    assert len(np.unique(keys, axis=0)) == len(np.unique(keys[:, 0])) == len(genomes)
    other = GeneSpace(ofa_genes(), name="another")
    assert not (other.keys(genomes) == keys).any()


def test_keys_are_stable_across_processes_and_versions() -> None:
    # A golden value: a change here orphans every stored evaluation.
    script = (
        "import numpy as np; from archsmith.spaces.digest import digest_rows, hex_digest;"
        "print(hex_digest(digest_rows(np.arange(10, dtype=np.int16).reshape(2, 5), 'golden')[1]))"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    }
    assert outputs == {"a3ad957590fc697f130dd0fa6aa5f892"}


def test_decode_encode_is_the_identity(space: GeneSpace) -> None:
    for row in space.sample(50, np.random.default_rng(0)):
        architecture = space.decode(row)
        assert np.array_equal(space.encode(architecture), row)
        assert space.architecture(architecture.choices) == architecture
        assert set(architecture.choices) == {
            g.name for g, used in zip(space.genes, space.active(row[None])[0], strict=True) if used
        }


def test_architecture_from_choices_fills_defaults_and_names_mistakes(space: GeneSpace) -> None:
    assert space.architecture({}).choices["u0.depth"] == 2
    with pytest.raises(SpaceError, match="inactive under the other choices"):
        space.architecture({"u0.depth": 2, "u0.b3.kernel": 5})
    with pytest.raises(SpaceError, match=r"value 4 is not allowed; choose one of \[3, 5, 7\]"):
        space.architecture({"u0.b0.kernel": 4})
    with pytest.raises(SpaceError, match=r"u0\.b0\.kernel"):
        space.architecture({"u0.b0.kernl": 5})


def test_strict_operations_name_the_inactive_gene(space: GeneSpace) -> None:
    row = space.smallest()
    row[space.table.find("u0.b3.kernel")] = 1
    with pytest.raises(SpaceError, match=r"u0\.b3\.kernel.*inactive.*u0\.depth in \[4\]"):
        space.decode(row)


def test_architecture_of_another_space_is_refused(space: GeneSpace) -> None:
    other = GeneSpace(ofa_genes()[:9], name="other")
    with pytest.raises(SpaceError, match="belongs to space other-"):
        space.encode(other.decode(other.smallest()))


def test_identity_depends_on_genes_and_options() -> None:
    base = GeneSpace([Gene("a", (1, 2))], name="s")
    assert base.identity == GeneSpace([Gene("a", (1, 2))], name="s").identity
    assert base.identity != GeneSpace([Gene("a", (1, 3))], name="s").identity
    assert base.identity != GeneSpace([Gene("a", (1, 2))], name="s", options={"classes": 5}).identity


def test_smallest_and_largest_are_canonical_extremes(space: GeneSpace) -> None:
    assert space.active(space.smallest()[None]).sum() == 5 + 5 * 2 * 2
    assert space.active(space.largest()[None]).all()
    assert (space.largest() == 2).all()
