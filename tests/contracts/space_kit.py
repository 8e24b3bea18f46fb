"""Conformance kits for search spaces: give a class-scoped fixture `space`, inherit the tests.

`SpaceKit` needs genes only, `NetworkKit` spaces that build networks, `SupernetKit` spaces whose networks share weights.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.supernet_kit import SupernetKit, architectures, by_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from archsmith.errors import SpaceError
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


class NetworkKit:
    """What holds for every space that builds networks: its Ops tell the truth about them."""

    def test_ops_costs_equal_the_networks(self, space):
        for architecture in architectures(space)[1]:
            network, inputs = space.network(architecture, seed=0).eval(), space.example_inputs(1)
            # Fused attention would count as nothing.
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                network(*inputs)
            ops = space.ops(architecture)
            assert 2 * total_macs(ops) == counter.get_total_flops()
            assert total_params(ops) == sum(parameter.numel() for parameter in network.parameters())

    def test_ops_shapes_and_weights_equal_the_modules(self, space):
        for architecture in architectures(space)[1]:
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
        for architecture in architectures(space)[1]:
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
        genomes, chosen = architectures(space, 12)
        index = space.site_index
        for row, architecture in zip(index.index(genomes), chosen, strict=True):
            found = [
                op for site, (at, start) in enumerate(zip(row, index.offsets, strict=True))
                for op in index.ops(site, int(at - start))
            ]  # fmt: skip
            ops = space.ops(architecture)
            assert [op.name for op in found] == [op.name for op in ops]
            assert [op_signature((op,)) for op in found] == [op_signature((op,)) for op in ops]
        assert space.macs(genomes).tolist() == [total_macs(space.ops(a)) for a in chosen]
        assert space.params(genomes).tolist() == [total_params(space.ops(a)) for a in chosen]

    def test_networks_with_different_ops_never_share_a_key(self, space):
        for group in by_key(space):
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
