from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

from archsmith.service.client import ApiError, Client, ConnectionLostError
from archsmith.service.client.front import Front
from archsmith.service.schemas import resources
from archsmith.service.store.records import JobState
from archsmith.service.store.store import Store

from .conftest import Served, fill, new_search, serving, settings_for

matplotlib.use("agg")


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url) as opened:
        yield opened


def test_create_from_mapping_file_and_model(client: Client, job: dict, tmp_path: Path) -> None:
    by_mapping = client.searches.create(job)
    path = tmp_path / "job.yaml"
    path.write_text(
        "name: small\nspace: {name: mobilenet, preset: tiny}\ntask: {name: digits_shifted}\n"
        "objectives: [{name: accuracy}, {name: latency_ms}]\nconstraints: [params <= 10000]\nbudget: {trials: 8}\n"
    )
    by_file = client.searches.create(path)
    assert by_mapping.id != by_file.id
    assert by_mapping.resource.job == by_file.resource.job
    assert [item.number for item in client.searches.list()] == [2, 1]
    assert client.searches.get(1).id == by_mapping.id


def test_create_same_key_returns_the_same_search(client: Client, job: dict) -> None:
    assert client.searches.create(job, "k").id == client.searches.create(job, "k").id


def test_create_bad_job_raises_the_problem(client: Client, job: dict) -> None:
    with pytest.raises(ApiError, match="Did you mean 'mobilenet'") as caught:
        client.searches.create(job | {"space": {"name": "mobilnet"}})
    assert caught.value.status == 422
    assert caught.value.problem is not None
    assert caught.value.problem.errors[0].place == "space.name"


def test_front_to_pandas_and_plot(client: Client, filled: str) -> None:
    front = client.searches.get(filled).front()
    table = front.to_pandas()
    assert list(table.index) == list(range(11))
    assert table["accuracy"].is_monotonic_increasing
    assert set(table["accuracy source"]) == {"predicted:supernet"}
    axes = front.plot(x="latency_ms@host", y="accuracy")
    assert axes.get_xlabel() == "latency_ms@host"
    assert len(axes.lines[0].get_xdata()) == len(front) == 11
    matplotlib.pyplot.close("all")


def test_trials_iterates_over_pages(client: Client, served: Served) -> None:
    handle = client.searches.get(fill(served.store, 1203))
    assert [trial.number for trial in handle.trials()] == list(range(1203))
    assert [trial.number for trial in handle.trials(state="infeasible")] == [1202]


def test_download_checks_and_contains_names(client: Client, filled: str, tmp_path: Path) -> None:
    (path,) = client.searches.get(filled).download(tmp_path / "out")
    assert path == tmp_path / "out" / "trial-3" / "weights.bin"
    assert path.read_bytes() == b"0123456789"
    path.write_bytes(b"broken")
    client.searches.get(filled).download(tmp_path / "out")
    assert path.read_bytes() == b"0123456789"


def test_actions_change_the_state(client: Client, served: Served) -> None:
    handle = client.searches.get(served.store.create_search(new_search()).id)
    assert handle.pause().state == "paused"
    assert handle.resume().state == "queued"
    assert handle.cancel().state == "cancelled"
    handle.delete()
    with pytest.raises(ApiError, match="does not exist"):
        handle.refresh()


def test_catalogues_are_typed(client: Client, filled: str) -> None:
    assert client.devices.get("host").kind == "cpu"
    assert client.spaces.get("mobilenet").name in {space.name for space in client.spaces.list()}
    sample = client.spaces.sample("mobilenet", 2, preset="tiny")
    assert client.spaces.validate("mobilenet", sample.choices[0], preset="tiny").key == sample.keys[0]
    assert [job.id for job in client.jobs.list()] == [filled]
    assert client.jobs.get(filled).state == "running"


def finish_soon(store: Store, search_id: str, delay_s: float = 0.4) -> threading.Thread:
    """A worker that does the search's stages in another thread."""

    def work() -> None:
        lease = store.claim("worker", job_id=search_id)
        assert lease is not None
        for done in range(3):
            store.set_stage(lease, "search")
            store.set_progress(lease, "search", done, 2, "going on")
            time.sleep(delay_s / 3)
        store.finish(lease)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("progress", [False, True])
def test_wait_ends_with_the_search(client: Client, served: Served, progress: bool) -> None:
    handle = client.searches.get(served.store.create_search(new_search()).id)
    worker = finish_soon(served.store, handle.id)
    assert handle.wait(progress=progress, timeout_s=30).state == JobState.SUCCEEDED
    worker.join()


def test_wait_ends_when_paused(client: Client, served: Served) -> None:
    handle = client.searches.get(served.store.create_search(new_search()).id)
    timer = threading.Timer(0.3, served.store.pause, [handle.id])
    timer.start()
    assert handle.wait(timeout_s=30).state == JobState.PAUSED


def test_wait_gives_up_in_time(client: Client, served: Served) -> None:
    handle = client.searches.get(served.store.create_search(new_search()).id)
    with pytest.raises(TimeoutError, match="still queued"):
        handle.wait(timeout_s=0.5)


def test_wait_survives_a_restart_of_the_server(sqlite: Store, tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    settings = settings_for(tmp_path).model_copy(update={"port": port})
    search_id = sqlite.create_search(new_search()).id
    states: list[str] = []
    with Client(f"http://127.0.0.1:{port}") as client:
        with serving(settings, sqlite):
            handle = client.searches.get(search_id)
            waiter = threading.Thread(target=lambda: states.append(handle.wait(timeout_s=60).state))
            waiter.start()
            time.sleep(0.3)
        time.sleep(0.3)  # nobody listens now
        with serving(settings, sqlite):
            finish_soon(sqlite, search_id).join()
            waiter.join(60)
    assert states == ["succeeded"]


def test_server_away_is_a_clear_error() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(ConnectionLostError, match="archsmith serve"):
        client.searches.get(1)


def test_front_plot_unknown_label_lists_labels() -> None:
    objective = resources.Objective(label="accuracy", name="accuracy", direction="max")
    resource = resources.Front(
        search_id="s", view="verified", version=1, hypervolume=None, objectives=[objective], members=[]
    )
    with pytest.raises(Exception, match=r"'acc' is no objective of this front; choose among \['accuracy'\]"):
        Front(resource).plot(x="acc")
    assert Front(resource).to_pandas().empty


def test_rename_and_cancel_at_once(client: Client, filled: str) -> None:
    search = client.searches.get(filled)
    assert search.rename("better").resource.name == "better"
    assert search.cancel(mode="kill").resource.cancel_mode == "kill"
