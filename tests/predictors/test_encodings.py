from __future__ import annotations

import itertools

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import PredictorError, SpaceError
from archsmith.predictors.cells import ABSENT, IDENTITY, cells, path_counts, path_names
from archsmith.predictors.encodings import KINDS, available, encode, encoding, graph_layout
from archsmith.predictors.features import Features, kernel_blocks
from archsmith.predictors.representatives import representatives
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.space import GeneSpace

CELLS = ("darts", "nas_bench_101", "nas_bench_201")
SPACES = (*CELLS, "hierarchical", "mobilenet", "nas_bench_macro", "ofa_mobilenetv3", "vit")


def tiny(name):
    return spaces.get(name, "tiny")


@pytest.fixture
def conditional():
    """Two genes of equal values, one of which is only there at depth 2."""
    return GeneSpace(
        [
            Gene("depth", (1, 2, 3), kind="ordered"),
            Gene("op.0", ("conv", "pool")),
            Gene("op.1", ("conv", "pool"), when=(When("depth", (2, 3)),)),
        ],
        name="toy",
    )


def twin_nodes(space, rng):
    """DARTS genomes whose first two nodes are one value, so that reading either is the same computation."""
    genomes = np.tile(space.largest(), (400, 1))
    light = [space.spec.choices.index(name) for name in ("max_pool_3x3", "skip_connect")]
    for node in range(4):
        for letter in "ab":
            genomes[:, space.table.find(f"normal.{node}.{letter}")] = rng.choice(light, len(genomes))
    for letter in "ab":
        first, second = (space.table.find(f"normal.{node}.{letter}") for node in (0, 1))
        genomes[:, second] = genomes[:, first]
    genomes[:, space.table.find("normal.2.inputs")] = rng.integers(0, 6, len(genomes))
    return genomes


@pytest.mark.parametrize("name", SPACES)
def test_every_encoding_is_finite_named_and_a_function_of_the_genome(name):
    space = tiny(name)
    genomes = space.sample(16, np.random.default_rng(0))
    kinds = available(space)
    assert {"one_hot", "genes", "adjacency"} <= set(kinds) <= set(KINDS)
    for kind in kinds:
        what = encoding(space, kind)
        columns = encode(space, genomes, kind)
        assert columns.dtype == np.float64
        assert columns.shape == (16, len(what.names)) == (16, len(what.groups))
        assert len(set(what.names)) == len(what.names)
        assert np.isfinite(columns).all()
        # One row alone, or among others in another order: the same numbers.
        np.testing.assert_array_equal(encode(space, genomes[7:8], kind)[0], columns[7])
        np.testing.assert_array_equal(encode(space, genomes[::-1], kind)[::-1], columns)
        assert encode(space, genomes[:0], kind).shape == (0, columns.shape[1])


@pytest.mark.parametrize("name", CELLS)
def test_architectures_of_equal_keys_have_equal_encodings(name):
    space = tiny(name)
    rng = np.random.default_rng(0)
    if name == "darts":
        genomes = twin_nodes(space, rng)
    else:  # mutations of few parents: many of them change what is dead
        genomes = np.repeat(space.sample(20, rng), 60, axis=0)
        genomes = np.concatenate([genomes, space.mutate(genomes, rng)])
    _, first, number = np.unique(space.keys(genomes), axis=0, return_index=True, return_inverse=True)
    alike = genomes[first][number.ravel()]
    assert (alike != genomes).any(axis=1).sum() > 20
    for kind in ("path", "adjacency", "counts"):
        np.testing.assert_array_equal(encode(space, alike, kind), encode(space, genomes, kind), err_msg=kind)
    if name != "darts":  # whose key form is not a genome
        for kind in ("one_hot", "genes"):
            np.testing.assert_array_equal(encode(space, alike, kind), encode(space, genomes, kind), err_msg=kind)
        np.testing.assert_array_equal(space.keys(representatives(space, genomes)), space.keys(genomes))


def test_path_counts_equal_a_walk_over_all_paths_of_the_published_cells():
    """NAS-Bench-201: four paths, skips leave no trace, `none` cuts."""
    space = tiny("nas_bench_201")
    genomes = space.sample(300, np.random.default_rng(1))
    names = list(encoding(space, "path").names)
    encoded = encode(space, genomes, "path")
    edge = {gene.name.removeprefix("edges."): position for position, gene in enumerate(space.genes)}
    walks = (("0-3",), ("0-1", "1-3"), ("0-2", "2-3"), ("0-1", "1-2", "2-3"))
    for row, genome in enumerate(space.key_form(genomes)):
        expected = np.zeros(len(names))
        for walk in walks:
            steps = [space.genes[edge[step]].values[genome[edge[step]]] for step in walk]
            if "none" not in steps:
                expected[names.index(">".join(["0", *(step for step in steps if step != "skip_connect")]))] += 1
        np.testing.assert_array_equal(encoded[row], expected)


@pytest.mark.parametrize("name", CELLS)
def test_path_counts_equal_a_search_of_the_graph(name):
    space = tiny(name)
    for cell in cells(space, space.sample(40, np.random.default_rng(2))):
        names = path_names(cell)
        longest = max(name.count(">") for name in names)
        counts = path_counts(cell)
        prefix = f"{cell.name}." if cell.name else ""
        for row in range(len(counts)):
            found = dict.fromkeys(names, 0)
            stack = [(source, (f"{prefix}{source}",)) for source in range(cell.sources)]
            while stack:
                vertex, trace = stack.pop()
                for reader in np.flatnonzero(cell.adjacency[row, vertex]):
                    label = cell.labels[row, reader]
                    step = () if label in (ABSENT, IDENTITY) else (cell.operations[label],)
                    if reader == cell.adjacency.shape[1] - 1:
                        if len(trace) - 1 <= longest:
                            found[">".join(trace)] += 1
                    else:
                        stack.append((int(reader), (*trace, *step)))
            np.testing.assert_array_equal(counts[row], list(found.values()))


