"""Stopping on purpose: Ctrl-C, pause, cancel; what was stopped can be resumed and ends as if it never had been."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

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
    reached,
    wait_for,
)

LONG = JOB | {"budget": {"trials": 400}}


def begin(folder: Path, job: str = "job.yaml") -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", job), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def started(folder: Path, number: int) -> bool:
    """Whether a search exists already."""
    from running import opened

    with opened(folder) as store:
        return bool(store.searches()) and store.searches()[0].number == number


@pytest.mark.slow
def test_interrupted_run_says_how_to_resume_and_resumes(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path)
    process = begin(folder)
    wait_for(lambda: started(folder, 2) and reached(folder, 2, "search", done=16), "the search")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "archsmith resume 2" in output
    assert "Traceback" not in errors
    half = found(folder, 2)
    assert half.record.state == "paused"
    assert 0 < half.record.n_trials <= TRIALS
    again = archsmith(folder, "resume", "2", "--quiet")
    assert again.returncode == 0, again.stderr
    assert_same(found(folder, 2), finished.found)


@pytest.mark.slow
def test_pause_resume_and_cancel_over_rest(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path)
    with Server(folder) as server:
        search = server.client.searches.create(JOB)
        wait_for(lambda: reached(folder, 2, "search", done=16), "the search")
        search.pause().wait(timeout_s=120)
        assert search.state == "paused"
        search.resume().wait(timeout_s=120)
        assert search.state == "succeeded", search.resource.error
        other = server.client.searches.create(LONG)
        wait_for(lambda: reached(folder, 3, "search", done=16), "the long search")
        other.cancel().wait(timeout_s=120)
        assert other.state == "cancelled"
        assert len(other.front())  # what was found stays
    assert_same(found(folder, 2), finished.found)
    assert not list((folder / "runs" / "work").iterdir())
