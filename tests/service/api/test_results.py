from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from archsmith.service.api.results import _escape

from .conftest import SOURCES, Served

ROUTE = "/api/v1/searches"


def test_trials_pages_cover_all_once(served: Served, filled: str) -> None:
    seen: list[int] = []
    params: dict[str, object] = {"limit": 5}
    while True:
        page = served.http.get(f"{ROUTE}/{filled}/trials", params=params).json()
        seen += [item["number"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == list(range(12))


def test_trials_filters_select(served: Served, filled: str) -> None:
    infeasible = served.http.get(f"{ROUTE}/{filled}/trials", params={"state": "infeasible"}).json()["items"]
    assert [item["number"] for item in infeasible] == [11]
    front = served.http.get(f"{ROUTE}/{filled}/trials", params={"on_front": "believed"}).json()["items"]
    assert [item["number"] for item in front] == list(range(11))


def test_trial_has_natural_values_with_sources(served: Served, filled: str) -> None:
    trial = served.http.get(f"{ROUTE}/{filled}/trials/0").json()
    assert trial["values"] == pytest.approx({"accuracy": 0.1, "latency_ms@host": 0.01})
    assert trial["sources"] == dict(zip(trial["values"], SOURCES, strict=True))
    assert trial["choices"] == {"depth": 0}


def test_front_json_and_etag(served: Served, filled: str) -> None:
    response = served.http.get(f"{ROUTE}/{filled}/front")
    front = response.json()
    assert (front["view"], len(front["members"])) == ("believed", 11)
    assert front["members"][0]["sources"]["accuracy"] == "predicted:supernet"
    unchanged = served.http.get(f"{ROUTE}/{filled}/front", headers={"If-None-Match": response.headers["etag"]})
    assert unchanged.status_code == 304
    verified = served.http.get(f"{ROUTE}/{filled}/front", params={"view": "verified"})
    assert verified.json()["members"] == []
    assert verified.headers["etag"] != response.headers["etag"]


def test_front_csv_equals_json(served: Served, filled: str) -> None:
    front = served.http.get(f"{ROUTE}/{filled}/front").json()
    response = served.http.get(f"{ROUTE}/{filled}/front", params={"format": "csv"})
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [float(row["accuracy"]) for row in rows] == [member["values"]["accuracy"] for member in front["members"]]
    assert {row["accuracy source"] for row in rows} == {"predicted:supernet"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@cmd", "\tx", "\rx"])
def test_csv_text_that_looks_like_a_formula_is_quoted(text: str) -> None:
    assert _escape(text) == f"'{text}"
    assert _escape("plain") == "plain"


def test_front_history_ends_at_the_current_version(served: Served, filled: str) -> None:
    history = served.http.get(f"{ROUTE}/{filled}/front/history").json()
    assert history["items"][-1]["version"] == served.http.get(f"{ROUTE}/{filled}/front").json()["version"]
    assert history["items"][-1]["hypervolume"] > 0


def test_points_are_packed_columns(served: Served, filled: str) -> None:
    params = {"x": "latency_ms@host", "y": "accuracy"}
    body = served.http.get(f"{ROUTE}/{filled}/points", params=params).content
    count = len(body) // 9
    x, y = np.frombuffer(body[: 8 * count], dtype="<f4").reshape(2, count)
    feasible = np.frombuffer(body[8 * count :], dtype=np.uint8)
    share = np.linspace(0.1, 0.9, 12)
    np.testing.assert_allclose(y, share, rtol=1e-6)
    np.testing.assert_allclose(x, share**2, rtol=1e-6)
    assert feasible.tolist() == [1] * 11 + [0]


def test_points_unknown_axis_names_the_labels(served: Served, filled: str) -> None:
    response = served.http.get(f"{ROUTE}/{filled}/points", params={"x": "latency_ms", "y": "accuracy"})
    (error,) = response.json()["errors"]
    assert (response.status_code, error["place"]) == (422, "query.x")
    assert "latency_ms@host" in error["allowed"]


def test_artifact_content_honours_range(served: Served, filled: str) -> None:
    (artifact,) = served.http.get(f"{ROUTE}/{filled}/artifacts").json()["items"]
    assert (artifact["role"], artifact["trial_number"], artifact["size"]) == ("weights", 3, 10)
    path = f"/api/v1/artifacts/{artifact['id']}/content"
    assert served.http.get(path).content == b"0123456789"
    part = served.http.get(path, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert served.http.get(path, headers={"Range": "bytes=99-"}).status_code == 416
    assert "attachment" in served.http.get(path).headers["content-disposition"]
    assert served.http.get(f"/api/v1/artifacts/{artifact['id']}").json()["sha256"] == artifact["sha256"]
