"""Pictures: well-formed, deterministic, and of every family."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from archsmith import spaces
from archsmith.spaces.drawing import boxes, draw_svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", spaces.names())
def test_draw_every_family_is_well_formed_and_inside_the_page(name):
    space = spaces.get(name, "tiny")
    for genome in [space.largest(), *space.sample(2, np.random.default_rng(0))]:
        architecture = space.decode(genome)
        text = draw_svg(space, architecture)
        assert text == draw_svg(space, architecture)
        root = ElementTree.fromstring(text)
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        drawn = [rect for rect in root.iter(f"{SVG}rect") if "rx" in rect.attrib]
        for rect in drawn:
            assert 0 <= float(rect.attrib["x"]) <= width - float(rect.attrib["width"])
            assert 0 <= float(rect.attrib["y"]) <= height - float(rect.attrib["height"])
        assert len(drawn) > len(boxes(space.ops(architecture)))  # the blocks and the legend
        assert architecture.key[:12] in text


def test_draw_needs_nothing_from_elsewhere():
    space = spaces.get("mobilenet", "tiny")
    text = draw_svg(space, space.decode(space.largest()))
    assert re.findall(r"<script|href|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_boxes_of_an_inverted_bottleneck_say_what_was_chosen():
    space = spaces.get("mobilenet", "tiny")
    choices = {"stages.0.depth": 2, "stages.0.1.kernel": 5, "stages.0.1.expansion": 2, "stages.1.depth": 1}
    drawn = {box.path: box for box in boxes(space.ops(space.architecture(choices)))}
    assert list(drawn) == ["stem", "stages.0.0", "stages.0.1", "stages.1.0", "head"]
    assert (drawn["stages.0.1"].main, drawn["stages.0.1"].more) == ("dw 5×5", "expand 2")
    assert drawn["stages.0.1"].skip
    assert not drawn["stages.0.0"].skip
    assert drawn["stages.1.0"].more.endswith("SE · ↓2")
    assert drawn["head"].kind == "dense"


def test_names_of_users_cannot_leave_their_text():
    space = spaces.get("mobilenet", "tiny")
    space.name = 'a"><b>&'
    root = ElementTree.fromstring(draw_svg(space, space.decode(space.smallest())))
    assert root.find(f"{SVG}text").text.startswith('a"><b>&')
