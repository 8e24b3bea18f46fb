from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.nas_bench_201 import PRESETS, NasBench201Space, NasBench201Spec
from archsmith.spaces.families.nas_bench_201_cells import CHOICES, EDGES, all_cells
from archsmith.spaces.op import op_signature, total_macs, total_params

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nb201.npz"
NONE, SKIP, CONV1, CONV3, POOL = range(5)


@pytest.fixture(scope="module")
def tiny():
    return NasBench201Space(PRESETS["tiny"], preset="tiny")


def expression(cell):
    """What a cell computes, written out: a second implementation of its key, by nested sorted tuples."""
    nodes = [(("x",),)]
    for target in (1, 2, 3):
        terms = []
        for gene, (source, end) in enumerate(EDGES):
            choice = cell[gene]
            if end != target or choice == NONE or not nodes[source]:
                continue
            value = nodes[source]
            if choice == SKIP:
                terms.extend(value)
            else:
                terms.append((CHOICES[choice], -1 if choice == POOL else gene, value))
        nodes.append(tuple(sorted(terms, key=repr)))
    return nodes[-1]


def test_keys_are_equal_exactly_where_the_written_out_computations_are(tiny):
    cells = all_cells()
    numbers = {}
    expected = [numbers.setdefault(expression(cell), len(numbers)) for cell in cells.tolist()]
    _, found = np.unique(tiny.key_form(cells), axis=0, return_inverse=True)
    assert len({*zip(expected, found.tolist(), strict=True)}) == len(numbers) == len(set(found.tolist())) == 7810


def test_representative_is_its_own_and_has_no_more_edges(tiny):
    cells = all_cells()
    forms = tiny.key_form(cells)
    assert np.array_equal(tiny.key_form(forms), forms)
    assert ((forms != NONE).sum(axis=1) <= (cells != NONE).sum(axis=1)).all()


def test_topologies_of_all_strings_are_the_published_number(tiny):
    assert len(np.unique(tiny.topology_keys(all_cells()), axis=0)) == 6466


@pytest.mark.parametrize(
    ("cell", "same"),
    [
        ([SKIP, NONE, NONE, NONE, POOL, NONE], [POOL, NONE, NONE, NONE, SKIP, NONE]),
        ([SKIP, NONE, NONE, NONE, CONV3, NONE], [SKIP, CONV1, NONE, NONE, CONV3, NONE]),  # node 2 leads nowhere
        ([NONE, NONE, CONV3, NONE, CONV3, CONV1], [NONE] * 6),
        ([SKIP, SKIP, NONE, SKIP, CONV3, NONE], [SKIP, NONE, NONE, SKIP, CONV3, NONE]),
    ],
)
def test_dead_parts_and_skips_do_not_change_the_key(tiny, cell, same):
    keys = tiny.keys(np.array([cell, same], dtype=np.int16))
    assert np.array_equal(keys[0], keys[1])


def test_same_operation_with_other_weights_changes_the_key_but_not_the_topology(tiny):
    pair = np.array([[SKIP, NONE, NONE, NONE, CONV3, NONE], [CONV3, NONE, NONE, NONE, SKIP, NONE]], dtype=np.int16)
    assert not np.array_equal(*tiny.keys(pair))
    assert np.array_equal(*tiny.topology_keys(pair))


def raw_output(supernet, cell, x):
    """The network run from the genome itself, edge by edge, nothing pruned but what reads nothing."""
    space = supernet.space
    x = supernet.stem(x)
    for stage in range(space.spec.stages):
        if stage:
            x = supernet.reductions[stage - 1](x)
        for block in supernet.stages[stage]:
            nodes = [x, None, None, None]
            for gene, (source, target) in enumerate(EDGES):
                choice = CHOICES[cell[gene]]
                if choice == "none" or nodes[source] is None:
                    continue
                y = nodes[source]
                if choice != "skip_connect":
                    y = block.edges[f"{source}-{target}"][choice](y)
                nodes[target] = y if nodes[target] is None else nodes[target] + y
            x = torch.zeros_like(x) if nodes[3] is None else nodes[3]
    return supernet.tail(x)


