from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from archsmith.errors import SpaceError
from archsmith.spaces.elastic.layers import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear, shared_slice


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_shared_slice_takes_prefixes_and_the_centre_as_a_view():
    weight = random(8, 6, 7, 7)
    part = shared_slice(weight, (3, 2, 5, 3))
    assert torch.equal(part, weight[:3, :2, 1:6, 2:5])
    assert part.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()


@pytest.mark.parametrize("shape", [(9, 6, 7, 7), (8, 6)])
def test_shared_slice_of_an_impossible_shape_is_refused(shape):
    with pytest.raises(SpaceError, match="holds no slice"):
        shared_slice(random(8, 6, 7, 7), shape)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_shared_slice_gradient_fills_the_slice_alone_in_the_weights_layout(layout):
    weight = torch.randn(4, 3, 5, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    taken = shared_slice(shared_slice(weight, (3, 3, 3, 3)), (3, 2, 1, 1))  # a slice of a slice, too
    (gradient,) = torch.autograd.grad((taken * 2).sum(), weight)
    expected = torch.zeros_like(gradient)
    expected[:3, :2, 2, 2] = 2
    assert torch.equal(taken, weight[:3, :2, 2:3, 2:3])
    assert torch.equal(gradient, expected)
    assert shared_slice(weight, (3, 2, 3, 3)).stride() == weight.stride() == gradient.stride()


def test_shared_slice_has_second_derivatives():
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(lambda all_of_it: shared_slice(all_of_it, (2, 1, 1, 1)) ** 3, (weight,))


def test_elastic_conv_equals_a_plain_one_on_the_slice():
    layer, x = ElasticConv2d(6, 8, 5, stride=2), random(2, 4, 9, 9)
    expected = F.conv2d(x, layer.weight[:3, :4, 1:4, 1:4], layer.bias[:3], stride=2, padding=1)
    torch.testing.assert_close(layer(x, 3, 3), expected)


def test_elastic_depthwise_conv_stays_depthwise():
    layer, x = ElasticConv2d(8, 8, 5, groups=8, bias=False), random(2, 4, 9, 9)
    expected = F.conv2d(x, layer.weight[:4, :, 1:4, 1:4], padding=1, groups=4)
    torch.testing.assert_close(layer(x, 4, 3), expected)


def test_elastic_linear_reads_the_first_features():
    layer, x = ElasticLinear(8, 3), random(2, 5)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight[:, :5], layer.bias))


def test_batch_norm_training_uses_the_batch_and_stores_nothing():
    norm, x = ElasticBatchNorm2d(8).train(), random(4, 5, 3, 3)
    torch.testing.assert_close(norm(x), F.batch_norm(x, None, None, training=True))
    assert torch.equal(norm.running_mean, torch.zeros(8))
    assert torch.equal(norm.running_var, torch.ones(8))


def test_batch_norm_evaluation_uses_the_first_statistics():
    norm, x = ElasticBatchNorm2d(8).eval(), random(4, 5, 3, 3)
    with torch.no_grad():
        norm.running_mean.copy_(torch.arange(8.0))
        norm.running_var.copy_(torch.arange(1.0, 9.0))
    expected = F.batch_norm(x, torch.arange(5.0), torch.arange(1.0, 6.0))
    torch.testing.assert_close(norm(x), expected)


def test_calibration_of_one_batch_stores_its_mean_and_variance():
    norm, x = ElasticBatchNorm2d(8).eval(), 3 + 2 * random(4, 5, 3, 3)
    norm.start_calibration()
    with torch.no_grad():
        norm(x)
    norm.end_calibration()
    torch.testing.assert_close(norm.running_mean[:5], x.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var[:5], x.var((0, 2, 3), correction=0))
    assert torch.equal(norm.running_mean[5:], torch.zeros(3))


def test_calibration_weights_batches_by_their_size():
    norm, batches = ElasticBatchNorm2d(2).eval(), [random(6, 2, 3, 3, seed=1), 5 + random(2, 2, 3, 3, seed=2)]
    norm.start_calibration()
    with torch.no_grad():
        for batch in batches:
            norm(batch)
    norm.end_calibration()
    means, variances = ([f(batch) for batch in batches] for f in (_mean, _variance))
    torch.testing.assert_close(norm.running_mean, 0.75 * means[0] + 0.25 * means[1])
    torch.testing.assert_close(norm.running_var, 0.75 * variances[0] + 0.25 * variances[1])


def _mean(x):
    return x.mean((0, 2, 3))


def _variance(x):
    return x.var((0, 2, 3), correction=0)
