from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.spaces.families.fbnet import CHOICES

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "fbnet_latency.npz"


@pytest.fixture(scope="module")
def fbnet():
    return spaces.get("fbnet", "imagenet")


def test_22_blocks_of_nine_choices(fbnet):
    assert fbnet.size == 9**22
    assert len(fbnet.genes) == 22
    assert {gene.values for gene in fbnet.genes} == {CHOICES}
    assert CHOICES == ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")


def test_skip_is_nothing_where_the_shape_stays_and_a_convolution_where_it_changes(fbnet):
    plan = fbnet.plan(fbnet.architecture({gene.name: "skip" for gene in fbnet.genes}))
    blocks = [block for stage in plan.stages for block in stage]
    changing = [number for number, block in enumerate(blocks) if block is not None]
    assert changing == [1, 5, 9, 13, 17, 21]
    assert [(blocks[number].kernel, blocks[number].stride) for number in changing] == [
        (1, 2), (1, 2), (1, 2), (1, 1), (1, 2), (1, 1)
    ]  # fmt: skip


def test_grouped_block_has_half_the_pointwise_weights(fbnet):
    plain, grouped = (
        {op.name: op for op in fbnet.ops(fbnet.architecture({"stages.1.1.form": form}))}
        for form in ("k3_e1", "k3_e1_g2")
    )
    for part in ("expand", "project"):
        assert 2 * grouped[f"stages.1.1.{part}.conv"].params == plain[f"stages.1.1.{part}.conv"].params
    assert grouped["stages.1.1.shuffle"].kind == "channel_shuffle"
    assert "stages.1.1.shuffle" not in plain


def test_grouped_block_shuffles_so_that_both_groups_meet():
    space = spaces.get("fbnet", "tiny")
    architecture = space.architecture({"stages.1.1.form": "k3_e1_g2"})
    block = space.network(architecture, seed=0).eval().stages[1][1]
    x = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 8:] += 1  # the second group of the input
    assert not torch.allclose(block(x)[:, :8], block(other)[:, :8])


@pytest.mark.data
def test_measured_latencies_know_the_same_choices(fbnet):
    if not DATA.exists():
        pytest.skip(f"{DATA} is absent; it holds published measurements that are not part of the project")
    data = np.load(DATA, allow_pickle=False)
    genomes = fbnet.canonical(data["ops"])
    latency = data["latency_ms"][:, list(data["latency_names"]).index("titanx_64")].astype(np.float64)
    one_hot = (genomes[:, :, None] == np.arange(9)).reshape(len(genomes), -1).astype(np.float64)
    cost = np.linalg.lstsq(one_hot, latency, rcond=None)[0].reshape(22, 9)
    block = cost[:, :8].min(axis=1) - cost[:, 8]
    # Leaving a block out saves less where a convolution must change the shape.
    changing = np.array([1, 5, 9, 13, 17])
    assert (block[changing] < block[changing + 1]).all()
    ranks = [np.argsort(np.argsort(values)) for values in (fbnet.macs(genomes), latency)]
    assert np.corrcoef(*ranks)[0, 1] > 0.7
