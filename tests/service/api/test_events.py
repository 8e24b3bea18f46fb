from __future__ import annotations

from archsmith.service.client.watch import parse_events
from archsmith.service.store.records import JobState

from .conftest import Served, new_search


def test_events_resume_after_last_event_id(served: Served) -> None:
    record = served.store.create_search(new_search())
    served.store.pause(record.id)
    served.store.cancel(record.id)
    path = f"/api/v1/searches/{record.id}/events"
    with served.http.stream("GET", path) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        everything = list(parse_events(response.iter_lines()))
    assert everything[-1].kind == "end"
    states = [event.data["data"]["state"] for event in everything[:-1] if event.kind == "state"]
    assert states == ["queued", "paused", "cancelled"]
    with served.http.stream("GET", path, headers={"Last-Event-ID": everything[0].id or ""}) as response:
        rest = list(parse_events(response.iter_lines()))
    assert rest == everything[1:]


def test_events_appear_while_the_stream_is_open(served: Served) -> None:
    record = served.store.create_search(new_search())
    with served.http.stream("GET", f"/api/v1/searches/{record.id}/events") as response:
        events = parse_events(response.iter_lines())
        assert next(events).data["data"]["state"] == "queued"
        served.store.cancel(record.id)
        assert next(events).data["data"]["state"] == "cancelled"
        assert next(events).data == {"state": JobState.CANCELLED.value}


def test_events_bad_last_event_id_refused(served: Served) -> None:
    record = served.store.create_search(new_search())
    response = served.http.get(f"/api/v1/searches/{record.id}/events", headers={"Last-Event-ID": "latest"})
    assert response.status_code == 422


def test_events_unknown_search_is_a_problem(served: Served) -> None:
    response = served.http.get("/api/v1/searches/none/events")
    assert (response.status_code, response.json()["code"]) == (404, "not-found")
