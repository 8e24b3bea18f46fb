from __future__ import annotations

import pytest

from archsmith import spaces
from archsmith.errors import DeviceError
from archsmith.hwmodels.fusion import FusionRules, chain_of, empty_kernel, find_chains, is_fused, label
from archsmith.spaces.op import Tensor, make_op

IMAGE = Tensor("x", (8, 6, 6))


def conv(name, source, **attributes):
    return make_op(name, "conv2d", source, **{"out_channels": 8, "kernel": 1} | attributes)


def relu(name, source):
    return make_op(name, "activation", source, function="relu")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, "conv2d"),
        ({"groups": 2}, "conv2d:grouped"),
        ({"groups": 8}, "conv2d:depthwise"),
    ],
)
def test_label_tells_implementations_apart(attributes, expected):
    assert label(conv("c", IMAGE, **attributes)) == expected


def test_kernels_partition_the_ops_in_order(tiny):
    rules = FusionRules(chains=frozenset({("conv2d", "batch_norm"), ("conv2d", "batch_norm", "activation:relu")}))
    ops = tiny.ops(tiny.decode(tiny.largest()))
    kernels = rules.kernels(ops)
    assert sorted(op.name for kernel in kernels for op in kernel) == sorted(op.name for op in ops)
    assert all(len(kernel) == 1 or chain_of(kernel) in rules.chains for kernel in kernels)
    assert any(len(kernel) == 3 for kernel in kernels)
    assert FusionRules(chains=frozenset()).kernels(ops) == tuple((op,) for op in ops)


def test_op_with_two_consumers_is_not_fused():
    first = conv("c", IMAGE)
    act = relu("r", first.output)
    both = make_op("a", "add", (first.output, act.output))
    rules = FusionRules(
        chains=frozenset({("conv2d", "activation:relu"), ("conv2d", "add"), ("activation:relu", "add")})
    )
    assert [chain_of(kernel) for kernel in rules.kernels((first, act, both))] == [
        ("conv2d",), ("activation:relu", "add")
    ]  # fmt: skip


def test_chains_grow_only_from_kernels_and_never_join_two_ops_with_macs():
    first = conv("c", IMAGE)
    act = relu("r", first.output)
    second = conv("d", act.output)
    last = relu("s", second.output)
    none = find_chains([(first, act, second, last)], FusionRules(chains=frozenset()))
    assert set(none) == {("conv2d", "activation:relu")}
    assert len(none[("conv2d", "activation:relu")]) == 1  # both examples compute the same
    known = FusionRules(chains=frozenset({("conv2d", "activation:relu")}))
    assert find_chains([(first, act, second, last)], known) == {}


@pytest.mark.parametrize(
    ("whole", "first", "last", "expected"),
    [
        (1.01, 1.01, 0.31, True),  # the last part vanishes
        (1.31, 1.01, 0.31, False),  # parts add up
        (1.17, 1.01, 0.31, False),  # half of it is saved, not more
        (2.01, 1.01, 0.31, True),  # together they are slower
        (1.50, 1.01, 0.015, True),  # too small to be measured
        (0.0302, 0.0301, 0.0109, True),
    ],
)
def test_fusion_rule_golden_values(whole, first, last, expected):
    assert is_fused([whole], [first], [last], 0.01) is expected


def test_one_disturbed_example_of_three_does_not_decide():
    assert is_fused([1.0, 1.0, 3.0], [1.0, 1.0, 1.0], [0.3, 0.3, 0.3], 0.0)
    assert not is_fused([1.3, 1.3, 1.0], [1.0, 1.0, 1.0], [0.3, 0.3, 0.3], 0.0)


def test_fusion_test_without_examples_is_an_error():
    with pytest.raises(DeviceError, match=r"got 1, 0 and 1 times; one of each"):
        is_fused([1.0], [], [1.0], 0.0)


def test_rules_survive_json():
    rules = FusionRules(chains=frozenset({("conv2d", "batch_norm"), ("linear", "activation:gelu")}))
    assert FusionRules.from_json(rules.to_json()) == rules


def test_every_chain_of_a_transformer_is_a_runnable_subgraph():
    onnxruntime = pytest.importorskip("onnxruntime")
    from archsmith.spaces.onnx_graph import onnx_model

    space = spaces.get("vit", "tiny")
    found = find_chains([space.ops(space.decode(space.largest()))], FusionRules(chains=frozenset()))
    assert found
    for examples in [*found.values(), [empty_kernel()]]:
        model = onnx_model(examples[0]).SerializeToString()
        assert onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_outputs()
