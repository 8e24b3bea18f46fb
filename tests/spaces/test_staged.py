from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import onnxruntime
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit, SupernetKit

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.elastic.layers import TransformedConv2d
from archsmith.spaces.export import export_network
from archsmith.spaces.families import efficientnet, mobilenetv3
from archsmith.spaces.families.staged import StagedSpace
from archsmith.spaces.families.staged_spec import CONV, DS, IR, AttentionRule, Form, SqueezeRule, StagedSpec, StageSpec
from archsmith.spaces.onnx_graph import onnx_model
from archsmith.spaces.op import op_signature

FAMILIES = (
    "efficientnet", "fbnet", "fbnetv3", "mnasnet", "mobilenetv2", "mobilenetv3", "mobilenetv4", "ofa_mobilenetv3",
    "ofa_proxylessnas", "proxylessnas", "single_path_nas",
)  # fmt: skip


@pytest.fixture(params=FAMILIES)
def tiny(request):
    return spaces.get(request.param, "tiny")


class TestTinyStagedSpaces(SpaceKit, NetworkKit, SupernetKit):
    @pytest.fixture(scope="class", params=FAMILIES)
    @classmethod
    def space(cls, request):
        return spaces.get(request.param, "tiny")


def everything(space):
    """Every canonical genome of a small space."""
    grids = np.indices([gene.cardinality for gene in space.genes], dtype=np.int16)
    return np.unique(space.canonical(np.stack([grid.ravel() for grid in grids], axis=1)), axis=0)


def test_size_equals_the_number_of_distinct_genomes(tiny):
    assert len(everything(tiny)) == tiny.size


def test_equal_keys_are_equal_plans(tiny):
    genomes = tiny.sample(400, np.random.default_rng(0))
    keys = [key.tobytes() for key in tiny.keys(genomes)]
    plans = [tiny.plan(tiny.decode(genome)) for genome in genomes]
    by_key = dict(zip(keys, plans, strict=True))
    assert all(by_key[key] == plan for key, plan in zip(keys, plans, strict=True))
    assert len(set(plans)) == len(by_key)


def rounding(name):
    """A tiny space in which several choices round to the same sizes, or leave the network as it is."""
    if name == "efficientnet":  # 1.2 and 1.4 both make 2 blocks of 1, and 3 of 2
        spec = dataclasses.replace(efficientnet.PRESETS["tiny"], depth_multipliers=(1.0, 1.2, 1.4))
        return StagedSpace(spec, name=name)
    if name == "mobilenetv3":  # 2.3 and 3 times 8 channels both round to 24
        first, last = mobilenetv3.PRESETS["tiny"].stages
        stages = (first, dataclasses.replace(last, expansions=(2, 2.3, 3)))
        return StagedSpace(dataclasses.replace(mobilenetv3.PRESETS["tiny"], stages=stages), name=name)
    return spaces.get(name, "tiny")  # its recipes leave the network as it is


@pytest.mark.parametrize("name", ["efficientnet", "fbnetv3", "mobilenetv3"])
def test_genomes_that_make_one_network_share_a_key(name):
    space = rounding(name)
    genomes = everything(space)
    forms = np.unique(space.key_form(genomes), axis=0)
    assert len(forms) < len(genomes)
    assert len(forms) == len({space.plan(space.decode(genome)) for genome in genomes})


def test_networks_with_one_key_have_the_same_ops_and_those_with_two_differ():
    space = rounding("mobilenetv3")
    signatures: dict[str, set[object]] = {}
    for genome in everything(space):
        architecture = space.decode(genome)
        signatures.setdefault(architecture.key, set()).add(op_signature(space.ops(architecture)))
    assert all(len(found) == 1 for found in signatures.values())
    assert len({next(iter(found)) for found in signatures.values()}) == len(signatures)


def test_pickled_space_is_the_same_space(tiny):
    assert tiny.site_index.size > 0  # compiled tables must not travel
    again = pickle.loads(pickle.dumps(tiny))
    assert (again.identity, again.name, again.preset) == (tiny.identity, tiny.name, "tiny")


def test_options_shape_the_network(tiny):
    space = spaces.get(tiny.name, "tiny", in_channels=3, classes=7, resolution=24)
    assert "resolution" not in space.table.position
    architecture = space.decode(space.largest())
    ops = {op.name: op for op in space.ops(architecture)}
    assert ops["stem.conv"].inputs[0].shape == (3, 24, 24)
    assert ops["head.classifier"].output.shape == (7,)
    assert space.network(architecture, seed=0)(*space.example_inputs(2)).shape == (2, 7)


