"""Bytes moved at a data type, and the intensity that weighs them."""

from __future__ import annotations

import pytest

from archsmith.hwmodels.traffic import bytes_moved, fused, traffic, weighted_intensity
from archsmith.spaces.op import Tensor, make_op, total_macs


def _conv_norm_act():
    conv = make_op("conv", "conv2d", Tensor("x", (2, 4, 4)), out_channels=3, kernel=1)
    norm = make_op("norm", "batch_norm", conv.output)
    return (conv, norm, make_op("act", "activation", norm.output, function="relu"))


def test_fused_ops_move_weights_only():
    ops = _conv_norm_act()
    assert fused(ops) == (False, True, True)
    # input 2*16, output 3*16, weights 6, norm 6 floats
    assert bytes_moved(ops) == 4 * (32 + 48 + 6 + 6)
    assert fused(ops[2:]) == (False,)


@pytest.mark.parametrize(("data_type", "size"), [("float32", 4), ("bfloat16", 2), ("int16", 2), ("int8", 1)])
def test_bytes_follow_the_data_type_but_indices_do_not(data_type, size):
    ops = _conv_norm_act()
    assert bytes_moved(ops, data_type) == size * (32 + 48 + 6 + 6)
    embedding = make_op("embedding", "embedding", Tensor("tokens", (4,), dtype="int64"), vocabulary=16, features=8)
    moved = traffic((embedding,), data_type)
    # Four indices of 8 bytes and four rows of 8 values written; of the table, the rows that are looked up are read.
    assert (moved.activation_bytes, moved.weight_bytes) == (32 + 32 * size, 32 * size)


def test_weighted_intensity_is_plain_at_one_half_and_sees_one_kind_at_the_ends():
    ops = _conv_norm_act()
    macs = total_macs(ops)
    assert weighted_intensity(ops) == pytest.approx(macs / bytes_moved(ops))
    assert weighted_intensity(ops, weight_share=1.0) == pytest.approx(macs / (2 * 4 * 12))
    assert weighted_intensity(ops, weight_share=0.0, data_type="int8") == pytest.approx(macs / (2 * 80))
    with pytest.raises(ValueError, match="weight_share: got 2; allowed: 0 to 1"):
        weighted_intensity(ops, weight_share=2)
