"""Conformance kit for supernets; needs neither hypothesis nor a runtime, so that it runs on a bare GPU machine."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.elastic.layers import ElasticConv2d, ElasticLinear

__all__ = ["SupernetKit", "architectures", "by_key"]


def by_key(space, n=24):
    """Random genomes, and all that differ from one of them in one gene, grouped by key; at most 64 of them."""
    some = space.sample(n, np.random.default_rng(11))
    genomes = np.unique(np.concatenate([some, space.neighbors(some[0])[: 64 - n]]), axis=0)
    _, group = np.unique(space.keys(genomes), axis=0, return_inverse=True)
    return [genomes[group.ravel() == number] for number in range(group.max() + 1)]


def architectures(space, n=6):
    genomes = np.concatenate(
        [space.smallest()[None], space.largest()[None], space.sample(n - 2, np.random.default_rng(7))]
    )
    return genomes, [space.decode(genome) for genome in genomes]


class SupernetKit:
    """What holds for every supernet."""

    @pytest.fixture
    def supernet(self, space):
        return space.supernet(seed=0)

    def test_extract_equals_the_supernet_in_both_modes(self, space, supernet):
        inputs = space.example_inputs(6)
        _randomise(supernet)
        for architecture in architectures(space)[1]:
            for training in (False, True):
                supernet.train(training)
                network = supernet.extract(architecture)
                assert network.training is training
                torch.testing.assert_close(network(*inputs), supernet(*inputs, architecture), atol=1e-5, rtol=1e-5)

    @pytest.mark.gpu
    def test_extract_equals_the_supernet_on_cuda(self, space, supernet):
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        _randomise(supernet)
        there = copy.deepcopy(supernet).to("cuda")
        inputs = tuple(tensor.to("cuda") for tensor in space.example_inputs(6))
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for architecture in architectures(space)[1]:
                for training in (False, True):
                    network = there.train(training).extract(architecture)
                    torch.testing.assert_close(network(*inputs), there(*inputs, architecture), atol=1e-5, rtol=1e-5)

    def test_equal_keys_mean_equal_outputs_under_tied_weights(self, space, supernet):
        inputs = space.example_inputs(4)
        _randomise(supernet)
        supernet.train()
        for group in by_key(space):
            outputs = [supernet(*inputs, space.decode(genome)) for genome in group[:3]]
            for output in outputs[1:]:
                torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=1e-5)

    def test_extract_owns_its_weights(self, space, supernet):
        architecture = space.decode(space.largest())
        network = supernet.extract(architecture)
        shared = {parameter.untyped_storage().data_ptr() for parameter in supernet.parameters()}
        assert shared.isdisjoint(parameter.untyped_storage().data_ptr() for parameter in network.parameters())

    def test_forward_uses_views_of_the_shared_weights(self, space, supernet, monkeypatch):
        storages = {parameter.untyped_storage().data_ptr() for parameter in supernet.parameters()}
        used = []
        for name in ("conv2d", "linear"):
            original = getattr(torch.nn.functional, name)

            def spy(x, weight, *rest, original=original, **options):
                used.append(weight)
                return original(x, weight, *rest, **options)

            monkeypatch.setattr(torch.nn.functional, name, spy)
        for architecture in architectures(space)[1]:
            supernet(*space.example_inputs(2), architecture)
        layers = [module for module in supernet.modules() if isinstance(module, ElasticConv2d | ElasticLinear)]
        assert len(used) >= len(layers)
        assert all(weight.untyped_storage().data_ptr() in storages for weight in used)

    def test_supernet_holds_no_more_than_the_largest_of_every_layer(self, space, supernet):
        needed = {}
        for architecture in architectures(space, 202)[1]:
            for op in space.ops(architecture):
                for name, shape in op.weights:
                    before = needed.get(f"{op.name}.{name}", shape)
                    needed[f"{op.name}.{name}"] = tuple(max(pair) for pair in zip(before, shape, strict=True))
        assert {name: tuple(parameter.shape) for name, parameter in supernet.named_parameters()} == needed

    def test_gradient_reaches_the_chosen_weights_only(self, space, supernet):
        architecture = space.decode(space.smallest())
        supernet.train()
        supernet(*space.example_inputs(4), architecture).square().sum().backward()
        touched = {name for name, p in supernet.named_parameters() if p.grad is not None}
        assert touched == {name for name, _ in supernet.extract(architecture).named_parameters()}

    def test_calibrate_one_batch_makes_evaluation_equal_training(self, space, supernet):
        architecture = architectures(space)[1][2]
        inputs = space.example_inputs(16)
        supernet.calibrate(architecture, [inputs])
        torch.testing.assert_close(
            supernet.eval()(*inputs, architecture), supernet.train()(*inputs, architecture), atol=1e-4, rtol=1e-4
        )

    def test_calibrate_twice_gives_the_same_statistics_and_leaves_weights_and_mode(self, space, supernet):
        if not any(True for _ in supernet.batch_norms()):
            assert supernet.statistics() == {}
            return
        architecture, other = architectures(space)[1][2:4]
        (x,) = space.example_inputs(24)
        weights = {name: p.detach().clone() for name, p in supernet.named_parameters()}
        supernet.train()
        supernet.calibrate(architecture, x.split((16, 8)))
        first = supernet.statistics()
        supernet.calibrate(other, x.split(8))
        changed = supernet.statistics()
        assert any(not torch.equal(first[name], changed[name]) for name in first)
        supernet.calibrate(architecture, x.split((16, 8)))
        again = supernet.statistics()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert all(torch.equal(weights[name], p) for name, p in supernet.named_parameters())
        assert all(module.training for module in supernet.modules())

    def test_statistics_restored_give_the_same_outputs(self, space, supernet):
        if not any(True for _ in supernet.batch_norms()):
            assert supernet.statistics() == {}
            return
        architecture, other = architectures(space)[1][2:4]
        (x,) = space.example_inputs(8)
        supernet.calibrate(architecture, [x])
        kept, expected = supernet.statistics(), supernet.eval()(x, architecture)
        supernet.calibrate(other, [x])
        supernet.load_statistics(kept)
        assert torch.equal(supernet(x, architecture), expected)
        kept.popitem()
        with pytest.raises(SpaceError, match="names that only one has"):
            supernet.load_statistics(kept)

    def test_calibrate_without_batches_is_refused(self, space, supernet):
        with pytest.raises(SpaceError, match="no batch"):
            supernet.calibrate(space.decode(space.largest()), [])

    def test_foreign_architecture_is_refused(self, space, supernet):
        own = space.decode(space.largest())
        foreign = type(own)(space="elsewhere-0", genome=own.genome, choices=own.choices, key=own.key)
        with pytest.raises(SpaceError, match="elsewhere-0"):
            supernet(*space.example_inputs(1), foreign)


@torch.no_grad()
def _randomise(module):
    """Give norms something to do: random affine weights and statistics."""
    generator = torch.Generator().manual_seed(1)
    kinds = torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.LayerNorm | torch.nn.RMSNorm
    for norm in (layer for layer in module.modules() if isinstance(layer, kinds)):
        for tensor in norm.state_dict(keep_vars=True).values():
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
