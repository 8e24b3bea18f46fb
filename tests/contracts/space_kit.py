"""Conformance kits for search spaces: give a class-scoped fixture `space`, inherit the tests.

`SpaceKit` needs genes only, `NetworkKit` spaces that build networks, `SupernetKit` spaces whose networks share weights.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from archsmith.errors import SpaceError
from archsmith.spaces.elastic.layers import ElasticConv2d, ElasticLinear
from archsmith.spaces.op import op_signature, total_macs, total_params

__all__ = ["NetworkKit", "SpaceKit", "SupernetKit"]

SEEDS = st.integers(0, 2**32 - 1)
# A kit runs in several classes, which hypothesis would report; spaces differ in speed, so there is no deadline.
PROPERTY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


MODULELESS = {"add", "concat", "matmul", "mul", "reshape", "rotary", "scale", "slice", "softmax", "transpose"}
"""Kinds of Ops that a network may perform without a module of their own."""


class SpaceKit:
    """What holds for every space."""

    @PROPERTY
    @given(seed=SEEDS, n=st.integers(0, 40))
    def test_sample_any_seed_is_canonical_and_repeatable(self, space, seed, n):
        genomes = space.sample(n, np.random.default_rng(seed))
        assert genomes.shape == (n, len(space.genes))
        assert genomes.dtype == np.int16
        assert np.array_equal(space.check(genomes), genomes)
        assert np.array_equal(genomes, space.sample(n, np.random.default_rng(seed)))

    @PROPERTY
    @given(seed=SEEDS)
    def test_canonical_any_choices_is_idempotent_and_keeps_active_genes(self, space, seed):
        cardinalities = np.array([gene.cardinality for gene in space.genes])
        raw = np.random.default_rng(seed).integers(0, cardinalities, (30, len(cardinalities))).astype(np.int16)
        genomes = space.canonical(raw)
        assert np.array_equal(space.canonical(genomes), genomes)
        active = space.active(raw)
        assert np.array_equal(active, space.active(genomes))
        assert np.array_equal(genomes, np.where(active, raw, 0))

    @PROPERTY
    @given(seed=SEEDS)
    def test_encode_after_decode_is_identity(self, space, seed):
        for genome in space.sample(5, np.random.default_rng(seed)):
            architecture = space.decode(genome)
            assert np.array_equal(space.encode(architecture), genome)
            assert space.architecture(architecture.choices) == architecture
            assert set(architecture.choices) == {
                gene.name for gene, active in zip(space.genes, space.active(genome[None])[0], strict=True) if active
            }

    @PROPERTY
    @given(seed=SEEDS, rate=st.one_of(st.none(), st.floats(0.0, 1.0)))
    def test_mutate_any_rate_is_canonical_and_changes_each_genome(self, space, seed, rate):
        rng = np.random.default_rng(seed)
        parents = space.sample(20, rng)
        before = parents.copy()
        children = space.mutate(parents, rng, rate)
        assert np.array_equal(space.check(children), children)
        assert (children != parents).any(axis=1).all()
        assert np.array_equal(parents, before)

    @PROPERTY
    @given(seed=SEEDS)
    def test_crossover_is_canonical_and_takes_shared_choices(self, space, seed):
        rng = np.random.default_rng(seed)
        a, b = space.sample(20, rng), space.sample(20, rng)
        children = space.crossover(a, b, rng)
        assert np.array_equal(space.check(children), children)
        assert np.array_equal(space.crossover(a, a, rng), a)
        shared = space.active(a) & space.active(b) & space.active(children)
        assert ((children == a) | (children == b))[shared].all()

    @PROPERTY
    @given(seed=SEEDS)
    def test_neighbors_differ_in_one_gene_active_in_both(self, space, seed):
        genome = space.sample(1, np.random.default_rng(seed))[0]
        neighbors = space.neighbors(genome)
        active = space.active(genome[None])[0]
        assert len(neighbors) == sum(gene.cardinality - 1 for gene, on in zip(space.genes, active, strict=True) if on)
        assert np.array_equal(space.check(neighbors), neighbors)
        assert len(np.unique(neighbors, axis=0)) == len(neighbors)
        both = active & space.active(neighbors)
        assert (((neighbors != genome) & both).sum(axis=1) == 1).all()

    @PROPERTY
    @given(seed=SEEDS)
    def test_keys_depend_on_the_row_alone(self, space, seed):
        genomes = space.sample(20, np.random.default_rng(seed))
        keys = space.keys(genomes)
        assert keys.shape == (20, 2)
        assert keys.dtype == np.uint64
        assert np.array_equal(keys, np.concatenate([space.keys(row[None]) for row in genomes]))
        distinct = len(np.unique(space.key_form(genomes), axis=0))
        assert len(np.unique(keys, axis=0)) == distinct

    def test_decode_of_a_stray_choice_names_the_gene(self, space):
        genome = space.sample(1, np.random.default_rng(0))[0]
        genome[0] = space.genes[0].cardinality
        with pytest.raises(SpaceError, match=space.genes[0].name):
            space.decode(genome)


def _by_key(space, n=24):
    """Random genomes, and all that differ from one of them in one gene, grouped by key; at most 64 of them."""
    some = space.sample(n, np.random.default_rng(11))
    genomes = np.unique(np.concatenate([some, space.neighbors(some[0])[: 64 - n]]), axis=0)
    _, group = np.unique(space.keys(genomes), axis=0, return_inverse=True)
    return [genomes[group.ravel() == number] for number in range(group.max() + 1)]


def _architectures(space, n=6):
    genomes = np.concatenate(
        [space.smallest()[None], space.largest()[None], space.sample(n - 2, np.random.default_rng(7))]
    )
    return genomes, [space.decode(genome) for genome in genomes]


def _output_shapes(network, inputs):
    """Output shape of every module that ran, by path."""
    seen = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _module, _inputs, y, name=name: seen.__setitem__(name, tuple(y.shape)))
    network(*inputs)
    return seen


class NetworkKit:
    """What holds for every space that builds networks: its Ops tell the truth about them."""

    def test_ops_costs_equal_the_networks(self, space):
        for architecture in _architectures(space)[1]:
            network, inputs = space.network(architecture, seed=0).eval(), space.example_inputs(1)
            # Fused attention would count as nothing.
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                network(*inputs)
            ops = space.ops(architecture)
            assert 2 * total_macs(ops) == counter.get_total_flops()
            assert total_params(ops) == sum(parameter.numel() for parameter in network.parameters())

    def test_ops_shapes_and_weights_equal_the_modules(self, space):
        for architecture in _architectures(space)[1]:
            network, inputs = space.network(architecture, seed=0).eval(), space.example_inputs(2)
            seen = {}
            modules = dict(network.named_modules())
            for name, module in modules.items():
                module.register_forward_hook(
                    lambda _m, _i, y, name=name, seen=seen: seen.__setitem__(name, tuple(y.shape))
                )
            network(*inputs)
            ops = space.ops(architecture)
            assert len({op.name for op in ops}) == len(ops)
            for op in ops:
                if op.weights:
                    state = modules[op.name].state_dict()
                    assert {name: tuple(state[name].shape) for name, _ in op.weights} == dict(op.weights)
                if op.name in modules:
                    assert seen[op.name] == (2, *op.output.shape), op.name
                else:
                    assert op.kind in MODULELESS, op.name

    def test_ops_read_only_inputs_and_earlier_outputs(self, space):
        for architecture in _architectures(space)[1]:
            written = {}
            fresh = set()
            for op in space.ops(architecture):
                for tensor in op.inputs:
                    assert written.get(tensor.name, tensor) == tensor
                    if tensor.name not in written:
                        fresh.add((tensor.name, tensor.shape))
                written[op.output.name] = op.output
            assert len(fresh) == len(space.example_inputs(1))

    def test_sites_add_up_to_the_ops(self, space):
        if space.sites() is None:
            return
        genomes, architectures = _architectures(space, 12)
        index = space.site_index
        for row, architecture in zip(index.index(genomes), architectures, strict=True):
            found = [
                op for site, (at, start) in enumerate(zip(row, index.offsets, strict=True))
                for op in index.ops(site, int(at - start))
            ]  # fmt: skip
            ops = space.ops(architecture)
            assert [op.name for op in found] == [op.name for op in ops]
            assert [op_signature((op,)) for op in found] == [op_signature((op,)) for op in ops]
        assert space.macs(genomes).tolist() == [total_macs(space.ops(a)) for a in architectures]
        assert space.params(genomes).tolist() == [total_params(space.ops(a)) for a in architectures]

    def test_networks_with_different_ops_never_share_a_key(self, space):
        for group in _by_key(space):
            # A multiset: isomorphic graphs share a key, and may list the same Ops in another order.
            ops = [sorted(repr(op_signature((op,))) for op in space.ops(space.decode(genome))) for genome in group]
            assert all(each == ops[0] for each in ops)

    def test_network_same_seed_is_bit_equal_and_leaves_the_global_generator_alone(self, space):
        architecture = space.decode(space.largest())
        before = torch.random.get_rng_state()
        first, again, other = (space.network(architecture, seed=seed).state_dict() for seed in (3, 3, 4))
        assert torch.equal(torch.random.get_rng_state(), before)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


class SupernetKit:
    """What holds for every supernet."""

    @pytest.fixture
    def supernet(self, space):
        return space.supernet(seed=0)

    def test_extract_equals_the_supernet_in_both_modes(self, space, supernet):
        inputs = space.example_inputs(6)
        _randomise(supernet)
        for architecture in _architectures(space)[1]:
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
            for architecture in _architectures(space)[1]:
                for training in (False, True):
                    network = there.train(training).extract(architecture)
                    torch.testing.assert_close(network(*inputs), there(*inputs, architecture), atol=1e-5, rtol=1e-5)

    def test_equal_keys_mean_equal_outputs_under_tied_weights(self, space, supernet):
        inputs = space.example_inputs(4)
        _randomise(supernet)
        supernet.train()
        for group in _by_key(space):
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
        for architecture in _architectures(space)[1]:
            supernet(*space.example_inputs(2), architecture)
        layers = [module for module in supernet.modules() if isinstance(module, ElasticConv2d | ElasticLinear)]
        assert len(used) >= len(layers)
        assert all(weight.untyped_storage().data_ptr() in storages for weight in used)

    def test_supernet_holds_no_more_than_the_largest_of_every_layer(self, space, supernet):
        needed = {}
        for architecture in _architectures(space, 202)[1]:
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
        architecture = _architectures(space)[1][2]
        inputs = space.example_inputs(16)
        supernet.calibrate(architecture, [inputs])
        torch.testing.assert_close(
            supernet.eval()(*inputs, architecture), supernet.train()(*inputs, architecture), atol=1e-4, rtol=1e-4
        )

    def test_calibrate_twice_gives_the_same_statistics_and_leaves_weights_and_mode(self, space, supernet):
        if not any(True for _ in supernet.batch_norms()):
            assert supernet.statistics() == {}
            return
        architecture, other = _architectures(space)[1][2:4]
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
        architecture, other = _architectures(space)[1][2:4]
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
