"""What the families of chains have in common (the kits run in `test_catalog`), and what they are made with."""

from __future__ import annotations

import pickle

import numpy as np
import onnxruntime
import pytest
import torch

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import block_genes
from archsmith.spaces.gene import Gene, When
from archsmith.spaces.layers.chain import assemble
from archsmith.spaces.onnx_graph import onnx_model
from archsmith.spaces.op import total_params
from archsmith.spaces.reference import MODULES

FAMILIES = ("genet", "mobileone", "regnet", "resnet", "rexnet", "shufflenetv2", "starnet")


@pytest.mark.parametrize("family", FAMILIES)
def test_exported_graph_equals_the_network(family):
    space = spaces.get(family, "tiny")
    (x,) = space.example_inputs(3)
    for genome in (space.smallest(), space.largest(), *space.sample(2, np.random.default_rng(0))):
        architecture = space.decode(genome)
        network = space.network(architecture, seed=0)
        network.train()(x)  # statistics that are not at rest
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        model = onnx_model(space.ops(architecture), state, batch=3)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            want = network.eval()(x).numpy()
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_options_adapt_the_preset_and_are_part_of_the_identity(family):
    space = spaces.get(family, "tiny", in_channels=2, resolution=20, classes=3)
    assert space.example_inputs(2)[0].shape == (2, 2, 20, 20)
    architecture = space.decode(space.largest())
    assert space.network(architecture, seed=0)(space.example_inputs(2)[0]).shape == (2, 3)
    assert space.identity != spaces.get(family, "tiny").identity
    with pytest.raises(SpaceError, match="resolution 1 is too small for a total stride of"):
        spaces.get(family, "tiny", resolution=1)
    with pytest.raises(SpaceError, match="classes is 'ten'"):
        spaces.get(family, "tiny", classes="ten")


@pytest.mark.parametrize("family", FAMILIES)
def test_pickled_space_computes_the_same(family):
    space = spaces.get(family, "tiny")
    again = pickle.loads(pickle.dumps(space))
    genomes = space.sample(10, np.random.default_rng(0))
    assert again.identity == space.identity
    assert np.array_equal(again.keys(genomes), space.keys(genomes))
    assert np.array_equal(again.macs(genomes), space.macs(genomes))


@pytest.mark.parametrize("family", FAMILIES)
def test_architecture_of_another_space_is_refused(family):
    space, other = spaces.get(family, "tiny"), spaces.get(family, "tiny", classes=3)
    with pytest.raises(SpaceError, match="belongs to space"):
        space.ops(other.decode(other.largest()))


@pytest.mark.parametrize("name", [name for name in spaces.reference_names() if MODULES[name] in FAMILIES])
def test_reference_module_has_the_parameters_of_its_ops(name):
    space, architecture = spaces.reference(name, 64)
    with torch.device("meta"):
        network = assemble((layer.path, layer.brick.module(layer.spec)) for layer in space.plan(architecture))
    params = sum(parameter.numel() for parameter in network.parameters())
    assert params == total_params(space.ops(architecture)) == space.params(space.encode(architecture)[None])[0]


def test_reference_too_small_for_its_strides_is_refused():
    with pytest.raises(SpaceError, match="resolution 16 is too small for a total stride of 32; use at least 32"):
        spaces.reference("resnet50", 16)


GOLDEN_KEYS = {
    "genet": "5644ac46c5551a6c0a83243e52031e1d",
    "mobileone": "6c585ebecb7954acbbe1d5335092e104",
    "regnet": "698d023c0ea80f1760f8a255946d5693",
    "resnet": "eb8e5677685fd6b377916e766668b32d",
    "rexnet": "60551de63b3d16a6bb4467df62235063",
    "shufflenetv2": "ac84fd95954caae98f8d72d6717f1ca6",
    "starnet": "bb77ec50ae0cf8296c45c83df8bc2ba2",
}
"""Keys of the largest tiny network: stable across processes, versions and machines."""


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_are_stable(family):
    space = spaces.get(family, "tiny")
    assert space.decode(space.largest()).key == GOLDEN_KEYS[family]


def test_assemble_nests_paths_and_runs_in_order():
    double, increment = _Apply(lambda x: 2 * x), _Apply(lambda x: x + 1)
    network = assemble([("stem", increment), ("stages.0.0", double), ("stages.0.1", increment), ("head", double)])
    assert network.get_submodule("stages.0.1") is increment
    assert [name for name, _ in network.named_children()] == ["stem", "stages", "head"]
    assert network(torch.tensor(1.0)).item() == 10.0


class _Apply(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_block_genes_are_active_as_deep_as_the_stage():
    genes = block_genes("s", (1, 3), lambda path, when: (Gene(f"{path}.kernel", (3, 5), when=when),))
    assert [gene.name for gene in genes] == ["s.depth", "s.0.kernel", "s.1.kernel", "s.2.kernel"]
    assert [gene.when for gene in genes] == [(), (), (When("s.depth", (3,)),), (When("s.depth", (3,)),)]


def test_genes_with_one_value_are_constants():
    space = spaces.get("resnet", "plain")
    assert "stages.0.width" not in space.table.names
    assert space.constants["stages.0.width"] == 256
    assert not any(gene.cardinality == 1 for gene in space.genes)
