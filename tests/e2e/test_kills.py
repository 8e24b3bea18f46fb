"""kill -9 of worker and server at every stage: nothing is lost, nothing is stored twice, and the front is the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from running import (
    JOB,
    TRIALS,
    Finished,
    Server,
    archsmith,
    assert_same,
    command,
    environment,
    found,
    opened,
    reached,
    wait_for,
)

MOMENTS = {"train": 3.0, "search": 16.0, "verify": 1.0, "export": 1.0}
"""How far each stage is, in its own units, when the kill comes."""


def assert_delivered(folder: Path, number: int) -> None:
    """Every member is verified once and has its files, each of which is in the artifact folder."""
    with opened(folder) as store:
        record = store.search(str(number))
        links = store.search_artifacts(record.id)
        members = {link.trial_number for link in links}
        assert len(members) == min(5, len(store.front(record.id).numbers))
        assert len(links) == 4 * len(members)
        for link in links:
            assert store.artifact_path(link.artifact.id).stat().st_size == link.artifact.size
        for member in members:
            assert member is not None
            metrics = [(metric.quantity, metric.source) for metric in store.trial(record.id, member).metrics]
            assert len(metrics) == len(set(metrics))
        assert record.report is not None
        assert {member["number"] for member in record.report["members"]} == members


@pytest.mark.slow
def test_killed_worker_is_replaced_and_goes_on(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, "supernet", "standalone", "export")
    with Server(folder) as server:
        search = server.client.searches.create(JOB)
        killed = []
        for stage, done in MOMENTS.items():
            wait_for(lambda stage=stage, done=done: reached(folder, 2, stage, done=done), stage)
            worker = server.worker()
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)
        assert len(set(killed)) == len(MOMENTS)
        search.wait(timeout_s=120)
        assert search.state == "succeeded", search.resource.error
    assert found(folder, 2).record.n_trials == TRIALS
    assert_same(found(folder, 2), finished.found)
    assert_delivered(folder, 2)
    assert not list((folder / "runs" / "work").iterdir())  # nothing of an ended search is left behind


@pytest.mark.slow
def test_killed_server_takes_its_worker_along_and_starts_again_at_once(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, "supernet", "standalone", "export")
    server = Server(folder)
    server.client.searches.create(JOB)
    for stage in ("train", "search", "verify"):
        wait_for(lambda stage=stage: reached(folder, 2, stage, done=MOMENTS[stage]), stage)
        worker = psutil.Process(server.worker())
        server.kill()
        server = Server(folder)
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    with server:
        search = server.client.searches.get(2).wait(timeout_s=120)
        assert search.state == "succeeded", search.resource.error
    assert_same(found(folder, 2), finished.found)
    assert_delivered(folder, 2)


@pytest.mark.slow
def test_fit_killed_while_it_measures_goes_on(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, "cost_model", "export")
    process = psutil.Popen(command("run", "job.yaml", "-q"), cwd=folder, env=environment())
    wait_for(lambda: _exists(folder, 2) and reached(folder, 2, "model", done=5), "the measurements")
    process.kill()
    process.wait()
    measured = list((folder / "runs" / "work").rglob("*.jsonl"))
    assert len(measured) == 1
    before = measured[0].read_text().splitlines()
    again = archsmith(folder, "resume", "2", "--quiet")
    assert again.returncode == 0, again.stderr
    assert len(before) >= 5
    assert found(folder, 2).record.n_trials == TRIALS
    assert_delivered(folder, 2)


def _exists(folder: Path, number: int) -> bool:
    with opened(folder) as store:
        return any(record.number == number for record in store.searches())