def test_equal_keys_give_equal_outputs_and_ops_and_different_outputs_different_keys(tiny):
    rng = np.random.default_rng(0)
    supernet, (x,) = tiny.supernet(seed=0).train(), tiny.example_inputs(4)
    cells = all_cells()[rng.integers(0, len(all_cells()), 250)]
    keys = [tuple(key) for key in tiny.keys(cells).tolist()]
    outputs, seen = {}, {}
    with torch.no_grad():
        for cell, key in zip(cells, keys, strict=True):
            architecture = tiny.decode(cell)
            y = raw_output(supernet, cell, x)
            torch.testing.assert_close(supernet(x, architecture), y, atol=1e-4, rtol=1e-4)
            ops = tiny.ops(architecture)
            assert seen.setdefault(key, ops) == ops
            outputs.setdefault(key, y)
    assert len(outputs) < len(cells)
    values = list(outputs.values())
    differing = sum(not torch.allclose(a, b, atol=1e-6) for i, a in enumerate(values) for b in values[:i])
    assert differing == len(values) * (len(values) - 1) // 2


def test_keys_are_the_same_in_every_version(tiny):
    assert tiny.key_form(np.array([[SKIP, CONV1, POOL, NONE, CONV3, NONE]], dtype=np.int16)).tolist() == [
        [SKIP, NONE, NONE, NONE, CONV3, NONE]
    ]


def test_topology_keys_are_the_same_in_every_version(tiny):
    cells = np.array([[SKIP, CONV1, POOL, NONE, CONV3, NONE], [CONV3] * 6], dtype=np.int16)
    assert tiny.topology_keys(cells).tolist() == [
        [5920162237182901496, 598748529500956618],
        [13844020875725361654, 9930497520915782209],
    ]


def test_costs_of_all_cells_equal_their_ops(tiny):
    cells = all_cells()
    rows = np.random.default_rng(1).integers(0, len(cells), 60)
    ops = [tiny.ops(tiny.decode(cell)) for cell in cells[rows]]
    assert tiny.macs(cells)[rows].tolist() == [total_macs(made) for made in ops]
    assert tiny.params(cells)[rows].tolist() == [total_params(made) for made in ops]


@pytest.mark.data
def test_costs_equal_the_published_table():
    """Parameters exactly; MACs but for rounding and biases."""
    if not TABLE.exists():
        pytest.skip(f"needs {TABLE}")
    with np.load(TABLE) as data:
        cells, params_m, macs_m = data["ops"].astype(np.int16), data["params_m"], data["macs_m"]
        assert data["op_names"].tolist() == list(CHOICES)
    space = NasBench201Space(PRESETS["cifar10"], preset="cifar10")
    kept = space.key_form(cells)

    def convolutions(genomes):
        return np.stack([(genomes == choice).sum(axis=1) for choice in (CONV1, CONV3)], axis=1)

    # The published networks keep the weights of edges that lead nowhere; ours do not build them.
    dead = convolutions(cells) - convolutions(kept)
    one = np.array([[NONE, NONE, NONE, choice, NONE, NONE] for choice in (NONE, CONV1, CONV3)], dtype=np.int16)
    params, macs = space.params(one), space.macs(one)
    params_all = space.params(cells) + dead @ (params[1:] - params[0])
    assert np.array_equal(params_all, np.rint(params_m.astype(np.float64) * 1e6).astype(np.int64))
    macs_all = space.macs(cells) + dead @ (macs[1:] - macs[0])
    # Rounded to 10 MACs and to float32 there, and the classifier's ten biases are counted.
    assert np.abs(macs_m.astype(np.float64) * 1e6 - macs_all - 10).max() <= 13
    assert (dead.sum(axis=1) == 0).mean() > 0.7


def test_pickled_space_is_the_same_space(tiny):
    assert tiny.site_index.size > 0  # compiled tables must not travel
    assert pickle.loads(pickle.dumps(tiny)).identity == tiny.identity


def test_cell_of_skips_alone_has_no_ops_of_its_own(tiny):
    ops = tiny.ops(tiny.decode(np.array([NONE, NONE, NONE, SKIP, NONE, NONE], dtype=np.int16)))
    assert not [op for op in ops if op.name.startswith("stages.")]
    assert op_signature(ops)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": 0}, "channels is 0"), ({"resolution": 10, "stages": 3}, "cannot be halved 2 times")],
)
def test_wrong_spec_says_what_is_allowed(options, message):
    with pytest.raises(SpaceError, match=message):
        NasBench201Spec(**options)