def test_isomorphic_modules_share_every_encoding_of_their_cell():
    space = tiny("nas_bench_101")
    ops = ["conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3"]
    rows = []
    for order in itertools.permutations(range(3)):
        matrix = np.zeros((5, 5), dtype=int)
        for vertex in range(3):
            matrix[0, 1 + vertex] = matrix[1 + vertex, 4] = 1
        rows.append(space.encode(space.from_matrix(matrix.tolist(), [ops[index] for index in order])))
    genomes = np.stack(rows)
    assert len(np.unique(genomes, axis=0)) > 1
    for kind in ("one_hot", "genes", "path", "adjacency", "counts"):
        assert len(np.unique(encode(space, genomes, kind), axis=0)) == 1, kind


def test_inactive_genes_have_a_column_of_their_own(conditional):
    one_hot = encode(conditional, np.array([[0, 1, 0], [2, 1, 1]], dtype=np.int16), "one_hot")
    assert encoding(conditional, "one_hot").names[-3:] == ("op.1=conv", "op.1=pool", "op.1 inactive")
    assert one_hot.tolist() == [[1, 0, 0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 1, 0, 1, 0]]


def test_distances_of_genes_count_categories_and_follow_order(conditional):
    columns = encode(conditional, np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0]], dtype=np.int16), "genes")
    depth = [group == 0 for group in encoding(conditional, "genes").groups]
    squared = ((columns[:, None] - columns[None]) ** 2)[:, :, depth].sum(axis=2)
    assert squared[0, 1] == pytest.approx(0.5)
    assert squared[0, 2] == pytest.approx(1.0)
    assert ((columns[2] - columns[3]) ** 2).sum() == pytest.approx(1.0)


def test_counts_are_over_active_genes_of_equal_values(conditional):
    what = encoding(conditional, "counts")
    assert what.names == ("0=conv", "0=pool")
    conv = encode(conditional, np.array([[0, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=np.int16), "counts")[:, 0]
    assert conv[1] > conv[0] > conv[2]


def test_pairs_are_products_of_columns_of_two_genes(conditional):
    genomes = conditional.sample(20, np.random.default_rng(0))
    one_hot, names = encode(conditional, genomes, "one_hot"), encoding(conditional, "one_hot").names
    pairs = encode(conditional, genomes, "pairs")
    for column, name in enumerate(encoding(conditional, "pairs").names):
        left, right = name.split(" & ")
        np.testing.assert_array_equal(pairs[:, column], one_hot[:, names.index(left)] * one_hot[:, names.index(right)])


def test_op_statistics_rank_as_the_costs_of_the_space():
    space = tiny("mobilenet")
    genomes = space.sample(200, np.random.default_rng(0))
    names = encoding(space, "op_statistics").names
    columns = encode(space, genomes, "op_statistics")
    for what, cost in (("macs", space.macs), ("params", space.params)):
        column = columns[:, names.index(f"total {what}")]
        slope = np.polyfit(np.log1p(cost(genomes)), column, 1)
        np.testing.assert_allclose(np.polyval(slope, np.log1p(cost(genomes))), column, atol=1e-9)


def test_reference_latency_ranks_as_the_roofline_model():
    from archsmith.hwmodels.catalog import get
    from archsmith.hwmodels.roofline import RooflineModel

    space = tiny("nas_bench_macro")
    genomes = space.sample(50, np.random.default_rng(0))
    column = encode(space, genomes, "reference_latency")[:, encoding(space, "reference_latency").names.index("t4")]
    mean = RooflineModel(get("t4")).predict(space, genomes).mean
    assert np.corrcoef(column, np.log(mean))[0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("name", [*CELLS, "mobilenet"])
def test_adjacency_reads_back_as_the_layout_says(name):
    space = tiny(name)
    layout = graph_layout(space)
    columns = encode(space, space.sample(30, np.random.default_rng(0)), "adjacency")
    assert columns.shape[1] == layout.columns
    blocks = columns.reshape(30, layout.graphs, layout.vertices, layout.vertices + layout.labels)
    edges, labels = blocks[..., : layout.vertices], blocks[..., layout.vertices :]
    assert (np.tril(edges) == 0).all()  # data flows forward
    assert set(np.unique(labels.sum(axis=-1))) <= {0.0, 1.0}


def test_errors_name_what_exists(conditional):
    with pytest.raises(PredictorError, match="choose one of"):
        encode(conditional, np.zeros((1, 3), dtype=np.int16), "onehot")
    with pytest.raises(PredictorError, match="not made of cells"):
        encode(conditional, np.zeros((1, 3), dtype=np.int16), "path")
    with pytest.raises(PredictorError, match="columns"):
        encoding(spaces.get("ofa_mobilenetv3"), "pairs")
    with pytest.raises(SpaceError, match="inactive"):
        encode(conditional, np.array([[0, 0, 1]], dtype=np.int16), "one_hot")
    with pytest.raises(PredictorError, match="nothing to learn"):
        Features(GeneSpace([Gene("only", (1,))], name="fixed"))


def test_blocks_cover_every_column_of_the_features():
    features = Features(tiny("nas_bench_201"))
    covered = {column for block in kernel_blocks(features) for column in block.columns}
    assert covered == set(range(len(features.names)))
    assert [features.names[column].split(":")[0] for column in features.columns("path")] == ["path"] * len(
        features.columns("path")
    )
