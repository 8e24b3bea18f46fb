"""Devices over REST: registering, the agent's protocol, uploads, and what bad input is answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archsmith.errors import ConfigError, DeviceError
from archsmith.service import agent
from archsmith.service.api.devices import AGENT
from archsmith.service.auth import create_key, digest_of
from archsmith.service.client.client import Client
from archsmith.service.client.transport import ApiError
from archsmith.service.store.device_tasks import NewTask
from archsmith.service.store.records import JobState, Role
from archsmith.service.store.store import Store

from .conftest import Served, serving, settings_for

DEVICES = "/api/v1/devices"
INFO = {"runtime": "onnxruntime 1", "cpu": "a board"}
RESULT: dict[str, Any] = {
    "format": 1,
    "latency_ms": 1.5,
    "iqr_ms": 0.1,
    "repeats": 96,
    "precision": 0.01,
    "noisy": False,
    "reference_ms": 0.5,
    "slowdown": 1.01,
    "conditions": {"runtime": "onnxruntime 1", "threads": 1},
}


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url) as opened:
        yield opened


def submit(store: Store, *keys: str, device: str = "board") -> None:
    store.tasks.hello(device, INFO)
    packed = {"data": "AA==", "fills": []}
    store.tasks.submit(device, [NewTask(key=key, model=packed, timing={"threads": 1}) for key in keys])


def claim(served: Served, worker: str = "a", device: str = "board") -> Any:
    return served.http.post(f"{DEVICES}/{device}/tasks/claim", json={"worker": worker})


def test_agent_is_handed_out(served: Served) -> None:
    answer = served.http.get("/agent.py")
    assert answer.headers["content-type"].startswith("text/x-python")
    assert answer.content == AGENT.read_bytes() == Path(agent.__file__).read_bytes()


def test_device_is_registered_by_file_or_by_little(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "board.yaml"
    file.write_text("name: board\ntitle: A board\nkind: cpu\nidle_power_w: {value: 2, source: data sheet}\n")
    board = client.devices.add(file)
    assert (board.title, board.registered, board.seen) == ("A board", True, None)
    assert board.description["idle_power_w"] == {"value": 2.0, "source": "data sheet"}
    phone = client.devices.add({"name": "phone", "title": "A phone", "kind": "cpu"})
    assert phone.tasks == {}
    assert {"board", "phone", "host"} <= {device.name for device in client.devices.list()}
    assert not client.devices.get("raspberry_pi_4").registered


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("name: x\ntitle: X\nkind: toaster\n", "one of cpu"),
        ("name: x\ntitle: X\nkind: cpu\nidle_power: {value: 2, source: s}\n", "The unit is part of the key"),
        ("name: x\ntitle: X\nkind: cpu\nidle_power_w: {value: -2, source: s}\n", "above 0"),
        ("name: x\ntitle: X\nkind: cpu\nbogus: 1\n", "bogus"),
        ("name: host\ntitle: X\nkind: cpu\n", "machine the service runs on"),
        ("name: a/b\ntitle: X\nkind: cpu\n", "letters, digits"),
        ("name: [", "definition"),
        ({"name": "x"}, "title"),
    ],
)
def test_bad_device_file_is_refused_in_words(served: Served, definition: object, message: str) -> None:
    answer = served.http.post(DEVICES, json={"definition": definition})
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert served.store.devices() == []


def test_agent_registers_a_device_that_nobody_has_described(served: Served, client: Client) -> None:
    hello = {"worker": "agent 1", "info": INFO}
    assert served.http.post(f"{DEVICES}/pocket/agent", json=hello).status_code == 200
    device = client.devices.get("pocket")
    assert (device.title, device.kind) == ("a board", "cpu")
    assert device.agent == {**INFO, "worker": "agent 1"}
    assert device.silent_s is not None
    for name in ("host", "..", "a b"):
        assert served.http.post(f"{DEVICES}/{name}/agent", json=hello).status_code in (404, 405, 422)


def test_task_is_claimed_renewed_and_done_once(served: Served) -> None:
    submit(served.store, "a")
    task = claim(served).json()
    assert task["model"] == {"data": "AA==", "fills": []}
    assert len(task["reference"]["fills"]) == 3
    assert (task["epoch"], task["ttl_s"], task["format"]) == (1, 60.0, 1)
    assert claim(served, "b").status_code == 204
    place = f"{DEVICES}/board/tasks/{task['id']}"
    mine = {"worker": "a", "epoch": 1}
    assert served.http.post(f"{place}/renew", json=mine).json() == {"cancel": False}
    stale = served.http.post(f"{place}/renew", json=mine | {"epoch": 2})
    assert (stale.status_code, stale.json()["code"]) == (409, "lease-lost")
    assert served.http.post(f"{place}/result", json=mine | {"result": RESULT}).status_code == 200
    again = served.http.post(f"{place}/result", json=mine | {"result": RESULT | {"latency_ms": 9.0}})
    assert (again.status_code, again.json()["code"]) == (409, "lease-lost")
    stored = served.store.tasks.find("board", ["a"])["a"].result
    assert stored is not None
    assert stored["latency_ms"] == 1.5


def test_task_of_another_device_is_not_found(served: Served) -> None:
    submit(served.store, "a")
    task = claim(served).json()
    answer = served.http.post(f"{DEVICES}/phone/tasks/{task['id']}/renew", json={"worker": "a", "epoch": 1})
    assert answer.status_code == 404


def test_task_is_released_or_given_up(served: Served) -> None:
    submit(served.store, "a", "b")
    for action, more in (("release", {}), ("fail", {"message": "no such kernel"})):
        task = claim(served).json()
        mine = {"worker": "a", "epoch": task["epoch"]} | more
        assert served.http.post(f"{DEVICES}/board/tasks/{task['id']}/{action}", json=mine).status_code == 200
    found = served.store.tasks.find("board", ["a", "b"])
    assert (found["a"].state, found["b"].state) == (JobState.FAILED, JobState.QUEUED)
    assert found["a"].epoch == 2


@pytest.mark.parametrize(
    "change",
    [
        {"latency_ms": 0.0},
        {"latency_ms": -1.0},
        {"latency_ms": "fast"},
        {"iqr_ms": -1.0},
        {"repeats": 0},
        {"format": 2},
        {"reference_ms": 0.0},
        {"conditions": {"x": {"nested": 1}}},
        {"conditions": {"x": "y" * 1000}},
        {"conditions": {str(number): 1 for number in range(100)}},
        {"bogus": 1},
    ],
)
def test_bad_result_is_refused_and_the_lease_stays(served: Served, change: dict[str, Any]) -> None:
    submit(served.store, "a")
    task = claim(served).json()
    place, mine = f"{DEVICES}/board/tasks/{task['id']}", {"worker": "a", "epoch": 1}
    assert served.http.post(f"{place}/result", json=mine | {"result": RESULT | change}).status_code == 422
    assert served.http.post(f"{place}/renew", json=mine).status_code == 200


def test_not_a_number_is_refused(served: Served) -> None:
    submit(served.store, "a")
    task = claim(served).json()
    body = '{"worker": "a", "epoch": 1, "result": {"latency_ms": NaN}}'
    answer = served.http.post(
        f"{DEVICES}/board/tasks/{task['id']}/result", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)


def test_waiting_agent_gets_a_task_as_soon_as_there_is_one(served: Served) -> None:
    import threading

    submit(served.store)
    answers: list[Any] = []
    body = {"worker": "a", "wait_s": 20.0}
    waiting = threading.Thread(
        target=lambda: answers.append(served.http.post(f"{DEVICES}/board/tasks/claim", json=body))
    )
    waiting.start()
    submit(served.store, "a")
    waiting.join(15)
    assert answers[0].status_code == 200


def test_results_are_uploaded_once(served: Served, client: Client, tmp_path: Path) -> None:
    import json

    submit(served.store, "a", "b", "c")
    target = tmp_path / "tasks.zip"
    assert client.devices.export_tasks("board", target) == 3
    tasks = agent.read_tasks(target)["tasks"]
    assert [task["epoch"] for task in tasks] == [0, 0, 0]
    lines: list[dict[str, Any]] = [{"format": 1, "device": "board"}]
    lines += [{"id": task["id"], "result": RESULT} for task in tasks[:2]]
    lines += [{"id": tasks[2]["id"], "message": "no such kernel"}, {"id": "unknown", "result": RESULT}]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"id": "torn')
    answer = client.devices.upload("board", results)
    assert (answer.accepted, [item.id for item in answer.refused]) == (3, ["unknown"])
    assert served.store.tasks.counts("board") == {JobState.SUCCEEDED: 2, JobState.FAILED: 1}
    again = client.devices.upload("board", results)
    assert (again.accepted, len(again.refused)) == (0, 4)
    with pytest.raises(DeviceError, match="results of device 'board'"):
        client.devices.upload("phone", results)
    results.write_text("nonsense\n")
    with pytest.raises(DeviceError, match="not a result file"):
        client.devices.upload("board", results)


def test_probe_of_what_does_not_exist_is_refused(client: Client) -> None:
    for call, words in (
        (lambda: client.devices.probe("raspbery_pi_4", "mobilenet", "tiny"), "raspberry_pi_4"),
        (lambda: client.devices.probe("host", "mobilenet", "tiny"), "machine the service runs on"),
        (lambda: client.devices.probe("raspberry_pi_4", "mobilnet"), "mobilenet"),
        (lambda: client.devices.probe("raspberry_pi_4", "mobilenet", "huge"), "tiny"),
        (lambda: client.devices.probe("raspberry_pi_4", "mobilenet", "tiny", kernels=1), "at least 20"),
        (lambda: client.devices.probe("raspberry_pi_4", "mobilenet", "tiny", kernel=20), "kernels"),
    ):
        with pytest.raises(ApiError, match=words):
            call()


def test_probe_of_all_kernels_names_no_space(client: Client) -> None:
    job = client.devices.probe("raspberry_pi_4", kernels=60, visits=2, data_type="int8")
    assert (job.kind, job.state) == ("probe", "queued")
    with pytest.raises(ApiError, match="nothing without a space"):
        client.devices.probe("raspberry_pi_4", None, "tiny")
    with pytest.raises(ApiError, match="settings fusion_examples, held_out_networks, kernels"):
        client.devices.probe("raspberry_pi_4", calibration_networks=20)
    with pytest.raises(ApiError, match="at least 20"):
        client.devices.probe("raspberry_pi_4", kernels=1)
    with pytest.raises(ApiError, match="float16"):
        client.devices.probe("raspberry_pi_4", data_type="float8")


def test_probe_is_queued_and_cancelled(served: Served, client: Client) -> None:
    job = client.devices.probe("raspberry_pi_4", "mobilenet", "tiny")
    assert (job.kind, job.state) == ("probe", "queued")
    assert client.devices.get("raspberry_pi_4").registered
    assert client.devices.get("raspberry_pi_4").title.startswith("Raspberry Pi 4")
    assert client.devices.models("raspberry_pi_4") == []
    assert client.devices.cancel("raspberry_pi_4") == 1
    assert client.jobs.get(job.id).state == "cancelled"


def test_key_of_a_device_measures_and_nothing_else(sqlite: Store, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, require_api_key=True), sqlite) as guarded:
        key = create_key(sqlite, guarded.settings.signing_key(), name="board", role=Role.DEVICE, device="board")
        submit(sqlite, "a")
        headers = {"Authorization": f"Bearer {key}"}
        assert guarded.http.get("/agent.py").status_code == 200
        said = guarded.http.post(f"{DEVICES}/board/tasks/claim", json={"worker": "a"}, headers=headers)
        assert said.status_code == 200
        for method, path in (
            ("GET", "/api/v1/searches"),
            ("GET", DEVICES),
            ("GET", "/searches"),
            ("POST", DEVICES),
            ("POST", f"{DEVICES}/board/probes"),
            ("POST", "/api/v1/searches"),
        ):
            assert guarded.http.request(method, path, headers=headers, json={}).status_code == 403, path
        assert guarded.http.post(f"{DEVICES}/board/tasks/claim", json={"worker": "a"}).status_code == 401


def test_key_of_one_device_opens_no_other(sqlite: Store, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, require_api_key=True), sqlite) as guarded:
        editor = create_key(sqlite, guarded.settings.signing_key(), name="ann", role=Role.EDITOR)
        with Client(guarded.url, editor) as client:
            client.devices.add({"name": "phone", "title": "A phone", "kind": "cpu"})
            headers = {"Authorization": f"Bearer {client.devices.make_key('phone')}"}
            with pytest.raises(ApiError, match="raspberry_pi_4"):
                client.devices.make_key("raspbery_pi_4")
        submit(sqlite, "a")
        submit(sqlite, "a", device="phone")
        assert guarded.http.post(f"{DEVICES}/phone/tasks/claim", json={"worker": "a"}, headers=headers).is_success
        (task,) = sqlite.tasks.open("board")
        lease = {"worker": "a", "epoch": 1}
        for path, body in (
            ("agent", {"worker": "a", "info": {}}),
            ("tasks/claim", {"worker": "a"}),
            (f"tasks/{task.id}/renew", lease),
            (f"tasks/{task.id}/result", lease | {"result": RESULT}),
            (f"tasks/{task.id}/fail", lease | {"message": "no"}),
            (f"tasks/{task.id}/release", lease),
            ("results", {"results": []}),
        ):
            answer = guarded.http.post(f"{DEVICES}/board/{path}", json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "other-device"), path
            assert "cannot act for device 'board'; it is bound to device 'phone'" in answer.json()["detail"]
        assert guarded.http.get(f"{DEVICES}/board/tasks", headers=headers).status_code == 403
        assert guarded.http.post(f"{DEVICES}/phone/keys", headers=headers).status_code == 403


def test_keys_that_are_bound_to_no_device_open_none(sqlite: Store, tmp_path: Path) -> None:
    """Those of before keys were bound; new ones are refused."""
    with serving(settings_for(tmp_path, require_api_key=True), sqlite) as guarded:
        signing = guarded.settings.signing_key()
        with pytest.raises(ConfigError, match="the name of one device"):
            create_key(sqlite, signing, name="old", role=Role.DEVICE)
        with pytest.raises(ConfigError, match="nothing for the others"):
            create_key(sqlite, signing, name="ann", role=Role.EDITOR, device="board")
        sqlite.create_api_key(name="old", role=Role.DEVICE, digest=digest_of("x" * 43, signing), key_id="0" * 12)
        headers = {"Authorization": f"Bearer nas_{'0' * 12}_{'x' * 43}"}
        answer = guarded.http.post(f"{DEVICES}/board/tasks/claim", json={"worker": "a"}, headers=headers)
        assert answer.status_code == 403
        assert "bound to no device" in answer.json()["detail"]


def test_energy_and_memory_come_with_a_result(served: Served) -> None:
    energy = {"value_mj": 2.0, "iqr_mj": 0.1, "runs": 50, "idle_power_w": 3.0, "meter": "rapl"}
    submit(served.store, "a")
    task = claim(served).json()
    place, mine = f"{DEVICES}/board/tasks/{task['id']}/result", {"worker": "a", "epoch": 1}
    for wrong in ({"energy": energy | {"value_mj": -1.0}}, {"energy": {"value_mj": 1.0}}, {"resident_memory_bytes": 0}):
        assert served.http.post(place, json=mine | {"result": RESULT | wrong}).status_code == 422
    told = {"energy": energy, "resident_memory_bytes": 1 << 20}
    assert served.http.post(place, json=mine | {"result": RESULT | told}).status_code == 200
    kept = served.store.tasks.find("board", ["a"])["a"].result
    assert kept is not None
    assert {name: kept[name] for name in told} == told


def test_agent_measures_what_a_server_asks_and_keeps_what_it_cannot_post(served: Served, tmp_path: Path) -> None:
    from archsmith.hwmodels.measure.packing import pack_ops
    from archsmith.hwmodels.measure.timer import reference_ops

    timing = {"threads": 1, "warmup_runs": 1, "batch_runs": 4, "min_repeats": 8, "max_repeats": 8, "max_seconds": 0.1}
    timing |= {"precision": 0.01, "noisy_above": 0.05}
    served.store.tasks.hello("board", INFO)
    packed = pack_ops(reference_ops()).to_json()
    new = [NewTask(key=key, model=packed, timing=timing) for key in ("a", "b", "c")]
    new.append(NewTask(key="broken", model={"data": "AA==", "fills": []}, timing=timing))
    served.store.tasks.submit("board", new)
    said: list[str] = []
    server = agent.Server(served.url, "board", None)
    worker = agent.Agent(server, agent.Bench(), tmp_path / "state", said.append)
    held = served.store.tasks.claim("board", "another", 60.0)
    assert held is not None
    lost = served.store.tasks.find("board", ["a"])["a"]
    body = {"worker": "x", "epoch": 7, "result": RESULT}
    worker._keep({"id": lost.id}, f"tasks/{lost.id}/result", body)  # measured before, under a lease that is gone
    worker._keep({"id": "gone"}, "tasks/gone/result", body)
    assert worker.run(once=True) == 3
    assert sorted(path.name for path in worker.outbox.iterdir()) == []
    assert sum("lease lost" in line for line in said) == 2
    found = served.store.tasks.find("board", ["a", "b", "c", "broken"])
    assert [found[key].state for key in ("a", "b", "c")] == [JobState.RUNNING, JobState.SUCCEEDED, JobState.SUCCEEDED]
    assert found["broken"].state is JobState.FAILED
    away = agent.Agent(agent.Server("http://127.0.0.1:9", "board", None), agent.Bench(), tmp_path / "away", said.append)
    task = {"id": "t", "epoch": 1, "ttl_s": 60.0, "model": packed, "reference": packed, "timing": timing}
    assert away.work(task) == 1
    assert [path.name for path in away.outbox.iterdir()] == ["t.json"]


def test_search_names_a_registered_device_only_for_what_it_can_tell(
    served: Served, client: Client, job: dict[str, Any]
) -> None:
    client.devices.add({"name": "board", "title": "A board", "kind": "cpu"})
    job |= {"devices": ["board"]}
    with pytest.raises(ApiError, match=r"peak_gmacs_per_s.*start its agent"):
        client.searches.create(job)
    served.store.tasks.hello("board", INFO)
    assert client.searches.create(job).resource.job["devices"] == ["board"]
    energy = job | {"objectives": [{"name": "accuracy"}, {"name": "energy_mj"}]}
    with pytest.raises(ApiError, match="energy_per_"):
        client.searches.create(energy)
    with pytest.raises(ApiError, match="Did you mean 'board'"):
        client.searches.create(job | {"devices": ["bord"]})
