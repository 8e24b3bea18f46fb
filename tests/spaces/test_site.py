"""Sites: the flat table, its index, and exact sums over populations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from archsmith.errors import SpaceError
from archsmith.spaces.gene import Gene, GeneTable, When
from archsmith.spaces.op import Op, Tensor, make_op
from archsmith.spaces.site import Site, SiteIndex

WIDTHS = (4, 8, 12)
DEPTHS = (0, 1)


def table() -> GeneTable:
    return GeneTable(
        [
            Gene("width", WIDTHS, kind="ordered"),
            Gene("depth", DEPTHS, kind="ordered"),
            Gene("kernel", (1, 3), kind="ordered", when=(When("depth", (1,)),)),
        ]
    )


def stem(choices: tuple[int, ...]) -> tuple[Op, ...]:
    return (make_op("stem", "conv2d", Tensor("x", (3, 8, 8)), out_channels=WIDTHS[choices[0]], kernel=1),)


def block(choices: tuple[int, ...]) -> tuple[Op, ...]:
    width, depth, kernel = choices
    if not depth:
        return ()
    size = (1, 3)[kernel]
    inputs = Tensor("stem", (WIDTHS[width], 8, 8))
    return (make_op("block", "conv2d", inputs, out_channels=WIDTHS[width], kernel=size, padding=size // 2),)


@pytest.fixture
def index() -> SiteIndex:
    return SiteIndex(table(), [Site("stem", (0,), stem), Site("block", (0, 1, 2), block)])


def test_total_equals_sum_over_ops_for_every_genome(index: SiteIndex) -> None:
    genes = table()
    raw = np.array(list(itertools.product(range(3), range(2), range(2))), dtype=np.int16)
    genomes = np.unique(genes.canonical(raw), axis=0)
    costs = index.table(lambda ops: (sum(op.macs for op in ops), sum(op.params for op in ops)), 2)
    expected = [
        [sum(getattr(op, what) for op in stem((w,)) + block((w, d, k))) for what in ("macs", "params")]
        for w, d, k in genomes
    ]
    assert index.total(costs, genomes).tolist() == expected
    assert index.total(costs[:, 0], genomes).tolist() == [row[0] for row in expected]


def test_configurations_are_in_table_order(index: SiteIndex) -> None:
    assert index.size == 3 + 12
    rows = index.configurations(1)
    for row, choices in enumerate(rows):
        assert index.ops(1, row) == block(tuple(int(c) for c in choices))
        genome = np.array([choices], dtype=np.int16)
        assert index.index(genome)[0, 1] == 3 + row


def test_total_over_many_rows_equals_row_by_row(index: SiteIndex) -> None:
    genomes = table().sample(20_000, np.random.default_rng(0))
    costs = np.random.default_rng(1).random(index.size)
    whole = index.total(costs, genomes)
    for row in (0, 8191, 8192, 19_999):
        assert whole[row] == pytest.approx(costs[index.index(genomes[row : row + 1])[0]].sum(), rel=1e-12)


def test_site_with_too_many_configurations_is_refused() -> None:
    genes = GeneTable([Gene(f"g{i}", tuple(range(100))) for i in range(4)])
    with pytest.raises(SpaceError, match=r"site 'all' has 100000000 configurations"):
        SiteIndex(genes, [Site("all", (0, 1, 2, 3), lambda _: ())])
