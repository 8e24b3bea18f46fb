"""What an Op owns and what it reads: parameters are stored once, and moved by every Op that computes with them."""

from __future__ import annotations

import dataclasses

import pytest

from archsmith import spaces
from archsmith.hwmodels.memory import memory_use
from archsmith.hwmodels.traffic import bytes_moved
from archsmith.spaces.families.hat import PRESETS, HatSpace
from archsmith.spaces.op import Tensor, make_op, total_params

TOKENS = Tensor("tokens", (5,), "int64")


def test_most_ops_read_all_they_own():
    conv = make_op("conv", "conv2d", Tensor("x", (3, 8, 8)), out_channels=4, kernel=3, bias=True)
    linear = make_op("linear", "linear", Tensor("x", (10,)), out_features=7)
    for op, params in (
        (conv, 4 * 27 + 4),
        (linear, 77),
        (make_op("relu", "activation", conv.output, function="relu"), 0),
    ):
        assert op.weight_bytes == op.weight_bytes_read == 4 * params


def test_tied_linear_owns_nothing_and_reads_the_whole_table():
    free, tied = (
        make_op("head", "linear", Tensor("x", (5, 8)), out_features=100, bias=False, tied=owner) for owner in ("", "t")
    )
    assert (free.params, free.weight_bytes, free.weight_bytes_read) == (800, 3200, 3200)
    assert (tied.params, tied.weight_bytes, tied.weight_bytes_read) == (0, 0, 3200)
    assert tied.macs == free.macs


def test_embedding_owns_its_table_and_reads_the_rows_that_are_looked_up():
    own = make_op("table", "embedding", TOKENS, vocabulary=1000, features=8, columns=12)
    tied = make_op("other", "embedding", TOKENS, vocabulary=1000, features=6, tied="table")
    assert own.weights == (("weight", (1000, 12)),)
    assert (own.output.shape, own.weight_bytes, own.weight_bytes_read) == ((5, 8), 4 * 12000, 4 * 5 * 8)
    assert (tied.output.shape, tied.weight_bytes, tied.weight_bytes_read) == ((5, 6), 0, 4 * 5 * 6)


@pytest.mark.parametrize("name", ["decoder", "hat"])
def test_a_shared_table_is_stored_once_and_moved_by_the_head(name):
    space = spaces.get(name, "tiny")
    if name == "hat":
        space = HatSpace(dataclasses.replace(PRESETS["tiny"], source_vocabulary=50, joined=True))
    ops = space.ops(space.decode(space.largest()))
    head = next(op for op in ops if op.name == "head")
    table = head.output.shape[-1] * head.inputs[0].shape[-1]
    assert memory_use(ops).weight_bytes == 4 * total_params(ops)
    assert head.weight_bytes_read == 4 * table
    assert bytes_moved((head,)) == head.input_bytes + head.output_bytes + 4 * table


def test_relative_positions_by_hand():
    q = Tensor("q", (3, 5, 4))
    scores = make_op("scores", "relative_scores", q, features=4, reach=2)
    values = make_op("values", "relative_values", scores.output, features=4, reach=2)
    assert (scores.output.shape, values.output.shape) == ((3, 5, 5), (3, 5, 4))
    assert scores.macs == values.macs == 3 * 5 * 5 * 4
    assert scores.params == values.params == 2 * 6 * 4
