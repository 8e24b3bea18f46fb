"""The command line: what a finished search looks like, and what bad input is answered, without a trace in the store."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from running import JOB, Finished, opened
from typer.main import get_command
from typer.testing import CliRunner

from archsmith import __version__
from archsmith.service.cli import app, main
from archsmith.spaces.export import FILES

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]  # an app with several commands is a group


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("ARCHSMITH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ARCHSMITH_POOL", "serial")
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


class Answer:
    """Exit code and output of a command run in this process."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run a command as the installed program does."""
    from archsmith.service import cli
    from archsmith.service.commands import output

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr("sys.argv", ["archsmith", *(str(argument) for argument in arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
        output.console.file.flush()
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run


def test_every_command_is_documented() -> None:
    assert {"devices", "export", "front", "resume", "run", "serve", "show", "spaces", "submit", "worker"} <= set(
        COMMANDS
    )
    runner = CliRunner()
    for name in COMMANDS:
        shown = runner.invoke(app, [name, "--help"])
        assert shown.exit_code == 0
        assert "Usage" in shown.output
        assert len(shown.output.splitlines()) > 5


def test_program_without_arguments_shows_its_commands() -> None:
    shown = CliRunner().invoke(app, [])
    assert all(name in shown.output for name in COMMANDS)
    assert callable(main)


def test_version_is_shown(call: Any) -> None:
    assert call("--version").out == f"archsmith {__version__}\n"


# --- a finished search ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(finished: Finished, tmp_path: Path) -> Path:
    return finished.copy(tmp_path)


def test_list_shows_the_search(folder: Path, call: Any) -> None:
    shown = call("list")
    assert shown.code == 0
    assert shown.out.splitlines()[1].split()[:5] == ["1", "small", "succeeded", "export", "48"]
    (entry,) = json.loads(call("list", "--json").out)
    assert (entry["number"], entry["state"]) == (1, "succeeded")
    assert json.loads(call("list", "--state", "failed", "--json").out) == []


def test_show_says_what_was_measured_and_what_was_predicted(finished: Finished, folder: Path, call: Any) -> None:
    shown = call("show", "1")
    assert shown.code == 0
    assert shown.err == ""
    assert "accuracy (predicted)" in shown.out
    assert "accuracy (measured)" in shown.out
    assert "Cost model latency_ms@host" in shown.out
    assert "Kendall tau" in shown.out
    assert "None" not in shown.out
    data = json.loads(call("show", "1", "--json").out)
    assert data["n_trials"] == finished.found.record.n_trials
    assert data["report"]["members"]
    missing = call("show", "99")
    assert missing.code == 1
    assert "search '99' does not exist" in missing.err


@pytest.mark.parametrize("view", ["believed", "verified"])
def test_front_is_written_for_programs(finished: Finished, folder: Path, call: Any, view: str) -> None:
    rows = list(csv.DictReader(io.StringIO(call("front", "1", "--view", view).out)))
    if view == "believed":
        assert [int(row["number"]) for row in rows] == finished.found.front
        values = [[-float(row["accuracy"]), float(row["latency_ms@host"])] for row in rows]
        assert values == finished.found.front_values.tolist()
    assert {row["accuracy source"] for row in rows} == {
        "predicted:supernet" if view == "believed" else "measured:standalone"
    }
    as_json = json.loads(call("front", "1", "--view", view, "--format", "json").out)
    assert [member["number"] for member in as_json["members"]] == [int(row["number"]) for row in rows]
    call("front", "1", "--view", view, "-o", "front.csv")
    assert list(csv.DictReader(io.StringIO(Path("front.csv").read_text(encoding="utf-8")))) == rows


def test_front_refuses_what_it_does_not_know(folder: Path, call: Any) -> None:
    wrong = call("front", "1", "--format", "xml")
    assert wrong.code == 2
    assert "--format: got 'xml'; allowed: csv or json." in wrong.err
    nowhere = call("front", "1", "-o", "no/such/folder.csv")
    assert nowhere.code == 1
    assert "No such file or directory" in nowhere.err


def test_export_fetches_every_file(finished: Finished, folder: Path, call: Any) -> None:
    done = call("export", "1", "-o", "out")
    assert done.code == 0
    members = min(5, len(finished.found.front))
    for name in FILES:
        assert len(list(Path("out").glob(f"trial-*/{name}"))) == members
    assert f"{members * len(FILES)} files in out/" in done.err


def test_devices_and_spaces_are_listed(folder: Path, call: Any) -> None:
    assert "host" in call("devices").out
    assert "host" in [device["name"] for device in json.loads(call("devices", "--json").out)]
    assert "mobilenet" in call("spaces").out
    named = {space["name"]: space for space in json.loads(call("spaces", "--json").out)}
    assert "tiny" in named["mobilenet"]["presets"]


def test_new_device_comes_with_a_key_and_may_have_more(folder: Path, call: Any) -> None:
    added = call("devices", "add", "--name", "board", "--title", "A board")
    assert added.code == 0, added.err
    first = added.out.partition("--key ")[2].split()[0]
    second = call("devices", "key", "board").out.strip()
    assert first != second != ""
    assert "nobody" in call("devices", "key", "nobody").err


def test_second_probe_exports_what_the_first_still_waits_for(folder: Path, call: Any) -> None:
    call("devices", "add", "--name", "board", "--title", "A board")
    sizes = ["--kernels", "20", "--calibration-networks", "12", "--held-out-networks", "4", "--offline"]
    probe = ["devices", "probe", "board", "--space", "mobilenet", "--preset", "tiny", *sizes]
    first = call(*probe, folder / "first.zip")
    second = call(*probe, folder / "second.zip")
    assert first.code == second.code == 0, second.err
    assert first.out.split()[0] == second.out.split()[0] != "0"
    assert (folder / "second.zip").exists()


def test_finished_search_cannot_be_resumed(folder: Path, call: Any) -> None:
    refused = call("resume", "1")
    assert refused.code == 1
    assert "its state is 'succeeded'; allowed: paused, queued, running" in refused.err


def test_submit_without_a_server_says_how_to_start_one(folder: Path, call: Any) -> None:
    refused = call("submit", "job.yaml")
    assert refused.code == 2
    assert "archsmith serve" in refused.err


# --- bad input -----------------------------------------------------------------------------------------------------

TEXT = yaml.safe_dump(JOB)
BAD = {
    "misspelt key": ({"budgett": {"trials": 3}}, ["budgett", "budget"]),
    "unknown space": ({"space": {"name": "mobilnet"}}, ["space.name", "'mobilnet'", "mobilenet"]),
    "unknown preset": ({"space": {"name": "mobilenet", "preset": "huge"}}, ["space.preset", "'huge'", "tiny"]),
    "unknown task": ({"task": {"name": "digit"}}, ["task.name", "'digit'", "digits"]),
    "unknown task option": (
        {"task": {"name": "digits_shifted", "options": {"noize": 0.1}}},
        ["task.options.noize", "noise"],
    ),
    "unknown device": ({"devices": ["hosst"]}, ["devices[0]", "'hosst'", "host"]),
    "unknown objective": ({"objectives": [{"name": "acuracy"}]}, ["objectives[0].name", "'acuracy'", "accuracy"]),
    "wrong direction": ({"objectives": [{"name": "accuracy", "direction": "min"}]}, ["objectives[0].direction", "max"]),
    "unknown strategy": ({"strategy": {"name": "nsga9"}}, ["strategy.name", "'nsga9'", "nsga2"]),
    "unknown strategy option": (
        {"strategy": {"name": "nsga2", "options": {"popsize": 9}}},
        ["strategy.options.popsize", "population"],
    ),
    "wrong type": ({"budget": {"trials": "many"}}, ["budget.trials", "'many'", "whole number"]),
    "no budget": ({"budget": {}}, ["budget", "at least one of trials, minutes, watt_hours"]),
    "broken constraint": ({"constraints": ["params < 10"]}, ["constraints[0]", "'params < 10'", "<="]),
    "infeasible constraint": ({"constraints": ["params <= 10"]}, ["params <= 10", "tightest value reachable is"]),
    "missing data": (
        {"task": {"name": "image_arrays", "path": "no/such/folder"}},
        ["no/such/folder"],
    ),
    "samples that do not fit": ({"task": {"name": "digits"}}, ["task", "allowed: samples of shape"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_job_is_refused_in_words_and_leaves_nothing(tmp_path: Path, call: Any, case: str) -> None:
    changes, expected = BAD[case]
    Path("job.yaml").write_text(yaml.safe_dump(JOB | changes), encoding="utf-8")
    refused = call("run", "job.yaml", "--quiet")
    assert refused.code == 2, refused.err
    assert refused.out == ""
    for part in expected:
        assert part in refused.err
    with opened(tmp_path) as store:
        assert store.searches() == []
        assert store.jobs() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT + "seed: 1\nseed: 2\n", ["seed", "line"]),
        ("just text", ["job.yaml", "mapping"]),
        ("name: [", ["job.yaml", "line"]),
    ],
)
def test_broken_file_is_refused_with_its_line(tmp_path: Path, call: Any, text: str, expected: list[str]) -> None:
    Path("job.yaml").write_text(text, encoding="utf-8")
    refused = call("run", "job.yaml", "--quiet")
    assert refused.code == 2, refused.err
    for part in expected:
        assert part in refused.err
    with opened(tmp_path) as store:
        assert store.searches() == []


def test_missing_file_is_refused(call: Any) -> None:
    refused = call("run", "nothing.yaml")
    assert refused.code == 2
    assert "nothing.yaml" in refused.err


def test_setting_that_is_not_allowed_is_refused(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSMITH_POOL", "threads")
    refused = call("list")
    assert refused.code == 2
    assert "ARCHSMITH_POOL: got 'threads'" in refused.err


def test_latency_that_no_network_reaches_ends_the_search_with_the_tightest_value(folder: Path, call: Any) -> None:
    Path("job.yaml").write_text(
        yaml.safe_dump(JOB | {"constraints": ["latency_ms@host <= 0.000001"]}), encoding="utf-8"
    )
    failed = call("run", "job.yaml", "--quiet")
    assert failed.code == 2
    assert "tightest value reachable is" in failed.err
    with opened(folder) as store:
        record = store.search("2")
        assert record.state == "failed"
        assert (record.error or {})["reason"] == "InfeasibleError"
        assert record.n_trials == 0
