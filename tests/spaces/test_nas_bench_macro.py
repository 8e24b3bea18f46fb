from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.nas_bench_macro import PRESETS, NasBenchMacroSpec

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "nas_bench_macro.npz"


def space_of(preset):
    return ChainSpace(PRESETS[preset], name="nas_bench_macro", preset=preset)


@pytest.mark.data
def test_costs_equal_the_published_table():
    """Parameters and MACs of every network, exactly."""
    if not TABLE.exists():
        pytest.skip(f"needs {TABLE}")
    with np.load(TABLE) as data:
        genomes, params, macs = data["arch"].astype(np.int16), data["params"], data["macs"]
    space = space_of("cifar10")
    assert space.size == len(genomes) == 3**8
    assert np.array_equal(space.params(genomes), params)
    assert np.array_equal(space.macs(genomes), macs)


def test_smallest_costs_by_hand():
    """All identities: stem, three strided 1x1 convolutions, features and classifier."""
    space = space_of("cifar10")
    genomes = np.zeros((1, 8), dtype=np.int16)
    weights = 32 * 27 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 1280
    norms = 2 * (32 + 64 + 128 + 256 + 1280)
    assert space.params(genomes).tolist() == [weights + norms + 1280 * 10 + 10]
    assert space.macs(genomes).tolist() == [
        1024 * 32 * 27 + 256 * 32 * 64 + 64 * 64 * 128 + 16 * 128 * 256 + 16 * 256 * 1280 + 12800
    ]


def test_all_genomes_are_different_computations():
    space = space_of("tiny")
    everything = np.stack([grid.ravel() for grid in np.indices((3,) * 4, dtype=np.int16)], axis=1)
    assert len(np.unique(space.keys(everything), axis=0)) == space.size == 81
    supernet, (x,) = space.supernet(seed=0).train(), space.example_inputs(3)
    with torch.no_grad():
        outputs = [supernet(x, space.decode(genome)) for genome in everything]
    assert all(not torch.allclose(a, b, atol=1e-6) for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": ()}, "at least 1"),
        ({"resolution": 4}, "too small for a total stride of 8"),
        ({"classes": 0}, "classes"),
    ],
)
def test_wrong_spec_says_what_is_allowed(options, message):
    with pytest.raises(SpaceError, match=message):
        NasBenchMacroSpec(**options)
