"""The pages over HTTP, without a browser: what they hold, how they fail, what they allow."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

import archsmith.service.dashboard as dashboard
from archsmith.service.dashboard.rendering import CONTENT_SECURITY_POLICY

from .conftest import Served
from .seed import new_search, true_front

TEMPLATES = sorted((Path(dashboard.__file__).parent / "templates").rglob("*.html"))


@pytest.fixture
def http(served: Served):
    with httpx.Client(base_url=served.url) as client:
        yield client


def test_home_leads_to_the_list(http):
    answer = http.get("/")
    assert answer.status_code == 307
    assert answer.headers["location"] == "/searches"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_nothing_that_the_policy_refuses(template):
    text = template.read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|https?://", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))


def test_pages_carry_a_policy_without_inline_or_foreign_sources(http, served):
    for path in ("/searches", f"/searches/{served.finished.id}", "/jobs", "/devices"):
        answer = http.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("path", ["/searches/none", "/searches/none/status", "/searches/none/trials/0"])
def test_unknown_search_is_a_page_that_says_so(http, path):
    answer = http.get(path)
    assert answer.status_code == 404
    assert "Not found" in answer.text
    assert "text/html" in answer.headers["content-type"]


def test_unknown_trial_is_not_found(http, served):
    assert http.get(f"/searches/{served.finished.id}/trials/999999").status_code == 404


def test_name_from_a_user_is_escaped(http, served):
    search = served.store.create_search(new_search("<script>alert(1)</script>"))
    text = http.get(f"/searches/{search.id}").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


@pytest.mark.parametrize("name", ["../routes.py", "..%2froutes.py", "%2e%2e/routes.py", "vendor", "nothing.js", "js/"])
def test_static_serves_listed_files_only(http, name):
    answer = http.get(f"/static/{name}")
    assert answer.status_code == 404
    assert "create_router" not in answer.text


def test_static_file_is_not_sent_twice(http):
    first = http.get("/static/archsmith.css")
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/css")
    again = http.get("/static/archsmith.css", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_chart_members_are_the_true_front_with_sources_and_errors(http, served):
    chart = http.get(f"/searches/{served.finished.id}/chart").json()
    assert {member["number"] for member in chart["members"]} == true_front(served.store, served.finished)
    verified = [member for member in chart["members"] if member["verified"]]
    assert len(verified) == 6
    for member in chart["members"]:
        assert member["believed"]["accuracy"]["source"] == "predicted:supernet"
        assert 0.5 < member["believed"]["accuracy"]["value"] < 1
        assert member["believed"]["latency_ms@host"]["error"] > 0
        assert member["believed"]["params"]["kind"] == "exact"
    for member in verified:
        assert member["verified"]["latency_ms@host"]["kind"] == "measured"
        assert "energy_mj@host" not in member["verified"]  # predicted even at verification: never shown as measured


def test_chart_history_grows_and_defaults_show_what_was_measured(http, served):
    chart = http.get(f"/searches/{served.finished.id}/chart").json()
    volumes = [point["hypervolume"] for point in chart["history"]]
    assert volumes == sorted(volumes)
    assert len(volumes) > 3
    assert chart["defaults"] == {"x": "latency_ms@host", "y": "accuracy", "view": "verified", "best": "accuracy"}


def test_report_states_each_figure_with_its_verdict(http, served):
    text = http.get(f"/searches/{served.finished.id}/report").text
    for part in ("0.64", "0.29 to 0.91", "agrees", "94\N{NO-BREAK SPACE}%", "1.18 ×", "better", "cannot tell"):
        assert part in text


def test_list_pages_by_key_and_filters_by_state(http, served):
    for index in range(52):
        served.store.create_search(new_search(f"filler {index}"))
    first = http.get("/searches?state=queued").text
    assert first.count('data-testid="search-row"') == 50
    following = re.search(r'href="(/searches\?state=queued&amp;before=\d+)"', first)
    assert following is not None
    second = http.get(following[1].replace("&amp;", "&")).text
    assert 2 <= second.count('data-testid="search-row"') < 50
    assert ">Newest<" in second
    assert "Succeeded</span>" not in second
    assert http.get("/searches?state=nonsense").status_code == 422


def test_list_without_searches_of_a_state_says_so(http):
    assert "No search is cancelled" in http.get("/searches?state=cancelled").text
