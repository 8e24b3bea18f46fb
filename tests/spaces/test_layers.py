from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archsmith.errors import SpaceError
from archsmith.spaces.layers.activation import MODULES, make_activation
from archsmith.spaces.layers.channels import make_divisible
from archsmith.spaces.layers.conv_norm import ConvNorm, ConvNormSpec
from archsmith.spaces.layers.inverted_bottleneck import (
    InvertedBottleneck,
    InvertedBottleneckSpec,
    inverted_bottleneck_ops,
)
from archsmith.spaces.layers.materialise import allocate, initialise
from archsmith.spaces.op import ACTIVATIONS, Tensor, total_params


@given(channels=st.floats(0.5, 5000), divisor=st.integers(1, 32))
def test_make_divisible_is_a_close_multiple(channels, divisor):
    rounded = make_divisible(channels, divisor)
    assert rounded % divisor == 0
    assert rounded >= divisor
    assert rounded >= 0.9 * channels
    assert rounded <= max(divisor, channels + divisor)


@given(a=st.floats(0.5, 5000), b=st.floats(0.5, 5000), divisor=st.integers(1, 32))
def test_make_divisible_never_decreases(a, b, divisor):
    assert make_divisible(min(a, b), divisor) <= make_divisible(max(a, b), divisor)


def test_activations_cover_the_ops_functions():
    assert set(MODULES) == ACTIVATIONS
    with pytest.raises(SpaceError, match=r"'swishy' is unknown; allowed: .*silu"):
        make_activation("swishy")


@pytest.mark.parametrize("squeezed", [0, 8])
@pytest.mark.parametrize(("stride", "out_channels", "residual"), [(1, 8, True), (2, 8, False), (1, 16, False)])
def test_inverted_bottleneck_has_a_residual_only_where_shapes_match(stride, out_channels, residual, squeezed):
    spec = InvertedBottleneckSpec(
        in_channels=8, hidden=24, out_channels=out_channels, kernel=5, stride=stride, activation="relu",
        squeezed=squeezed,
    )  # fmt: skip
    block = InvertedBottleneck(spec)
    ops = inverted_bottleneck_ops("block", Tensor("x", (8, 7, 7)), spec)
    assert spec.residual is residual
    assert (ops[-1].kind == "add") is residual
    assert any(op.kind == "mul" for op in ops) is bool(squeezed)
    assert block(torch.zeros(2, 8, 7, 7)).shape == (2, *ops[-1].output.shape)
    assert sum(p.numel() for p in block.parameters()) == total_params(ops)


def test_initialise_scales_by_fan_and_repeats():
    def build():
        return torch.nn.Sequential(torch.nn.Conv2d(16, 64, 3), torch.nn.BatchNorm2d(64), torch.nn.Linear(400, 50))

    first, again = allocate(build), allocate(build)
    initialise(first, 5)
    initialise(again, 5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    conv, norm, linear = first
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert linear.weight.std().item() == pytest.approx(400**-0.5, rel=0.05)
    assert not conv.bias.any()
    assert torch.equal(norm.running_var, torch.ones(64))


def test_initialise_without_seed_differs_each_time():
    first, second = (allocate(lambda: torch.nn.Linear(20, 20)) for _ in range(2))
    initialise(first)
    initialise(second)
    assert not torch.equal(first.weight, second.weight)


def test_initialise_unknown_layer_is_refused():
    with pytest.raises(SpaceError, match="'0' of type PReLU"):
        initialise(torch.nn.Sequential(torch.nn.PReLU()), 0)


def test_allocate_lays_convolutions_out_channels_last_and_outputs_follow():
    conv = allocate(lambda: torch.nn.Conv2d(4, 8, 3))
    initialise(conv, 0)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert conv(torch.zeros(2, 4, 7, 7)).is_contiguous(memory_format=torch.channels_last)


def test_strided_pointwise_convolution_of_few_channels_trains_on_large_images():
    """Its plain form ends the process in oneDNN's backward pass; both compute the same."""
    spec = ConvNormSpec(in_channels=13, out_channels=24, stride=2)
    layer = ConvNorm(spec).to(memory_format=torch.channels_last)
    x = torch.randn(2, 13, 112, 112, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = layer.conv(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y, torch.nn.functional.conv2d(x, layer.conv.weight, stride=2))
    for _ in range(3):
        layer(x.to(memory_format=torch.channels_last)).square().sum().backward()
    assert x.grad is not None
    assert not x.grad[:, :, 1::2].any()
