"""`archsmith spaces check`: files and names, text and JSON, exit codes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from archsmith.errors import ConfigError, SpaceError
from archsmith.service.cli import app

DEFINITION = """
name: mine
input: {channels: 1, resolution: 8}
body:
  - choose:
      conv: {conv: {out: 8}}
      other: {conv: {out: 8, kernel: 5}}
    name: layer
  - global_pool
  - linear: {out: 10}
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(DEFINITION)
    return path


def check(*arguments):
    result = CliRunner().invoke(app, ["spaces", "check", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_clean_file_exits_0_and_says_what_was_looked_at(mine):
    result = check(mine, "--samples", 4)
    assert result.exit_code == 0
    assert "custom: nothing found (4 of 2 architectures listed" in result.stdout


def test_poisoned_file_exits_1_and_names_the_choice(mine):
    mine.write_text(DEFINITION.replace("kernel: 5", "kernel: 3"))
    result = check(mine, "--samples", 4)
    assert result.exit_code == 1
    assert "error: duplicate: layer.choice: its values ['conv', 'other'] compute the same" in result.stdout


def test_edge_left_out_on_purpose_is_a_note_and_no_error():
    result = check("nas_bench_201", "--preset", "tiny", "--samples", 2)
    assert result.exit_code == 0
    assert "note: absent: edges: none: passes nothing on" in result.stdout
    assert "0 errors, 0 warnings, 1 notes" in result.stdout


def test_json_of_a_catalog_space():
    result = check("mobilenet", "--preset", "tiny", "--samples", 4, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (report["space"], report["architectures"], report["ok"]) == ("mobilenet", 4, True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["mobilnet"], ConfigError, "one of .*mobilenet.*or a .yaml file"),
        (["missing.yaml"], ConfigError, "readable UTF-8 file"),
        (["missing.yaml", "--preset", "tiny"], ConfigError, "no preset with a file"),
        (["mobilenet", "--preset", "tinny"], SpaceError, "no preset 'tinny'"),
    ],
)
def test_wrong_request_says_what_is_allowed(arguments, error, message):
    with pytest.raises(error, match=message):
        check(*arguments)
