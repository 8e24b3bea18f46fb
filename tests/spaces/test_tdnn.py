from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from contracts.space_kit import NetworkKit, SpaceKit, SupernetKit

from archsmith.errors import SpaceError
from archsmith.spaces.elastic.temporal import ElasticConv1d
from archsmith.spaces.families.tdnn import PRESETS, TdnnSpace
from archsmith.spaces.layers.materialise import initialise
from archsmith.spaces.layers.temporal import StatisticsPool
from archsmith.spaces.onnx_graph import onnx_model
from archsmith.spaces.op import total_macs, total_params

TINY = PRESETS["tiny"]


class TestTinyTdnn(SpaceKit, NetworkKit, SupernetKit):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return TdnnSpace(TINY, preset="tiny")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def conv(kernel=5, transformed=(1, 3, 5)):
    layer = ElasticConv1d(4, 6, kernel, dilation=2, transformed=transformed)
    with torch.no_grad():
        for transform in layer.transforms.values():
            transform.fill(torch.Generator())
    return layer


def test_size_is_that_of_the_released_spaces():
    """Fine: 49 widths and 3 kernels of five layers, 145 of the joined features; "approximate 10^13", says the paper."""
    fine, coarse = (TdnnSpace(PRESETS[name], preset=name) for name in ("published", "coarse"))
    assert fine.size == 49 * 3 * 145 * sum((49 * 3) ** depth for depth in (2, 3, 4)) == 10_021_183_582_095
    assert coarse.size == 5 * 3 * 5 * sum((5 * 3) ** depth for depth in (2, 3, 4))


@pytest.mark.parametrize("preset", ["published", "coarse"])
def test_smallest_and_largest_network_cost_what_the_authors_state(preset):
    """`tutorials/EfficientTDNN/TDNN-NAS.ipynb` of https://github.com/mechanicalsea/sugar.

    It states 443.97 K to 7.55 M parameters, and 83.47 M to 1.93 G multiply-accumulates for 300 frames, counting two for
    every output of a batch norm.
    """
    space = TdnnSpace(PRESETS[preset], preset=preset)
    ends = np.stack([space.smallest(), space.largest()])
    for genome, params, macs in zip(ends, (443_968, 7_550_528), (83.47e6, 1.93e9), strict=True):
        ops = space.ops(space.decode(genome))
        norms = sum(2 * op.output.numel for op in ops if op.kind == "batch_norm")
        assert total_params(ops) == params
        assert total_macs(ops) + norms == pytest.approx(macs, rel=1e-3)


def test_tables_of_the_published_space_are_small():
    """Pieces of a block are sites of their own; a whole block with 49 x 49 widths would have 21,609 entries."""
    index = TdnnSpace(PRESETS["published"]).site_index
    assert index.size < 70_000
    assert index.counts.max() == 49 * 3 * 145


def test_sums_of_all_earlier_outputs_are_added():
    space = TdnnSpace(dataclasses.replace(TINY, depths=(3,)))
    network = space.network(space.decode(space.largest()), seed=0).eval()
    (x,) = space.example_inputs(2)
    seen = {}
    network.aggregate.register_forward_hook(lambda _m, inputs, _y: seen.__setitem__("joined", inputs[0]))
    with torch.no_grad():
        network(x)
        stem = network.stem(x)
        first = network.blocks[0](stem) + stem
        second = network.blocks[1](first) + stem + first
        third = network.blocks[2](second) + stem + first + second
    torch.testing.assert_close(seen["joined"], torch.cat((first, second, third), dim=1))


def test_narrow_blocks_keep_the_first_channels_of_every_group():
    space = TdnnSpace(TINY)
    supernet = space.supernet(seed=0)
    network = supernet.extract(space.architecture({"depth": 1, "blocks.0.hidden": 4, "features": 8}))
    kept = [0, 2, 4, 6]
    assert torch.equal(network.blocks[0].reduce.conv.weight, supernet.blocks[0].reduce.conv.weight[kept])
    assert torch.equal(network.blocks[0].expand.conv.weight, supernet.blocks[0].expand.conv.weight[:, kept])
    assert torch.equal(network.embedding.weight[:, 8:], supernet.embedding.weight[:, 12:20])


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_transforms_start_as_centre_crops(kernel):
    layer, x = conv(), random(2, 3, 11)
    start = (5 - kernel) // 2
    expected = F.conv1d(
        x, layer.weight[:5, :3, start : start + kernel], padding=kernel - 1 if kernel > 1 else 0, dilation=2
    )
    torch.testing.assert_close(layer(x, 5, kernel), expected)


