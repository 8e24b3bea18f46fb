"""Spaces in the gene language: what a definition means, and that its mistakes are named."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from contracts.space_kit import NetworkKit, SpaceKit, SupernetKit

from archsmith import spaces
from archsmith.errors import ConfigError, SpaceError
from archsmith.spaces.definition import definition_text, parse_definition, read_definition
from archsmith.spaces.families.user_presets import PRESETS
from archsmith.spaces.language import (
    MODULE_WORDS,
    Definition,
    block,
    branches,
    choose,
    one_of,
    repeat,
    residual,
    sequence,
    shared,
)  # fmt: skip

HEAD = (block("global_pool"), block("linear", out=10))


def space(*parts, genes=None, channels=4, resolution=8):
    body = sequence(*parts, *HEAD)
    return spaces.build(Definition(name="test", channels=channels, resolution=resolution, genes=genes or {}, body=body))


def everything(space):
    """All canonical genomes."""
    cardinalities = [gene.cardinality for gene in space.genes]
    grid = np.stack([axis.ravel() for axis in np.indices(cardinalities, dtype=np.int16)], axis=1)
    return np.unique(space.canonical(grid), axis=0)


class TestNested(SpaceKit, NetworkKit, SupernetKit):
    """Choices in choices in repetitions, in Python; the presets run through the kits with the catalog."""

    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        inner = choose({
            "wide": block("conv", out=shared("width"), kernel=one_of(1, 3), groups=one_of(1, 2)),
            "narrow": sequence(
                block("depthwise", kernel=3, dilation=one_of(1, 2)),
                block("conv", out=shared("width"), kernel=1, norm=one_of(True, False)),
            ),
            "up": block("conv_transpose", out=shared("width"), kernel=one_of(1, 3)),
        })  # fmt: skip
        return space(
            inner,
            repeat(one_of(1, 2), residual(block("squeeze_excite")), block("norm"), tied=True),
            branches(block("conv", out=8), block("max_pool"), block("activation", function="gelu"), merge="concat"),
            block("conv", out=shared("width", times=2), stride=one_of(1, 2)),
            genes={"width": one_of(8, 12)},
        )


def test_conditions_follow_the_nesting():
    made = space(
        choose({"a": repeat(one_of(0, 1, 2), block("conv", kernel=one_of(3, 5))), "b": block("identity")}, name="part")
    )
    by_name = {gene.name: gene for gene in made.genes}
    assert list(by_name) == ["part.choice", "part.a.depth", "part.a.0.kernel", "part.a.1.kernel"]
    assert by_name["part.a.1.kernel"].when[0].values == (2,)
    assert made.size == 1 + 2 + 4 + 1
    depth = {len([op for op in made.ops(made.decode(g)) if op.kind == "conv2d"]) for g in everything(made)}
    assert depth == {0, 1, 2}


def test_keys_equal_exactly_where_computations_are_equal():
    """Two added branches: 5 unordered pairs of weightless choices, and what has weights keeps its place."""
    options = {"skip": block("identity"), "none": block("zero"), "pool": block("avg_pool"), "pool2": block("avg_pool")}
    weighted = {"conv": block("conv", activation="")}
    made = space(branches(choose({**options, **weighted}), choose({**options, **weighted})))
    genomes = everything(made)
    keys = made.keys(genomes)
    _, found = np.unique(keys, axis=0, return_inverse=True)
    # Same class if and only if same outputs under tied weights.
    supernet, (x,) = made.supernet(seed=0).eval(), made.example_inputs(3)
    with torch.no_grad():
        outputs = [supernet(x, made.decode(genome)) for genome in genomes]
    for (a, one), (b, other) in itertools.combinations(enumerate(outputs), 2):
        assert torch.allclose(one, other, atol=1e-6) == (found[a] == found[b])
    # {skip, pool, conv0, conv1} and zero: per unordered weightless multiset and per placed convolution.
    weightless = len([(), ("s",), ("p",), ("s", "s"), ("s", "p"), ("p", "p")])
    assert found.max() + 1 == weightless + 2 * len(["alone", "s", "p"]) + 1


def test_zero_branches_are_not_built():
    made = space(branches(choose({"none": block("zero"), "conv": block("conv")}), block("identity")))
    architecture = made.architecture({"0.0.choice": "none"})
    assert [op.kind for op in made.ops(architecture)] == ["global_avg_pool", "linear"]


def test_rounding_to_one_size_is_one_key():
    made = space(block("inverted_bottleneck", expansion=one_of(2, 2.1, 4)))
    assert len(np.unique(made.keys(everything(made)), axis=0)) == 2


def test_shared_gene_that_is_not_reached_does_not_count():
    made = space(
        choose({"conv": block("conv", out=shared("w")), "skip": block("identity")}), genes={"w": one_of(8, 16)}
    )
    assert made.size == 4
    assert len(np.unique(made.keys(everything(made)), axis=0)) == 3


def test_choose_by_a_declared_gene_moves_together():
    made = space(
        *(choose({"a": block("conv"), "b": block("max_pool")}, by="kind") for _ in range(2)),
        genes={"kind": one_of("a", "b")},
    )
    assert made.size == 2
    assert [len(made.ops(made.decode(g))) for g in everything(made)] == [8, 4]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_survive_the_way_to_text_and_processes(preset):
    definition = read_definition(PRESETS[preset])
    assert read_definition(definition_text(definition) + "\n") == definition
    made = spaces.build(definition)
    again = spaces.get("custom", definition=made.options["definition"])
    assert again.identity == made.identity == pickle.loads(pickle.dumps(made)).identity


def test_golden_key():
    made = spaces.load(PRESETS["tiny"])
    assert made.decode(made.smallest()).key == GOLDEN_KEY


GOLDEN_KEY = "1b5f9909d5f6d5bf0ca386999da2ea66"


def test_module_words_are_those_of_torch():
    assert {word for word in dir(torch.nn.Module()) if not word.startswith("_")} <= MODULE_WORDS


CONV = {"conv": {"out": 8}}


@pytest.mark.parametrize(
    ("change", "place", "allowed"),
    [
        ({"body": [{"conv": {"kernl": 3}}]}, "body[0].conv.kernl", "one of out, kernel"),
        ({"body": [{"conv": {"kernel": "x"}}]}, "body[0].conv.kernel", "whole number"),
        ({"body": [{"conv": {"kernel": {"one_of": [3, 0]}}}]}, "body[0].conv.kernel", "whole number"),
        ({"body": [{"conv": {"kernel": {"one_of": [3, 3]}}}]}, "body[0].conv.kernel.one_of", "differ"),
        ({"body": [{"conv": {"kernel": {"one_of": [3], "default": 5}}}]}, "conv.kernel.default", r"one of \[3\]"),
        ({"body": [{"conf": {}}]}, "body[0]", "exactly one of activation"),
        ({"body": [{**CONV, "names": "a"}]}, "body[0].names", "beside conv: name"),
        ({"body": [{**CONV, "name": "train"}]}, ".name", "no word that torch modules use"),
        ({"body": [{"linear": {}}]}, "body[0].linear.out", "whole number"),
        ({"body": [{"choose": {}}]}, "body[0].choose", "at least one named option"),
        ({"body": [{"branches": [CONV], "merge": "mul"}]}, "body[0].merge", "add or concat"),
        ({"body": [{"repeat": [CONV]}]}, "body[0].times", "one_of"),
        ({"body": [{"repeat": [CONV], "times": -1}]}, "body[0].times", "whole number"),
        ({"body": [{"conv": {"out": {"gene": "w"}}}]}, "0.out", "declared genes: there are none"),
        ({"body": []}, "body", "at least one part"),
        ({"genes": {"w": {"one_of": [1, 2]}}}, "genes", "refers to"),
        ({"input": {"channels": 0, "resolution": 8}}, "input.channels", "at least 1"),
        ({"input": {"channels": 1}}, "input.resolution", "must be given"),
        ({"inputs": {}}, "inputs", "one of name, input, body, genes"),
        ({"body": [{"inverted_bottleneck": {"activation": {"one_of": ["relu", "silu"]}}}]}, "activation", "single"),
    ],
)  # fmt: skip
def test_wrong_definition_names_place_and_allowed(change, place, allowed):
    data = {"name": "a", "input": {"channels": 4, "resolution": 8}, "body": [CONV]} | change
    with pytest.raises(ConfigError, match=allowed) as caught:
        spaces.build(parse_definition(data))
    assert place in caught.value.place


def test_mistake_in_a_file_names_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: a\ninput: {channels: 1, resolution: 8}\nbody:\n  - conv: {out: 8}\n  - pool: {}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml, line 5: body\[1\]"):
        spaces.load(path)
    with pytest.raises(ConfigError, match="line 1: nam: got 'nam'"):
        spaces.load("nam: a\nbody: [conv]\n")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([branches(block("conv", out=8), block("identity"))], r"branches to add must have one shape; got 0 \(8"),
        ([residual(block("conv", stride=one_of(1, 2)))], "happens when 0.body.stride = 2"),
        ([block("zero"), block("conv")], "must end a branch"),
        ([block("conv", kernel=4)], "kernel 4 is even"),
        ([block("conv", groups=3)], "divide by groups 3"),
        ([block("linear", out=3)], "put global_pool before it"),
        ([block("conv", kernel=9, padding=1)] * 2, "use a larger input or smaller strides"),
        (
            [block("conv", out=one_of(*range(1, 200))), block("conv", kernel=one_of(*range(1, 200, 2)))],
            "combinations; allowed",
        ),
    ],
)
def test_parts_that_do_not_fit_name_place_and_choices(parts, message):
    with pytest.raises(SpaceError, match=message):
        space(*parts)
