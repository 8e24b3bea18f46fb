"""The tutorial's code runs, its YAML is the space that its Python builds, and its table is the language's."""

from __future__ import annotations

import re
from pathlib import Path

from archsmith import spaces
from archsmith.spaces.checking import check_space
from archsmith.spaces.language import BLOCKS

TEXT = (Path(__file__).parent.parent.parent / "docs" / "your-own-space.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_python_runs_and_yaml_is_the_same_space(capsys):
    names = {}
    for code in blocks("python"):
        exec(compile(code, "docs/your-own-space.md", "exec"), names)  # the reader's own session
    assert spaces.load(blocks("yaml")[0]).identity == names["space"].identity
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{names['space'].size} ['width'")
    assert any(line.startswith("duplicate layer.choice") for line in printed)
    assert any(line.startswith("harmful layer.drop") for line in printed)
    total, (listed,) = re.fullmatch(r"(\d+) \[(\d+)\]", printed[-1]).group(1), re.findall(r"\[(\d+)\]", printed[-1])
    assert total == listed


def test_console_output_is_what_the_check_says():
    report = check_space(spaces.load(blocks("yaml")[0]))
    (said,) = blocks("console")
    assert report.findings == ()
    figures = (report.architectures, f"{report.size:.3g}", report.networks, report.operations)
    line = "custom: nothing found ({} of {} architectures listed, {} of them run, {} operations tried alone)."
    assert said.splitlines()[1] == line.format(*figures)


def test_table_lists_every_block_with_its_parameters():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, flags=re.MULTILINE))
    assert sorted(rows) == sorted(BLOCKS)
    for kind, defaults in BLOCKS.items():
        assert re.findall(r"`(\w+)`", rows[kind]) == list(defaults)
