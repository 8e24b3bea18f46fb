from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from archsmith.errors import SpaceError
from archsmith.spaces.families.chain import ChainSpace
from archsmith.spaces.families.genet import PRESETS, REFERENCES, GENetStage


def build(preset):
    return ChainSpace(PRESETS[preset], name="genet", preset=preset)


def test_reference_resolution_can_be_chosen():
    space, architecture = REFERENCES["gernet_l"](224)
    assert space.ops(architecture)[0].inputs[0].shape == (3, 224, 224)


def test_kinds_are_full_bottleneck_and_depthwise_convolutions():
    space = build("tiny")
    convolutions = {}
    for kind in ("XX", "BL", "DW"):
        architecture = space.architecture({"stages.0.kind": kind, "stages.0.width": 32})
        ops = [op for op in space.ops(architecture) if op.name.startswith("stages.0.0.body") and op.kind == "conv2d"]
        convolutions[kind] = [
            (op.output.shape[0], op.attributes["kernel"], op.attributes["groups"], op.attributes["stride"])
            for op in ops
        ]
    assert convolutions == {
        "XX": [(32, 3, 1, 2), (32, 3, 1, 1)],
        "BL": [(8, 1, 1, 1), (8, 3, 1, 2), (32, 1, 1, 1)],
        "DW": [(96, 1, 1, 1), (96, 3, 96, 2), (32, 1, 1, 1)],
    }


def test_every_genome_of_tiny_is_its_own_network():
    space = build("tiny")
    shapes = np.indices([gene.cardinality for gene in space.genes], dtype=np.int16)
    everything = np.stack([grid.ravel() for grid in shapes], axis=1)
    assert len(everything) == space.size == len(np.unique(space.keys(everything), axis=0))


def test_space_has_no_supernet():
    with pytest.raises(SpaceError, match="no supernet"):
        build("tiny").supernet()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 1}, "resolution 1 is too small for a total stride of 2"),
        ({"stages": (GENetStage(depths=(0,), widths=(8,)),)}, "must be at least 1"),
        ({"stages": (GENetStage(depths=(1,), widths=(8,), kinds=("YY",)),)}, r"\['YY'\] are unknown; allowed: .*DW"),
    ],
)
def test_wrong_spec_says_what_is_allowed(change, message):
    with pytest.raises(SpaceError, match=message):
        dataclasses.replace(PRESETS["tiny"], **change)
