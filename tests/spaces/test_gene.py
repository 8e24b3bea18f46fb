"""Genes and their table: activity, canonical form, exact size, uniform sampling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from contracts.sample_genes import OFA_UNITS, ofa_genes
from hypothesis import given, settings
from hypothesis import strategies as st

from archsmith.errors import SpaceError
from archsmith.spaces.gene import Gene, GeneTable, When


def two_condition_genes() -> list[Gene]:
    return [
        Gene("a", (0, 1, 2)),
        Gene("b", (0, 1), when=(When("a", (1, 2)),)),
        Gene("c", (0, 1, 2, 3), when=(When("a", (1,)), When("b", (1,)))),
        Gene("d", (0, 1)),
    ]


def every_genome(table: GeneTable) -> np.ndarray:
    return np.array(list(itertools.product(*(range(g.cardinality) for g in table.genes))), dtype=np.int16)


def test_size_of_ofa_equals_published_formula() -> None:
    assert GeneTable(ofa_genes()).size == (9**2 + 9**3 + 9**4) ** OFA_UNITS == 21758655492572485851


def test_size_with_joint_conditions_equals_enumeration() -> None:
    table = GeneTable(two_condition_genes())
    assert table.size == len(np.unique(table.canonical(every_genome(table)), axis=0)) == 16


@pytest.mark.parametrize("genes", [two_condition_genes(), ofa_genes()[:7]], ids=["joint", "tree"])
def test_sample_is_uniform_over_canonical_genomes(genes: list[Gene]) -> None:
    table = GeneTable(genes)
    n = 400 * table.size
    sample = table.sample(n, np.random.default_rng(1))
    assert np.array_equal(sample, table.canonical(sample))
    _, counts = np.unique(sample, axis=0, return_counts=True)
    assert len(counts) == table.size
    chi_square = ((counts - 400) ** 2 / 400).sum()
    degrees = table.size - 1
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


def test_active_follows_nested_conditions() -> None:
    table = GeneTable(two_condition_genes())
    genomes = np.array([[1, 1, 3, 0], [1, 0, 0, 0], [0, 1, 0, 0], [2, 1, 0, 1]], dtype=np.int16)
    expected = [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]]
    assert table.active(genomes).astype(int).tolist() == expected


def test_gene_whose_parent_is_inactive_is_inactive() -> None:
    genes = [Gene("a", (0, 1)), Gene("b", (0, 1), when=(When("a", (1,)),)), Gene("c", (0, 1), when=(When("b", (0,)),))]
    table = GeneTable(genes)
    # b holds 0 only because it is inactive: that must not activate c.
    assert table.active(np.array([[0, 0, 0]], dtype=np.int16)).tolist() == [[True, False, False]]
    assert table.size == 1 + (2 + 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_canonical_is_idempotent_and_zeroes_exactly_the_inactive(seed: int, rows: int) -> None:
    table = GeneTable(ofa_genes())
    raw = table.uniform(rows, np.random.default_rng(seed))
    canonical = table.canonical(raw)
    active = table.active(raw)
    assert np.array_equal(canonical, np.where(active, raw, 0))
    assert np.array_equal(table.canonical(canonical), canonical)
    assert np.array_equal(table.active(canonical), active)


def test_chunks_do_not_change_the_result() -> None:
    table = GeneTable(ofa_genes())
    raw = table.uniform(20_000, np.random.default_rng(0))
    whole = table.canonical(raw)
    parts = np.concatenate([table.canonical(raw[i : i + 777]) for i in range(0, len(raw), 777)])
    assert np.array_equal(whole, parts)


@pytest.mark.parametrize(
    ("genome", "message"),
    [([3, 0, 0, 0], r"gene 'a'.*index 3.*0 to 2"), ([0, -1, 0, 0], r"gene 'b'.*index -1.*0 to 1")],
)
def test_genome_out_of_range_names_gene_and_allowed(genome: list[int], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        GeneTable(two_condition_genes()).check_range(np.array([genome], dtype=np.int16))


def test_wrong_width_and_floats_are_rejected() -> None:
    table = GeneTable(two_condition_genes())
    with pytest.raises(SpaceError, match=r"needs \[B, 4\]"):
        table.check_range(np.zeros((2, 3), dtype=np.int16))
    with pytest.raises(SpaceError, match="int16"):
        table.check_range(np.zeros((2, 4)))
    with pytest.raises(SpaceError, match="exceeds int16"):
        table.check_range(np.full((1, 4), 70_000))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gene("g", ()), "at least one"),
        (lambda: Gene("g", (1, 1)), "all different"),
        (lambda: Gene("g", (2, 1), kind="ordered"), "ascending"),
        (lambda: Gene("g", (0, 1), kind="logarithmic"), "positive"),
        (lambda: Gene("g", (1, 2), default=2), "default index 2; allowed: 0 to 1"),
        (lambda: GeneTable([Gene("g", (1,)), Gene("g", (2,))]), r"unique; repeated: \['g'\]"),
        (lambda: GeneTable([Gene("g", (1,), when=(When("h", (1,)),))]), "'h', which is no gene"),
        (
            lambda: GeneTable([Gene("g", (1,), when=(When("h", (1,)),)), Gene("h", (1,), when=(When("g", (1,)),))]),
            "itself depends on 'g'",
        ),
        (lambda: GeneTable([Gene("h", (1,)), Gene("g", (1,), when=(When("h", (9,)),))]), "9 is not allowed"),
    ],
)
def test_bad_genes_are_refused(build, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        build()


def test_unknown_gene_name_suggests_the_closest() -> None:
    with pytest.raises(SpaceError, match=r"u0\.depth"):
        GeneTable(ofa_genes()).find("u0.dept")


def test_conditions_may_refer_to_later_genes() -> None:
    later = [
        Gene("kernel", (3, 5, 7), when=(When("depth", (2,)),)),
        Gene("size", (1, 2), when=(When("kernel", (5,)),)),
        Gene("depth", (1, 2)),
    ]
    table, reordered = GeneTable(later), GeneTable([later[2], later[0], later[1]])
    everything = np.stack([grid.ravel() for grid in np.indices((3, 2, 2), dtype=np.int16)], axis=1)
    assert table.size == reordered.size == len(np.unique(table.canonical(everything), axis=0)) == 5
    assert np.array_equal(table.canonical(everything), reordered.canonical(everything[:, [2, 0, 1]])[:, [1, 2, 0]])
    drawn = table.sample(4000, np.random.default_rng(0))
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 5
    assert counts.min() > 650
