"""Sparse networks of one backbone: nested rows, exact counts, the same weights in supernet and network, storage."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.families.sparse import SparseSpace, read_densities
from archsmith.spaces.layers.row_sparse import kept_entries, pack_rows, row_mask, row_ranks, unpack_rows

DENSITIES = (0.1, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def space() -> SparseSpace:
    made = spaces.get("mobilenet", "tiny", densities="0.1, 0.25, 0.5, 1")
    assert isinstance(made, SparseSpace)
    return made


@pytest.fixture(scope="module", params=["mobilenet", "vit", "resnet"])
def any_space(request: pytest.FixtureRequest) -> SparseSpace:
    return SparseSpace(spaces.get(request.param, "tiny"), DENSITIES)


def test_masks_are_nested_and_rows_keep_the_same_number() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0.0  # equal magnitudes must not change the count
    ranks = row_ranks(weight)
    masks = [row_mask(ranks, density) for density in DENSITIES]
    for sparser, denser in itertools.pairwise(masks):
        assert (sparser <= denser).all()
    for mask, density in zip(masks, DENSITIES, strict=True):
        assert (mask.flatten(1).sum(dim=1) == kept_entries(36, density)).all()
    half = weight[0].abs().flatten().sort(descending=True).values[:18].min()
    assert torch.equal(masks[2][0], weight[0].abs() >= half)


def test_packed_rows_hold_every_sparser_choice_as_a_prefix() -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    values, places = pack_rows(weight, 0.5)
    assert values.numel() == places.numel() == 5 * kept_entries(27, 0.5)  # the densest one's entries, nothing else
    for density in (0.1, 0.25, 0.5):
        expected = weight * row_mask(row_ranks(weight), density)
        assert torch.equal(unpack_rows(values, places, weight.shape, density), expected)


def test_params_count_what_networks_store(any_space: SparseSpace) -> None:
    genomes = np.concatenate([any_space.smallest()[None], any_space.sample(3, np.random.default_rng(0))])
    for genome, params in zip(genomes, any_space.params(genomes), strict=True):
        architecture = any_space.decode(genome)
        network = any_space.network(architecture, seed=0)
        sparse = any_space.densities_of(architecture)
        zeros = sum(int((network.get_parameter(name) == 0).sum()) for name in sparse)
        assert params == sum(parameter.numel() for parameter in network.parameters()) - zeros
    whole = any_space.base.params(any_space.base.largest()[None])
    assert any_space.params(any_space.largest()[None]) == whole


@pytest.mark.parametrize("training", [False, True])
def test_extract_equals_the_supernet(any_space: SparseSpace, training: bool) -> None:
    supernet, inputs = any_space.supernet(seed=0).train(training), any_space.example_inputs(4)
    for genome in (any_space.smallest(), *any_space.sample(2, np.random.default_rng(1))):
        architecture = any_space.decode(genome)
        network = supernet.extract(architecture)
        torch.testing.assert_close(network(*inputs), supernet(*inputs, architecture), atol=1e-5, rtol=1e-5)


def test_gradient_reaches_kept_entries_only_and_masks_follow_the_weights(space: SparseSpace) -> None:
    supernet, (x,) = space.supernet(seed=0).train(), space.example_inputs(4)
    smallest = space.decode(space.smallest())
    supernet(x, smallest).square().sum().backward()
    name = "stages.0.0.project.conv.weight"
    weight = supernet.backbone.get_parameter(name)
    kept = row_mask(row_ranks(weight), 0.1)
    assert weight.grad is not None
    assert (weight.grad[~kept] == 0).all()
    assert (weight.grad[kept] != 0).any()
    with torch.no_grad():
        weight.copy_(torch.where(kept, 0.0, weight))
    now = supernet.extract(smallest).get_parameter(name)
    assert (now[kept] == 0).all()
    assert (now != 0).any()


def test_training_alone_stays_on_the_mask(space: SparseSpace) -> None:
    architecture, (x,) = space.decode(space.smallest()), space.example_inputs(8)
    network = space.network(architecture, seed=0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        network(x).square().mean().backward()
        optimizer.step()
        space.constrain(network, architecture)
    for name in space.densities_of(architecture):
        rows = network.get_parameter(name).flatten(1)
        assert ((rows != 0).sum(dim=1) <= kept_entries(rows.shape[1], 0.1)).all()


def test_densities_that_keep_the_same_are_one() -> None:
    space = SparseSpace(spaces.get("mobilenet", "tiny"), (0.5001, 0.5002, 1.0))
    genomes = np.zeros((2, len(space.genes)), dtype=np.int16)
    genomes[1] = 1
    assert len(np.unique(space.keys(genomes), axis=0)) == 1
    assert space.params(genomes)[0] == space.params(genomes)[1]


def test_space_travels_and_says_what_it_is(space: SparseSpace) -> None:
    twin = pickle.loads(pickle.dumps(space))
    assert twin.identity == space.identity
    assert space.identity != space.base.identity
    macs = space.macs(space.sample(4, np.random.default_rng(0)))
    assert (macs == space.base.macs(space.base.largest()[None])).all()


@pytest.mark.parametrize("text", ["0.5,dense", "0,0.5", "0.5,1.5", ""])
def test_bad_densities_are_named(text: str) -> None:
    with pytest.raises(SpaceError, match="densities"):
        spaces.get("mobilenet", "tiny", densities=text)
    assert read_densities("1,0.5") == (0.5, 1.0)


def test_norms_that_mix_densities_are_refused() -> None:
    with pytest.raises(SpaceError, match="BatchNorm1d"):
        spaces.get("tdnn", "tiny", densities="0.5,1").supernet(seed=0)
