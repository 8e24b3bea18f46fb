from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from contracts.space_kit import NetworkKit, SpaceKit

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces import catalog


class TestTinySpaces(SpaceKit, NetworkKit):
    @pytest.fixture(scope="class", params=spaces.names())
    @classmethod
    def space(cls, request):
        return spaces.get(request.param, "tiny")


@pytest.mark.parametrize("name", [name for name, family in catalog.FAMILIES.items() if not family.supernet])
def test_supernet_of_a_family_without_one_is_refused(name):
    with pytest.raises(SpaceError, match="no supernet"):
        spaces.get(name, "tiny").supernet()


@pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for name in spaces.names() for preset in spaces.presets(name)]
)
def test_get_every_preset_twice_gives_equal_spaces(name, preset):
    first, again = spaces.get(name, preset), spaces.get(name, preset)
    genomes = first.sample(10, np.random.default_rng(0))
    assert first.identity == again.identity
    assert np.array_equal(first.keys(genomes), again.keys(genomes))
    assert (first.name, first.preset) == (name, preset)


def test_get_options_are_part_of_the_identity():
    assert spaces.get("mobilenet", "tiny", classes=3).identity != spaces.get("mobilenet", "tiny").identity


def test_get_without_preset_takes_the_first():
    assert spaces.get("mobilenet").preset == spaces.presets("mobilenet")[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spaces.get("mobilnet"), "'mobilnet' is unknown; choose one of .*mobilenet"),
        (lambda: spaces.presets("mobilnet"), "'mobilnet' is unknown"),
        (lambda: spaces.get("mobilenet", "digit"), "no preset 'digit'; choose one of .*digits"),
        (lambda: spaces.get("mobilenet", "tiny", clases=3), r"unknown options \['clases'\]; allowed: .*classes"),
        (lambda: spaces.get("mobilenet", "tiny", classes=0), "classes is 0"),
        (lambda: spaces.get("mobilenet", "tiny", resolution="big"), "resolution is 'big'"),
    ],
)
def test_get_wrong_request_says_what_is_allowed(call, message):
    with pytest.raises(SpaceError, match=message):
        call()


def test_presets_are_those_of_the_family():
    from archsmith.spaces.families.mobilenet import PRESETS

    assert set(catalog.FAMILIES["mobilenet"].presets) == set(PRESETS)


def test_import_of_spaces_does_not_import_torch():
    code = "import sys, archsmith.spaces.export; assert not {'torch', 'onnx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