def test_kernel_of_one_is_a_pointwise_convolution_with_the_transformed_centre_tap():
    layer, x = conv(), random(2, 4, 11)
    with torch.no_grad():
        for seed, transform in enumerate(layer.transforms.values()):
            transform.weight.copy_(random(*transform.weight.shape, seed=seed))
    three = layer.weight[:, :, 1:4] @ layer.transforms["3"].weight
    one = three[:, :, 1:2] @ layer.transforms["1"].weight
    torch.testing.assert_close(layer(x, 6, 1), torch.einsum("oi,nit->not", one[:, :, 0], x))


def test_extract_with_transforms_equals_the_supernet():
    space = TdnnSpace(dataclasses.replace(TINY, transform=True))
    supernet, (x,) = space.supernet(seed=0), space.example_inputs(6)
    assert "blocks.0.groups.0.conv.transforms.3.weight" in dict(supernet.named_parameters())
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if "transforms" in name:
                parameter.add_(random(*parameter.shape), alpha=0.3)
    for genome in space.sample(6, np.random.default_rng(0)):
        architecture = space.decode(genome)
        for training in (False, True):
            supernet.train(training)
            expected = supernet(x, architecture)
            torch.testing.assert_close(supernet.extract(architecture)(x), expected, atol=1e-5, rtol=1e-5)


def test_transform_is_part_of_the_identity():
    assert TdnnSpace(TINY).identity != TdnnSpace(dataclasses.replace(TINY, transform=True)).identity


def test_a_block_keeps_its_columns_when_the_trunk_is_narrow():
    space = TdnnSpace(TINY)
    supernet = space.supernet(seed=0)
    network = supernet.extract(space.architecture({"width": 6, "depth": 2, "features": 12}))
    assert torch.equal(network.aggregate.weight[:, 6:12], supernet.aggregate.weight[:, 8:14])


def test_statistics_of_equal_weights_are_mean_and_deviation():
    x = random(2, 3, 40)
    pooled = StatisticsPool()(x, torch.full_like(x, 1 / 40))
    expected = torch.cat((x.mean(2), x.std(2, correction=0)), dim=1)
    torch.testing.assert_close(pooled, expected)


def test_networks_take_any_length():
    space = TdnnSpace(TINY)
    network = space.network(space.decode(space.largest()), seed=0).eval()
    assert network(random(2, TINY.mels, 31)).shape == (2, TINY.embedding)


def test_onnx_model_of_a_network_equals_its_module():
    space = TdnnSpace(TINY)
    for genome in np.concatenate([space.largest()[None], space.sample(3, np.random.default_rng(0))]):
        architecture = space.decode(genome)
        network, (x,) = space.network(architecture, seed=0), space.example_inputs(5)
        network.train()(x)  # statistics that are not at rest
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        model = onnx_model(space.ops(architecture), state, dynamic_batch=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            want = network.eval()(x)
        np.testing.assert_allclose(session.run(None, {"mels": x.numpy()})[0], want, atol=1e-5, rtol=1e-4)


def test_golden_costs_of_the_largest_network():
    """By hand: every convolution of the largest network of the tiny preset."""
    space = TdnnSpace(TINY)
    ops = space.ops(space.decode(space.largest()))
    frames, group = 17, 2 * 2 * 5
    block = 8 * 8 + 3 * group + 8 * 8
    macs = frames * (10 * 8 * 5 + 2 * block + 16 * 12 + 2 * 12 * 4) + 2 * (2 * 8 * 2) + 24 * 6
    assert total_macs(ops) == macs
    weights = 10 * 8 * 5 + 2 * (block + 2 * 8 * 2) + 16 * 12 + 2 * 12 * 4 + 24 * 6
    biases = 2 * (2 + 8) + 6
    norms = 2 * (8 + 2 * (8 + 3 * 2 + 8) + 24 + 6)
    assert total_params(ops) == weights + biases + norms


@pytest.mark.parametrize(("change", "message"), [
    ({"mels": 0}, "mels is 0"),
    ({"kernels": (2, 3)}, "kernel 2 is even"),
    ({"depths": (0, 1)}, "at least 1 block"),
    ({"hidden": (4, 6)}, "6 hidden channels do not divide into 4"),
    ({"widths": (3, 8)}, "width 3 leaves no channel"),
])  # fmt: skip
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        TdnnSpace(dataclasses.replace(TINY, **change))


def test_initialise_is_repeatable_with_transforms():
    space = TdnnSpace(dataclasses.replace(TINY, transform=True))
    first, again = (space.supernet(seed=3) for _ in range(2))
    initialise(again, 3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
