from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.shufflenetv2 import PRESETS


def build(preset):
    return ChainSpace(PRESETS[preset], name="shufflenetv2", preset=preset)


def test_published_space_has_four_choices_at_twenty_blocks():
    space = build("spos")
    assert space.size == 4**20
    # The paper's found network has 323 M; its search ran from 290 M to 360 M.
    macs = space.macs(space.sample(2000, np.random.default_rng(0)))
    assert 290e6 < np.median(macs) < 360e6


def test_published_costs_by_hand_of_the_first_block():
    space = build("spos")
    ops = [op for op in space.ops(space.decode(space.smallest())) if op.name.startswith("stages.0.0.k3")]
    # main: 16 -> 32 (112 px), depthwise 32 stride 2, 32 -> 48; bypass: depthwise 16 stride 2, 16 -> 16.
    main = 112**2 * 16 * 32 + 56**2 * 32 * 9 + 56**2 * 32 * 48
    bypass = 56**2 * 16 * 9 + 56**2 * 16 * 16
    assert sum(op.macs for op in ops) == main + bypass


def test_every_choice_has_its_own_weights():
    space = build("tiny")
    supernet = space.supernet(seed=0).train()
    choices = {gene.name: "k5" for gene in space.genes}
    supernet(space.example_inputs(4)[0], space.architecture(choices)).sum().backward()
    touched = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    assert any(".k5." in name for name in touched)
    assert not any(f".{other}." in name for name in touched for other in ("k3", "k7", "xception"))


def test_shuffle_interleaves_the_halves():
    space = build("tiny")
    network = space.network(space.decode(space.smallest()), seed=0)
    block = network.get_submodule("stages.0.1.k3")
    x = torch.arange(16.0).view(1, 16, 1, 1)
    assert block.shuffle(x).flatten().tolist() == [*range(0, 16, 2), *range(1, 16, 2)]
    assert block.eval()(x)[0, :8].flatten().tolist() == list(range(0, 16, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 3}, "resolution 3 is too small for a total stride of 4"),
        ({"widths": (16,)}, "equally many"),
        ({"widths": (16, 16)}, "width 16 after 16 channels"),
        ({"choices": ("k3", "k9")}, r"\['k9'\] are unknown; allowed: .*xception"),
    ],
)
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)
