from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit, SupernetKit

from archsmith.errors import SpaceError
from archsmith.spaces.families.hybrid import PRESETS, HybridSpace
from archsmith.spaces.layers.downsample import DownsampleSpec
from archsmith.spaces.onnx_graph import onnx_model

TINY = PRESETS["tiny"]
KIND = "stages.1.{}.kind"


class TestTinyHybrid(SpaceKit, NetworkKit, SupernetKit):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return HybridSpace(TINY, preset="tiny")


@pytest.fixture(scope="module")
def tiny():
    return HybridSpace(TINY, preset="tiny")


def test_size_counts_either_form_of_a_block(tiny):
    conv, attention = 2 * 2, 2 * 2
    blocks = sum((conv + attention) ** depth for depth in (1, 2))
    assert tiny.size == (2 * 2 * conv) * (2 * 2 * blocks)


def test_attention_starts_where_the_choices_say(tiny):
    for kinds in (("conv", "conv"), ("conv", "attention"), ("attention", "attention")):
        choices = {"stages.1.depth": 2, **{KIND.format(index): kind for index, kind in enumerate(kinds)}}
        names = {op.name for op in tiny.ops(tiny.architecture(choices))}
        starts = [f"stages.1.blocks.{index}.attention.attention.q" in names for index in range(2)]
        assert starts == [kind == "attention" for kind in kinds]


def test_both_forms_of_a_block_and_of_downsampling_have_weights_of_their_own(tiny):
    names = dict(tiny.supernet(seed=0).named_parameters())
    for form in (
        "blocks.0.conv.expand.conv",
        "blocks.0.attention.attention.q",
        "downsample.conv.conv",
        "downsample.project.conv",
    ):
        assert f"stages.1.{form}.weight" in names
    assert not any(name.startswith("stages.0.blocks.0.attention") for name in names)


@pytest.mark.parametrize("kind", ["conv", "pool"])
def test_downsampling_rounds_up(tiny, kind):
    architecture = tiny.architecture({"stages.0.downsample": kind})
    shapes = {op.name: op.output.shape for op in tiny.ops(architecture)}
    assert shapes["stem.conv"][1:] == (6, 6)
    last = "stages.0.downsample." + ("conv" if kind == "conv" else "project") + ".norm"
    assert shapes[last][1:] == (3, 3)


def test_presets_span_the_sizes_they_are_named_after():
    for preset, low, high in (("edge64", 0.5e6, 1e6), ("ascan", 20e6, 55e6)):
        space = HybridSpace(PRESETS[preset])
        smallest, largest = space.params(np.stack([space.smallest(), space.largest()]))
        assert smallest < low
        assert largest > high * 0.9
    assert space.size > 10**20


def test_onnx_model_of_a_network_equals_its_module(tiny):
    for genome in tiny.sample(4, np.random.default_rng(0)):
        architecture = tiny.decode(genome)
        network, (x,) = tiny.network(architecture, seed=0), tiny.example_inputs(5)
        network.train()(x)  # statistics that are not at rest
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        model = onnx_model(tiny.ops(architecture), state, dynamic_batch=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            want = network.eval()(x)
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: dataclasses.replace(TINY, resolution=3), "resolution 3 is too small.*at least 4"),
    (lambda: dataclasses.replace(TINY, classes=0), "classes is 0"),
    (lambda: dataclasses.replace(TINY.stages[0], kernels=(2,)), "kernels odd"),
    (lambda: DownsampleSpec(in_channels=1, out_channels=1, kind="fold"), "'fold' is unknown; allowed: conv, pool"),
])  # fmt: skip
def test_wrong_spec_says_what_is_allowed(make, message):
    with pytest.raises(SpaceError, match=message):
        make()