def test_resolution_gene_resizes_the_image_in_network_and_supernet():
    space = spaces.get("ofa_mobilenetv3", "tiny")
    small, large = (space.architecture({"resolution": side}) for side in (12, 16))
    (x,) = space.example_inputs(2)
    seen = []
    for architecture in (small, large):
        network = space.network(architecture, seed=0).eval()
        network.stem.register_forward_hook(lambda _module, inputs, _y: seen.append(inputs[0].shape[-1]))
        network(x)
        exact = torch.nn.functional.interpolate(x, size=12, mode="bilinear", antialias=True)
        if architecture is small:
            torch.testing.assert_close(network(exact), network(x))
    assert seen == [12, 12, 12, 16]
    assert small.key != large.key
    assert space.macs(space.encode(small)[None]) < space.macs(space.encode(large)[None])
    assert space.params(space.encode(small)[None]) == space.params(space.encode(large)[None])


def test_exported_forms_take_the_image_of_the_architectures_resolution(tmp_path):
    space = spaces.get("ofa_mobilenetv3", "tiny")
    architecture = space.architecture({"resolution": 12})
    network = space.network(architecture, seed=0).eval()
    paths = export_network(network, space, architecture, tmp_path)
    image = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    expected = network(image)
    session = onnxruntime.InferenceSession(str(paths["model.onnx"]), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected.detach(), atol=1e-4, rtol=1e-4)
    program = torch.export.load(paths["model.pt2"]).module()
    torch.testing.assert_close(program(image), expected, atol=1e-4, rtol=1e-4)


