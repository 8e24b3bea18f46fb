from __future__ import annotations

from archsmith import spaces
from archsmith.hwmodels import catalog as devices

from .conftest import Served, new_search


def test_devices_are_those_of_the_catalog(served: Served) -> None:
    listed = served.http.get("/api/v1/devices").json()["items"]
    assert [item["name"] for item in listed] == list(devices.names())
    shown = served.http.get("/api/v1/devices/raspberry_pi_4").json()
    assert shown["description"]["idle_power_w"]["source"]
    assert (
        served.http.get("/api/v1/devices/rasberry_pi_4").json()["errors"][0]["hint"] == "Did you mean 'raspberry_pi_4'?"
    )


def test_spaces_show_exact_size(served: Served) -> None:
    shown = served.http.get("/api/v1/spaces/mobilenet", params={"preset": "tiny"}).json()
    assert int(shown["size"]) == spaces.get("mobilenet", "tiny").size
    assert served.http.get("/api/v1/spaces/mobilenet", params={"preset": "huge"}).status_code == 422
    assert served.http.get("/api/v1/spaces/nothing").status_code == 404


def test_spaces_sample_is_valid(served: Served) -> None:
    request = {"preset": "tiny", "n": 3, "seed": 1}
    sample = served.http.post("/api/v1/spaces/mobilenet/sample", json=request).json()
    for index, choices in enumerate(sample["choices"]):
        body = {"preset": "tiny", "choices": choices}
        checked = served.http.post("/api/v1/spaces/mobilenet/validate", json=body).json()
        assert checked["key"] == sample["keys"][index]
        assert checked["genome"] == sample["genomes"][index]
        assert checked["params"] == sample["params"][index]


def test_spaces_validate_unknown_gene_is_named(served: Served) -> None:
    body = {"preset": "tiny", "choices": {"depth": 3}}
    response = served.http.post("/api/v1/spaces/mobilenet/validate", json=body)
    assert response.status_code == 422
    assert "depth" in response.json()["detail"]


def test_jobs_list_searches(served: Served) -> None:
    first, second = (served.store.create_search(new_search(name)).id for name in ("a", "b"))
    page = served.http.get("/api/v1/jobs", params={"limit": 1}).json()
    assert [item["id"] for item in page["items"]] == [second]
    page = served.http.get("/api/v1/jobs", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in page["items"]] == [first]
    assert page["next_cursor"] is None
    assert served.http.get(f"/api/v1/jobs/{first}").json()["kind"] == "search"
