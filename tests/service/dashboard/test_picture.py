"""The picture of a trial's architecture: on its page, by itself, and where there is none."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest

from archsmith import spaces
from archsmith.service.dashboard.rendering import CONTENT_SECURITY_POLICY
from archsmith.service.store.records import SearchRecord
from archsmith.spaces.drawing import draw_svg

from .conftest import Served
from .seed import Trials, new_search, record

HOSTILE = "<script>alert(1)</script>"
DEFINITION = {
    "name": "spoken",
    "input": {"channels": 1, "resolution": 8},
    "body": [
        {"repeat": [{"conv": {"out": 8, "kernel": {"one_of": [3, 5]}}}], "times": 2, "name": "convs"},
        "global_pool",
        {"linear": {"out": 10}, "name": "classifier"},
    ],
}


@pytest.fixture
def http(served: Served):
    with httpx.Client(base_url=served.url) as client:
        yield client


def search_with(served: Served, section: object, trials: Trials) -> SearchRecord:
    """A running search whose job names the space by `section`, with the first 16 of `trials`."""
    given = new_search("drawn")
    search = served.store.create_search(dataclasses.replace(given, config={**given.config, "space": section}))
    lease = served.store.claim("worker-1", job_id=search.id)
    assert lease is not None
    served.store.set_reference(lease, (-0.80, 0.30, 0.50))
    record(served.store, lease, trials, 16)
    return search


def test_page_embeds_the_picture_of_its_architecture(http, served):
    page = http.get(f"/searches/{served.finished.id}/trials/3")
    image = re.search(r"<img [^>]*>", page.text)
    assert image is not None
    assert f'src="/searches/{served.finished.id}/trials/3/architecture.svg"' in image[0]
    assert re.search(r'alt="Architecture of trial 3, [^"]+"', image[0])
    assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY

    space = spaces.get("mobilenet", "digits")
    genome = np.array(served.store.trial(served.finished.id, 3).genome)
    answer = http.get(f"/searches/{served.finished.id}/trials/3/architecture.svg")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.text == draw_svg(space, space.decode(genome))


def test_failed_trial_is_drawn_too(http, served):
    number = next(n for n in range(16) if served.store.trial(served.finished.id, n).error)
    assert http.get(f"/searches/{served.finished.id}/trials/{number}/architecture.svg").status_code == 200


def test_picture_may_use_its_own_style_and_nothing_else(http, served):
    answer = http.get(f"/searches/{served.finished.id}/trials/3/architecture.svg")
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_picture_is_not_sent_twice_and_differs_by_architecture(http, served):
    where = f"/searches/{served.finished.id}/trials"
    first = http.get(f"{where}/3/architecture.svg")
    assert served.store.trial(served.finished.id, 3).arch_key in first.headers["etag"]
    again = http.get(f"{where}/3/architecture.svg", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "private, no-cache"
    other = http.get(f"{where}/4/architecture.svg", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200
    assert other.text != first.text


def test_picture_of_a_user_s_own_space_is_a_whole_document(http, served):
    section = {"name": "custom", "options": {"definition": json.dumps(DEFINITION)}}
    trials = Trials()
    trials.space = spaces.get("custom", **section["options"])
    search = search_with(served, section, trials)
    answer = http.get(f"/searches/{search.id}/trials/0/architecture.svg")
    assert answer.status_code == 200
    texts = [one.text for one in ElementTree.fromstring(answer.text).iter() if one.text]
    assert "convs" in " ".join(texts)


@pytest.mark.parametrize(
    "section",
    [
        {"name": HOSTILE},
        {"name": "mobilenet", "preset": HOSTILE},
        {"name": "custom", "options": {"definition": json.dumps({**DEFINITION, "name": HOSTILE})}},
        {"name": "custom", "options": {"definition": json.dumps(DEFINITION).replace("convs", HOSTILE)}},
    ],
    ids=["family", "preset", "definition", "part"],
)
def test_words_of_a_user_are_nowhere_markup(http, served, section):
    search = search_with(served, section, Trials())
    for path in ("", "/architecture.svg"):
        assert HOSTILE not in http.get(f"/searches/{search.id}/trials/0{path}").text


@pytest.mark.parametrize("place", ["{id}/trials/999999", "none/trials/0"])
def test_unknown_trial_has_no_picture(http, served, place):
    answer = http.get(f"/searches/{place.format(id=served.finished.id)}/architecture.svg")
    assert answer.status_code == 404
    assert "svg" not in answer.headers["content-type"]


@pytest.mark.parametrize(
    "section",
    [
        {"name": "mobilenet", "preset": "renamed since"},
        {"name": "gone"},
        {"name": "mobilenet", "preset": "edge64"},
        {"name": "mobilenet", "preset": "digits", "options": {"classes": 7}},
        {"name": "custom", "options": {"definition": "[]"}},
        {"name": "mobilenet", "preset": "digits", "new": 1},
        {},
        "mobilenet",
    ],
    ids=["preset", "family", "other genes", "other meaning", "definition", "newer field", "empty", "text"],
)
def test_space_that_cannot_be_rebuilt_leaves_the_table_of_choices(http, served, section):
    search = search_with(served, section, Trials())
    page = http.get(f"/searches/{search.id}/trials/0")
    assert page.status_code == 200
    assert "<img" not in page.text
    assert "architecture.svg" not in page.text
    assert page.text.count('data-testid="genes"') >= 1
    assert http.get(f"/searches/{search.id}/trials/0/architecture.svg").status_code == 404


def test_picture_needs_a_key_where_pages_do(guarded):
    path = f"{guarded.url}/searches/{guarded.finished.id}/trials/3/architecture.svg"
    assert httpx.get(path).status_code == 401
