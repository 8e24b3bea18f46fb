from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from archsmith.service.store.store import Store

from .conftest import Served, fill, new_search, serving, settings_for

ROUTE = "/api/v1/searches"


def test_create_search_valid_job_stores_resolved_job(served: Served, job: dict) -> None:
    response = served.http.post(ROUTE, json=job)
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"{ROUTE}/{body['id']}"
    assert body["state"] == "queued"
    assert body["job"]["objectives"][1] == {"name": "latency_ms", "direction": "min", "device": "host"}
    assert body["job"]["supernet"]["steps"] > 0
    assert served.http.get(response.headers["location"]).json() == body


@pytest.mark.parametrize(
    ("change", "place", "allowed", "hint"),
    [
        ({"nmae": "x"}, "nmae", "name, system, space", "Did you mean 'name'?"),
        ({"space": {"name": "mobilnet"}}, "space.name", "mobilenet", "Did you mean 'mobilenet'?"),
        ({"space": {"name": "mobilenet", "preset": "tin"}}, "space.preset", "tiny", "Did you mean 'tiny'?"),
        ({"task": {"name": "digits_shiftd"}}, "task.name", "digits_shifted", "Did you mean 'digits_shifted'?"),
        (
            {"task": {"name": "image_arrays", "options": {"path": "/etc/passwd"}}},
            "task.path",
            "digits",
            "archsmith run",
        ),
        ({"task": {"name": "image_arrays", "path": "/etc/passwd"}}, "task.path", "digits", "archsmith run"),
        ({"devices": ["hots"]}, "devices[0]", "host", "Did you mean 'host'?"),
        ({"objectives": [{"name": "acuracy"}]}, "objectives[0].name", "accuracy", "Did you mean 'accuracy'?"),
        ({"objectives": [{"name": "accuracy", "direction": "min"}]}, "objectives[0].direction", "max", ""),
        ({"objectives": [{"name": "params", "device": "host"}]}, "objectives[0].device", "no device", "params"),
        ({"budget": {}}, "budget", "at least one of trials, minutes, watt_hours", ""),
        ({"budget": {"trials": "8"}}, "budget.trials", "a whole number", ""),
        ({"constraints": ["params < 5"]}, "constraints[0]", "<quantity> <= <number>", ""),
        ({"verify": {"members": 4}}, "verify.members", "at least 5", ""),
        ({"pool": {"kind": "local"}}, "pool", "nothing", "ARCHSMITH_POOL"),
        (
            {"strategy": {"name": "nsga2", "options": {"populaton": 3}}},
            "strategy.options.populaton",
            "population",
            "Did",
        ),
    ],
)
def test_create_search_bad_job_names_place_and_stores_nothing(
    served: Served, job: dict, change: dict, place: str, allowed: str, hint: str
) -> None:
    response = served.http.post(ROUTE, json=job | change)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["place"] == place
    assert allowed in error["allowed"]
    assert hint in error["hint"]
    assert served.http.get(ROUTE).json()["items"] == []


def test_create_search_infeasible_constraint_names_tightest_value(served: Served, job: dict) -> None:
    response = served.http.post(ROUTE, json=job | {"constraints": ["params <= 10"]})
    assert response.status_code == 422
    assert response.json()["code"] == "infeasible"
    assert "params" in response.json()["detail"]
    assert served.http.get(ROUTE).json()["items"] == []


