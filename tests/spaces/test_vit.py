from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import onnxruntime
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit, SupernetKit

from archsmith.errors import SpaceError
from archsmith.spaces.families.vit import PRESETS, REFERENCES, VitSpace
from archsmith.spaces.onnx_graph import onnx_model
from archsmith.spaces.op import total_macs, total_params

TINY = PRESETS["tiny"]


PLAIN = dataclasses.replace(TINY, relative=0, pooled=False)


class TestTinyVit(SpaceKit, NetworkKit, SupernetKit):
    @pytest.fixture(scope="class", params=[TINY, PLAIN], ids=["autoformer", "deit"])
    @classmethod
    def space(cls, request):
        return VitSpace(request.param)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        # The result tables of pytorch-image-models give 5.72 M and 22.05 M, 1.26 G and 4.61 G; the exact numbers follow
        # from the sizes of the layers.
        ("deit_tiny_patch16_224", 5_717_416, 1.26e9),
        ("deit_small_patch16_224", 22_050_664, 4.61e9),
    ],
)
def test_references_have_the_published_costs(name, params, macs):
    space, architecture = REFERENCES[name](None)
    ops = space.ops(architecture)
    assert total_params(ops) == params
    assert total_macs(ops) == pytest.approx(macs, rel=0.01)
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in space.blank(architecture.choices).parameters()) == params


def test_reference_at_another_resolution_has_more_positions():
    (space, architecture), (larger, same) = (REFERENCES["deit_tiny_patch16_224"](side) for side in (None, 384))
    extra = (24 * 24 - 14 * 14) * 192
    assert total_params(larger.ops(same)) == total_params(space.ops(architecture)) + extra


# Parameters, and millions of them as published. The choices are those of `experiments/subnet/AutoFormer-*.yaml` of
# AutoFormer's released code. The network of that file for T is a little larger than the 5.7 M and 5.8 M stated for it.
AUTOFORMER = {
    "autoformer_tiny_patch16_224": (5_867_944, 5.7, "autoformer_t"),
    "autoformer_small_patch16_224": (22_891_432, 22.9, "autoformer_s"),
    "autoformer_base_patch16_224": (53_691_688, 53.7, "autoformer_b"),
}


@pytest.mark.parametrize("name", AUTOFORMER)
def test_autoformers_have_the_published_parameters(name):
    params, millions, preset = AUTOFORMER[name]
    space, architecture = REFERENCES[name](None)
    assert total_params(space.ops(architecture)) == params
    assert params / 1e6 == pytest.approx(millions, abs=0.2 if preset == "autoformer_t" else 0.05)
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in space.blank(architecture.choices).parameters()) == params
    assert (space.preset == preset) == (preset != "autoformer_t")


def test_relative_positions_cost_four_tables_per_layer():
    spec = PRESETS["autoformer_s"]
    with_distances, without = (
        VitSpace(dataclasses.replace(spec, relative=reach)).params(VitSpace(spec).largest()[None])[0]
        for reach in (14, 0)
    )
    assert with_distances - without == 14 * 4 * (2 * 14 + 2) * 64


def test_fewer_heads_are_the_first_heads():
    space = VitSpace(TINY)
    supernet = space.supernet(seed=0)
    few = space.architecture({"width": 16, "depth": 1, "layers.0.heads": 2})
    network = supernet.extract(few)
    assert torch.equal(network.layers[0].attention.q.weight, supernet.layers[0].attention.q.weight[:8])
    assert torch.equal(network.layers[0].attention.out.weight, supernet.layers[0].attention.out.weight[:, :8])


@pytest.mark.parametrize("spec", [TINY, PLAIN], ids=["autoformer", "deit"])
def test_onnx_model_of_a_network_equals_its_module(spec):
    space = VitSpace(spec)
    for genome in space.sample(3, np.random.default_rng(0)):
        architecture = space.decode(genome)
        network, (x,) = space.network(architecture, seed=0).eval(), space.example_inputs(5)
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        model = onnx_model(space.ops(architecture), state, dynamic_batch=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], network(x), atol=1e-5, rtol=1e-4)


def test_pickled_space_is_the_same_space():
    space = VitSpace(TINY, preset="tiny")
    assert space.site_index.size > 0  # compiled tables must not travel
    assert pickle.loads(pickle.dumps(space)).identity == space.identity


@pytest.mark.parametrize(("change", "message"), [
    ({"resolution": 10}, "multiple of the patch side, 4: use 8"),
    ({"resolution": 3}, "multiple of the patch side, 4: use 4"),
    ({"classes": 0}, "classes is 0"),
    ({"widths": (16, 8)}, "ascending"),
    ({"relative": -1}, "relative is -1"),
])  # fmt: skip
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        VitSpace(dataclasses.replace(TINY, **change))
