"""A device as a second process against a running service: killed agents, killed servers, files, and a whole search."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import JOB, Finished, Server, archsmith, environment, opened, wait_for

from archsmith.service.store.records import JobState

SIZES = {"kernels": 20, "calibration_networks": 12, "held_out_networks": 4}
FLAGS = [part for name, value in SIZES.items() for part in (f"--{name.replace('_', '-')}", str(value))]
ON_BOARD = JOB | {
    "name": "board",
    "devices": ["board"],
    "objectives": [{"name": "accuracy"}, {"name": "latency_ms", "device": "board"}],
}


class AgentProcess:
    """`python agent.py`, as fetched from the server."""

    def __init__(self, folder: Path, url: str) -> None:
        file = folder / "agent.py"
        with urllib.request.urlopen(f"{url}/agent.py") as answer:
            file.write_bytes(answer.read())
        self.log = folder / "agent.log"
        command = [sys.executable, str(file), "--server", url, "--device", "board", "--state", str(folder / "state")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)

    def kill(self) -> None:
        """As kill -9 does; after its end it does nothing."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@pytest.fixture
def start_agent() -> Iterator[Callable[[Path, str], AgentProcess]]:
    """Starts agents, none of which outlives the test."""
    started: list[AgentProcess] = []

    def start(folder: Path, url: str) -> AgentProcess:
        started.append(AgentProcess(folder, url))
        return started[-1]

    yield start
    for agent in started:
        agent.kill()


def measured(folder: Path) -> int:
    with opened(folder) as store:
        return store.tasks.counts("board").get(JobState.SUCCEEDED, 0)


def states(folder: Path) -> list[JobState]:
    """Of every measuring task."""
    with opened(folder) as store:
        return [job.state for job in store.jobs(limit=500, kind="measurement")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_probe_survives_killed_agents_and_servers_and_serves_searches(
    finished: Finished, tmp_path: Path, start_agent: Callable[[Path, str], AgentProcess]
) -> None:
    folder = finished.copy(tmp_path)
    quick = {"ARCHSMITH_LEASE_TTL_S": "3", "ARCHSMITH_DEVICE_PATIENCE_S": "4"}
    server = Server(folder, **quick)
    port = server.url.rpartition(":")[2]
    agent = start_agent(folder, server.url)
    wait_for(lambda: "connected" in agent.log.read_text(), "the agent")
    job = server.client.devices.probe("board", "mobilenet", "tiny", **SIZES)

    wait_for(lambda: measured(folder) >= 3, "some measurements")
    agent.kill()
    agent = start_agent(folder, server.url)
    before = measured(folder)
    wait_for(lambda: measured(folder) >= before + 3, "measurements of the new agent")
    server.kill()
    wait_for(lambda: "server away" in agent.log.read_text(), "the agent to notice")
    server = Server(folder, "--port", port, **quick)
    with server:
        wait_for(lambda: server.client.jobs.get(job.id).state == "succeeded", "the probe")
        assert len(states(folder)) >= sum(SIZES.values())
        assert set(states(folder)) == {JobState.SUCCEEDED}
        (model,) = server.client.devices.models("board")
        assert model.report["n"] == SIZES["held_out_networks"]
        assert str(model.conditions["runtime"]).startswith("onnxruntime ")
        shown = archsmith(folder, "devices", "report", "board")
        assert shown.returncode == 0, shown.stderr
        assert "within ±10 %" in shown.stdout
        assert "at work" in archsmith(folder, "devices", "show", "board").stdout

        search = server.client.searches.create(ON_BOARD)
        search.wait(timeout_s=120)
        assert search.state == "succeeded", search.resource.error
        assert {member.sources["latency_ms@board"] for member in search.front()} == {"predicted:lookup"}
        verified = search.front(view="verified")
        assert {member.sources["latency_ms@board"] for member in verified} == {"measured:onnxruntime"}
        assert search.report is not None
        assert search.report["cost_models"]["latency_ms@board"]["n"] == SIZES["held_out_networks"]

        assert agent.stop() in (0, 130)
        alone = server.client.searches.create(ON_BOARD | {"seed": 5})
        alone.wait(timeout_s=120)
        assert alone.state == "failed"
        message = (alone.resource.error or {})["message"]
        assert "no word of its agent" in message
        assert f"agent.py --server {server.url} --device board" in message

        agent = start_agent(folder, server.url)
        again = server.client.searches.create(ON_BOARD | {"seed": 5})
        again.wait(timeout_s=120)
        assert again.state == "succeeded", again.resource.error
        assert agent.stop() in (0, 130)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_device_without_a_line_measures_from_a_file(tmp_path: Path) -> None:
    added = archsmith(tmp_path, "devices", "add", "--name", "board", "--title", "A board")
    assert added.returncode == 0, added.stderr
    exported = archsmith(
        tmp_path, "devices", "probe", "board", "--space", "mobilenet", "--preset", "tiny", *FLAGS, "--offline", "t.zip"
    )
    assert exported.returncode == 0, exported.stderr
    assert "python agent.py --device board --tasks t.zip --results results.jsonl" in exported.stdout
    command = [sys.executable, "-m", "archsmith.service.cli", "agent", "--device", "board", "--tasks", "t.zip"]
    command += ["--results", "results.jsonl"]
    run = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    results = tmp_path / "results.jsonl"
    wait_for(lambda: results.exists() and len(results.read_bytes().splitlines()) > 5, "some results")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    part = archsmith(tmp_path, "devices", "upload", "board", "results.jsonl")
    assert part.returncode == 0, part.stderr
    assert "measurements are left" in part.stdout
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True, stdout=subprocess.DEVNULL)
    whole = archsmith(tmp_path, "devices", "upload", "board", "results.jsonl")
    assert whole.returncode == 0, whole.stderr
    if "measurements are left" in whole.stdout:  # noisy ones are asked for a second time
        repeated = archsmith(
            tmp_path,
            "devices",
            "probe",
            "board",
            "--space",
            "mobilenet",
            "--preset",
            "tiny",
            *FLAGS,
            "--offline",
            "t.zip",
        )
        assert repeated.returncode == 0, repeated.stderr
        subprocess.run(command, cwd=tmp_path, env=environment(), check=True, stdout=subprocess.DEVNULL)
        archsmith(tmp_path, "devices", "upload", "board", "results.jsonl")
    report = json.loads(archsmith(tmp_path, "devices", "report", "board", "--json").stdout)
    assert report[0]["report"]["n"] == SIZES["held_out_networks"]
    assert set(states(tmp_path)) == {JobState.SUCCEEDED}
