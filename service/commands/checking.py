"""`spaces check`: sample a space, here in this process, and say what is wrong with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ...errors import ConfigError
from ...spaces import catalog
from ...spaces.checking import Report, check_space
from ...spaces.definition import load
from ...spaces.space import SearchSpace
from .output import console, print_json

__all__ = ["check", "find_space"]

STYLES = {"error": "red", "warning": "yellow", "note": "dim"}
"""How a finding is printed, by its severity."""


def find_space(space: str, preset: str | None) -> SearchSpace:
    """The space of a catalog name or of a definition file.

    Raises:
        ConfigError: neither exists, or the file holds a mistake.
        SpaceError: the preset does not exist, or parts of the definition do not fit together.
    """
    if space in catalog.names():
        return catalog.get(space, preset)
    path = Path(space)
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError("SPACE", space, f"one of {', '.join(catalog.names())}, or a .yaml file")
    if preset is not None:
        raise ConfigError("--preset", preset, "no preset with a file")
    return load(path)


def check(space: str, preset: str | None, *, samples: int, as_json: bool) -> int:
    """Check a space and print the report; 1 if it holds an error, else 0."""
    report = check_space(find_space(space, preset), samples=samples)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    return 0 if report.ok else 1


def _print(report: Report) -> None:
    for finding in report.findings:
        style = STYLES[finding.severity]
        console.print(f"{finding.severity}: {finding.check}: {finding.place}: {finding.message}", style=style)
    looked = (
        f"{report.architectures} of {report.size:.3g} architectures listed, {report.networks} of them run, "
        f"{report.operations} operations tried alone"
    )
    count = Counter(finding.severity for finding in report.findings)
    verdict = f"{count['error']} errors, {count['warning']} warnings" if report.findings else "nothing found"
    if count["note"]:
        verdict += f", {count['note']} notes"
    console.print(f"{report.space}: {verdict} ({looked}).")
