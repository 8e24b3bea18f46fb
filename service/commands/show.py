"""`submit`, `list`, `show`, `front`, `export`, `devices`, `spaces`: asking a server, or the store itself."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..client.client import Client
from ..client.front import Front
from ..client.searches import SearchHandle
from ..schemas import resources
from .output import console, print_json, print_table

__all__ = [
    "list_searches",
    "print_front",
    "print_report",
    "show_devices",
    "show_search",
    "show_spaces",
    "write_front",
]


def list_searches(client: Client, state: str | None, *, as_json: bool) -> None:
    """Every search, newest first."""
    searches = list(client.searches.list(state=state))
    if as_json:
        print_json([search.model_dump(mode="json") for search in searches])
        return
    if not searches:
        console.print("No searches yet. Submit one: archsmith submit configs/jobs/digits.yaml")
        return
    print_table(
        ["number", "name", "state", "stage", "trials", "hypervolume", "created"],
        [
            [
                item.number,
                item.name,
                item.state,
                item.stage,
                item.n_trials,
                item.hypervolume,
                f"{item.created:%F %H:%M}",
            ]
            for item in searches
        ],
    )


def show_search(search: SearchHandle, *, as_json: bool) -> None:
    """One search: where it stands, and what it found."""
    resource = search.resource
    if as_json:
        print_json(resource.model_dump(mode="json"))
        return
    console.print(f"Search {resource.number}: {resource.name} ({resource.state}, stage {resource.stage or 'none yet'})")
    for stage, progress in resource.progress.items():
        console.print(f"  {stage:<8} {progress.get('message') or ('reused' if progress.get('reused') else '')}")
    if resource.error:
        console.print(f"  error: {resource.error.get('message')}", style="red")
    for front in (search.front(), search.front(view="verified")):
        if len(front):
            print_front(front)
    print_report(resource.report or {})


def print_front(front: Front) -> None:
    """The front as a table; the head says whether its values were believed or measured."""
    measured = {
        label: any(member.sources.get(label, "").startswith("measured:") for member in front) for label in front.labels
    }
    console.print(f"\n{front.view} front: {len(front)} members, hypervolume {_short(front.hypervolume)}")
    titles = [f"{label} ({'measured' if measured[label] else 'predicted'})" for label in front.labels]
    print_table(
        ["trial", *titles], [[member.number, *(member.values[label] for label in front.labels)] for member in front]
    )


def print_report(report: Mapping[str, Any]) -> None:
    """What `verify` found, a line per finding, good or bad."""
    for label, errors in report.get("cost_models", {}).items():
        if errors.get("within_10_percent") is not None:
            console.print(
                f"Cost model {label}: {100 * errors['within_10_percent']:.0f} % of {errors['n']:.0f} unseen networks "
                f"within ±10 %, Kendall tau {_short(errors.get('kendall_tau'))}"
            )
    ranking = report.get("ranking", {})
    if ranking.get("tau") is not None:
        compared = "Validation against test accuracy" if "table" in report else "Supernet against training alone"
        console.print(
            f"{compared}: Kendall tau {ranking['tau']:.2f} "
            f"[{_short(ranking.get('low'))}, {_short(ranking.get('high'))}] over {ranking['n']} random architectures: "
            f"{ranking['verdict']}"
        )
    _print_energy(report.get("energy", {}))
    for finding in ("front", "accuracy"):
        if text := report.get("random", {}).get(finding, {}).get("text"):
            console.print(text)


def _print_energy(energy: Mapping[str, Any]) -> None:
    """What the search took, beside what its training was expected to take."""
    spent = sum(energy.get("watt_hours", {}).values())
    expected = energy.get("expected", {}).values()
    if not spent:
        return
    told = f"{spent:.3g} Wh ({energy['source']})"
    if expected:
        total, std = (sum(item[name] for item in expected) for name in ("watt_hours", "std"))
        told += f"; training was expected to take {total:.2g} ± {std:.2g} Wh"
    console.print(f"The search took {told}")


def write_front(front: Front, form: str, target: Path | None) -> None:
    """Write the front as csv or json, to a file or to the standard output."""
    if form == "json":
        text = front.resource.model_dump_json(indent=2)
        if target is None:
            console.print(text)
        else:
            target.write_text(text + "\n", encoding="utf-8")
        return
    stream = sys.stdout if target is None else target.open("w", newline="", encoding="utf-8")
    try:
        writer = csv.writer(stream)
        writer.writerow(["number", "arch_key", *front.labels, *(f"{label} source" for label in front.labels)])
        for member in front:
            values = [member.values[label] for label in front.labels]
            writer.writerow(
                [member.number, member.arch_key, *values, *(member.sources[label] for label in front.labels)]
            )
    finally:
        if target is not None:
            stream.close()


def show_devices(devices: list[resources.Device], *, as_json: bool) -> None:
    """The devices jobs may name."""
    if as_json:
        print_json([device.model_dump(mode="json") for device in devices])
    else:
        rows = [[device.name, device.kind, device.title, _seen(device)] for device in devices]
        print_table(["name", "kind", "title", "agent"], rows)


def _seen(device: resources.Device) -> str | None:
    """When the device's agent was last heard of, for people."""
    return None if device.seen is None else f"seen {device.seen:%F %H:%M}"


def show_spaces(spaces: list[resources.Space], *, as_json: bool) -> None:
    """The search spaces jobs may name."""
    if as_json:
        print_json([space.model_dump(mode="json") for space in spaces])
        return
    rows = [
        [space.name, ", ".join(space.presets), space.preset, len(space.genes), _size(space.size)] for space in spaces
    ]
    print_table(["name", "presets", "shown", "genes", "architectures"], rows)


def _size(text: str) -> str:
    return text if len(text) < 7 else f"{float(text):.2e}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