def test_onnx_model_equals_the_network(tiny):
    for genome in tiny.sample(3, np.random.default_rng(5)):
        architecture = tiny.decode(genome)
        network, ops = tiny.network(architecture, seed=0).eval(), tiny.ops(architecture)
        image = torch.randn(2, *ops[0].inputs[0].shape, generator=torch.Generator().manual_seed(0))
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        session = onnxruntime.InferenceSession(
            onnx_model(ops, state, batch=2).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (found,) = session.run(None, {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(image).detach(), atol=1e-4, rtol=1e-4)


def test_supernet_of_several_kinds_keeps_them_apart():
    space = spaces.get("mobilenetv4", "tiny")
    names = {name for name, _ in space.supernet(seed=0).named_parameters()}
    assert "stages.2.1.attention.query.weight" in names
    assert "stages.2.1.inverted.expand.conv.weight" in names
    assert "stages.2.0.expand.conv.weight" in names  # the first block cannot be attention


def test_transformed_kernels_start_as_centres_and_extract_follows_them():
    space = spaces.get("ofa_mobilenetv3", "tiny")
    plain = space.supernet(seed=0).eval()
    supernet = space.supernet(seed=0, transform_kernels=True).eval()
    (x,) = space.example_inputs(4)
    architectures = [space.decode(genome) for genome in space.sample(8, np.random.default_rng(3))]
    for architecture in architectures:
        torch.testing.assert_close(supernet(x, architecture), plain(x, architecture))
    maps = [module.maps for module in supernet.modules() if isinstance(module, TransformedConv2d)]
    assert sorted(name for name, _ in maps[-1].named_parameters()) == ["to_3", "to_5"]
    with torch.no_grad():
        for matrix in (matrix for part in maps for matrix in part.parameters()):
            matrix += 0.1 * torch.randn(matrix.shape, generator=torch.Generator().manual_seed(1))
    smallest = space.decode(space.smallest())
    assert not torch.allclose(supernet(x, smallest), plain(x, smallest))
    for architecture in (smallest, *architectures):
        torch.testing.assert_close(supernet.extract(architecture)(x), supernet(x, architecture), atol=1e-5, rtol=1e-5)
    supernet(x, smallest).square().sum().backward()
    assert all(matrix.grad is not None for matrix in maps[0].parameters())


def test_transformed_kernel_is_the_map_of_the_map():
    conv = TransformedConv2d(2, 2, 7, sides=(3, 5, 7), groups=2, bias=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for matrix in conv.maps.parameters():
            matrix.copy_(torch.randn(matrix.shape, generator=generator))
    five = conv.weight[:, :, 1:6, 1:6].flatten(2) @ conv.maps.get_parameter("to_5").T
    three = five.view(2, 1, 5, 5)[:, :, 1:4, 1:4].flatten(2) @ conv.maps.get_parameter("to_3").T
    torch.testing.assert_close(conv.chosen_weight((2, 1, 3, 3)), three.view(2, 1, 3, 3))
    assert torch.equal(conv.chosen_weight((1, 1, 7, 7)), conv.weight[:1])


def test_squeeze_rule_sizes_follow_their_sources():
    assert SqueezeRule().squeezed(72, 24, 0.25) == 24  # MobileNetV3: 18 of the hidden channels, to a multiple of 8
    assert SqueezeRule(of="input", divisor=1).squeezed(96, 16, 0.25) == 4  # EfficientNet
    assert SqueezeRule(of="input", limit=0.95).squeezed(200, 40, 0.25) == 16  # FBNetV3: 8 would lose too much of 10
    assert SqueezeRule().squeezed(72, 24, 0) == 0


def test_space_of_ones_own_has_the_genes_it_describes():
    spec = StagedSpec(
        in_channels=1, resolutions=(8,), classes=2, stem_channels=8, head_channels=8,
        stages=(
            StageSpec(widths=(8, 16), depths=(1, 2), forms=(IR, CONV), kernels=(3, 5), expansions=(2, 3), stride=2),
        ),
    )  # fmt: skip
    space = StagedSpace(spec, name="own")
    assert [gene.name for gene in space.genes] == [
        "stages.0.depth", "stages.0.width",
        "stages.0.0.form", "stages.0.0.expansion", "stages.0.0.kernel",
        "stages.0.1.form", "stages.0.1.expansion", "stages.0.1.kernel",
    ]  # fmt: skip
    conv = space.architecture({"stages.0.depth": 1, "stages.0.0.form": "conv", "stages.0.0.kernel": 5})
    assert "stages.0.0.expansion" not in conv.choices
    assert space.size == 2 * (6 + 6 * 6)


STAGE = StageSpec(widths=(8,), stride=2)
SPEC = StagedSpec(resolutions=(16,), stem_channels=8, stages=(STAGE,), head_channels=8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StageSpec(widths=()), "widths is empty"),
        (lambda: StageSpec(widths=(8,), depths=(0, 1)), "each must be at least 1"),
        (lambda: StageSpec(widths=(8,), kernels=(2, 3)), r"kernels \[2\] are even"),
        (lambda: StageSpec(widths=(8,), expansions=(0,)), "none makes a first block"),
        (
            lambda: StageSpec(widths=(8,), stride=2, forms=(Form(name="ffn", kernel=0),)),
            "one must change the shape",
        ),
        (
            lambda: StageSpec(widths=(8,), forms=(Form(name="mqa", layer="attention"),), attention=AttentionRule()),
            "one must change the shape",
        ),
        (lambda: dataclasses.replace(SPEC, stages=()), "no stages"),
        (lambda: dataclasses.replace(SPEC, stem_channels=0), "stem_channels is 0"),
        (lambda: dataclasses.replace(SPEC, resolutions=(3,)), "resolution is 3; the strides multiply to 4"),
        (lambda: dataclasses.replace(SPEC, resolutions=("big",)), "resolution is 'big'"),
        (
            lambda: dataclasses.replace(
                SPEC, stages=(dataclasses.replace(STAGE, kernels=(3, 5)),), depth_multipliers=(1.0, 2.0)
            ),
            "make those per stage",
        ),
        (lambda: spaces.get("fbnet", "imagenet", resolution=31), "resolution is 31.*at least 32"),
        (lambda: spaces.get("mobilenetv2", "tiny", classes=0), "classes is 0"),
        (
            lambda: spaces.get("mnasnet", "tiny").architecture({"stages.1.form": "ds", "stages.1.expansion": 2}),
            r"\['stages.1.expansion'\] are inactive",
        ),
        (
            lambda: spaces.get("fbnet", "tiny").architecture({"stages.0.0.form": "k7_e6"}),
            "'k7_e6' is not allowed; choose one of .*k3_e1",
        ),
    ],
)  # fmt: skip
def test_wrong_description_says_what_is_allowed(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


def test_single_choices_everywhere_make_a_space_of_one():
    space = StagedSpace(
        StagedSpec(resolutions=(8,), classes=2, stem_channels=8, stages=(StageSpec(widths=(8,), forms=(DS,)),),
                   head_channels=8),
        name="one",
    )  # fmt: skip
    assert space.size == 1
    assert space.supernet(seed=0)(space.example_inputs(2)[0], space.decode(space.largest())).shape == (2, 2)