def test_create_search_same_key_replays(served: Served, job: dict) -> None:
    headers = {"Idempotency-Key": "once"}
    first = served.http.post(ROUTE, json=job, headers=headers)
    again = served.http.post(ROUTE, json=job, headers=headers)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = served.http.post(ROUTE, json=job | {"seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")


def test_create_search_50_identical_at_once_store_one(store: Store, tmp_path: Path, job: dict) -> None:
    with serving(settings_for(tmp_path), store) as running:

        def submit(_: int) -> httpx.Response:
            return httpx.post(running.url + ROUTE, json=job, headers={"Idempotency-Key": "race"}, timeout=120)

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(submit, range(50)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len(store.searches()) == 1


def test_list_searches_pages_cover_all_once(served: Served) -> None:
    for number in range(5):
        served.store.create_search(new_search(f"search {number}"))
    seen: list[int] = []
    cursor = None
    while True:
        page = served.http.get(ROUTE, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["number"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]


def test_list_searches_foreign_cursor_refused(served: Served) -> None:
    for number in range(3):
        served.store.create_search(new_search(f"search {number}"))
    cursor = served.http.get(ROUTE, params={"limit": 1}).json()["next_cursor"]
    for params in ({"cursor": cursor, "state": "queued"}, {"cursor": f"A{cursor}"}, {"cursor": "ü"}):
        response = served.http.get(ROUTE, params=params)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-cursor")


def test_pause_resume_cancel_delete_follow_the_state_machine(served: Served) -> None:
    search_id = served.store.create_search(new_search()).id
    path = f"{ROUTE}/{search_id}"
    assert served.http.delete(path).status_code == 409
    assert served.http.post(f"{path}/pause").json()["state"] == "paused"
    assert served.http.post(f"{path}/resume").json()["state"] == "queued"
    assert served.http.post(f"{path}/cancel").json()["state"] == "cancelled"
    conflict = served.http.post(f"{path}/resume")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "conflict")
    assert served.http.delete(path).status_code == 204
    assert served.http.get(path).status_code == 404


def test_search_can_be_named_by_number(served: Served) -> None:
    search_id = fill(served.store)
    assert served.http.get(f"{ROUTE}/1").json()["id"] == search_id


def test_rename_needs_the_tag_and_refuses_a_stale_one(served: Served, filled: str) -> None:
    path = f"/api/v1/searches/{filled}"
    etag = served.http.get(path).headers["etag"]
    assert served.http.get(path, headers={"If-None-Match": etag}).status_code == 304
    missing = served.http.patch(path, json={"name": "new"})
    assert (missing.status_code, missing.json()["code"]) == (428, "if-match-required")
    renamed = served.http.patch(path, json={"name": "new"}, headers={"If-Match": etag})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "new")
    assert renamed.headers["etag"] == served.http.get(path).headers["etag"] != etag
    stale = served.http.patch(path, json={"name": "newer"}, headers={"If-Match": etag})
    assert (stale.status_code, stale.json()["code"]) == (412, "changed-meanwhile")
    assert served.http.patch(path, json={"name": ""}, headers={"If-Match": "*"}).status_code == 422
    assert served.http.patch(path, json={"state": "failed"}, headers={"If-Match": "*"}).status_code == 422
    assert served.http.patch(path, json={"name": "newer"}, headers={"If-Match": "*"}).json()["name"] == "newer"


def test_rename_is_no_conflict_with_a_search_that_goes_on(served: Served, filled: str) -> None:
    path = f"/api/v1/searches/{filled}"
    etag = served.http.get(path).headers["etag"]
    served.store.pause(filled)
    assert served.http.get(path, headers={"If-None-Match": etag}).status_code == 200
    assert served.http.patch(path, json={"name": "new"}, headers={"If-Match": etag}).status_code == 200


def test_cancel_mode_is_shown_and_checked(served: Served, filled: str) -> None:
    path = f"/api/v1/searches/{filled}/cancel"
    assert served.http.post(path, params={"mode": "gently"}).status_code == 422
    assert served.http.post(path).json()["cancel_mode"] == "drain"
    assert served.http.post(path, params={"mode": "kill"}).json()["cancel_mode"] == "kill"


def test_metrics_tell_searches_trials_and_queue(served: Served, filled: str) -> None:
    served.store.create_search(new_search())
    text = served.http.get("/metrics").text
    for line in (
        'archsmith_searches{state="running"} 1.0',
        'archsmith_searches{state="paused"} 0.0',
        "archsmith_trials 12.0",
        "archsmith_queue_depth 1.0",
    ):
        assert line in text
