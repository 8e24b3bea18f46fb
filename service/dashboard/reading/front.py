"""The front as table and chart show it, believed and measured values kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from ....search.problem import label
from ...store.records import ArtifactRecord, CurvePoint, JobState, SearchRecord, TrialRecord
from ..choosing import balanced_row
from ..format import choose_format
from ..views import Cell, Download, FrontView, Member
from .quantities import PARAMS, SIZES, axes_of, quantities_of
from .report import stated_errors

__all__ = ["believed_cells", "chart_json", "downloads", "front_view", "measured_cells"]

_FILES: Final = {
    "architecture.json": ("json", "The architecture's choices"),
    "weights.safetensors": ("weights", "Trained weights, safetensors"),
    "model.onnx": ("onnx", "The model for ONNX runtimes"),
    "model.pt2": ("pt2", "The model as torch.export writes it"),
}
"""Deliverables by name, in the order they are offered: short label, and what it is."""


def believed_cells(search: SearchRecord, trial: TrialRecord) -> dict[str, Cell]:
    """What the search believed of a trial, by quantity; parameters and MACs are exact."""
    errors = stated_errors(search)
    cells: dict[str, Cell] = {}
    for column, one in enumerate(quantities_of(search)):
        value = trial.values[column] if column < len(trial.values) else None
        if value is None:
            continue
        source = trial.sources[column] if column < len(trial.sources) else "predicted"
        if source.startswith("predicted:exact"):
            cells[one.key] = Cell(value=one.sign * value, error=None, source="exact")
        else:
            natural = one.sign * value
            error = errors[one.key].of(natural) if one.key in errors else None
            cells[one.key] = Cell(value=natural, error=error, source=source)
    for name, count in zip(SIZES, (trial.params, trial.macs), strict=True):
        if count is not None:
            cells.setdefault(name, Cell(value=float(count), error=None, source="exact"))
    return cells


def measured_cells(trial: TrialRecord) -> dict[str, Cell]:
    """What was measured of a trial, by quantity; predicted metrics are left out."""
    return {
        label(metric.quantity, metric.device): Cell(
            # The store keeps the interquartile range; ± shows half of it.
            value=metric.value,
            error=None if metric.spread is None else metric.spread / 2,
            source=metric.source,
        )
        for metric in trial.metrics
        if metric.source.startswith("measured:")
    }


def downloads(trial: TrialRecord, api: str) -> tuple[Download, ...]:
    """The trial's files, deliverables first and in a fixed order."""
    order = {name: rank for rank, name in enumerate(_FILES)}
    links = sorted(trial.artifacts, key=lambda link: (order.get(link.artifact.name, len(order)), link.artifact.name))
    return tuple(_download(link.artifact, link.role, api) for link in links)


def _download(artifact: ArtifactRecord, role: str, api: str) -> Download:
    short, title = _FILES.get(artifact.name, (role, role))
    size = choose_format("memory_bytes", [artifact.size]).text(artifact.size)
    href = f"{api}/artifacts/{artifact.id}/content"
    return Download(name=artifact.name, short=short, title=title, href=href, size=size)


def front_view(search: SearchRecord, trials: Sequence[TrialRecord], *, href: str, api: str) -> FrontView:
    """The front's members by the first hardware objective, with the balanced one named.

    Args:
        search: whose front it is.
        trials: members of the believed and the verified front, with metrics and artifacts.
        href: address of the search's page.
        api: address of the API.
    """
    members = [
        Member(
            number=trial.number,
            href=f"{href}/trials/{trial.number}",
            believed=believed_cells(search, trial),
            verified=measured_cells(trial),
            downloads=downloads(trial, api),
        )
        for trial in trials
    ]
    quantities = quantities_of(search)
    last = quantities[min(1, len(quantities) - 1)].key
    members.sort(key=lambda member: member.believed[last].value if last in member.believed else float("inf"))
    verified = sum(1 for member in members if member.verified)
    noun = "member" if len(members) == 1 else "members"
    return FrontView(
        axes=axes_of(search, members),
        members=tuple(members),
        knee=_balanced(search, members),
        summary=f"{len(members)} {noun}, {verified} verified" if members else "",
        empty_reason=_empty_reason(search),
        csv_href=f"{api}/searches/{search.id}/front?format=csv",
        json_href=f"{api}/searches/{search.id}/front?format=json",
    )


def _balanced(search: SearchRecord, members: Sequence[Member]) -> int | None:
    quantities = quantities_of(search)
    values = np.array(
        [
            [
                quantity.sign * member.believed[quantity.key].value if quantity.key in member.believed else np.nan
                for quantity in quantities
            ]
            for member in members
        ]
    ).reshape(len(members), len(quantities))
    row = balanced_row(values) if len(members) > 2 else None
    return None if row is None else members[row].number


def _empty_reason(search: SearchRecord) -> str:
    if search.n_trials == 0:
        waiting = search.state in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)
        return "No trial has finished yet." if waiting else "The search ended before a trial finished."
    return "No trial satisfies every constraint so far."


def chart_json(search: SearchRecord, front: FrontView, history: Sequence[CurvePoint]) -> Mapping[str, object]:
    """What the page's charts read: axes, members, hypervolume history and what to show first."""
    objectives = [axis for axis in front.axes if axis.objective]
    begun = search.started or search.created
    return {
        "axes": [axis.to_json() for axis in front.axes],
        "members": [member.to_json() for member in front.members],
        "knee": front.knee,
        "history": [
            {
                "trials": entry.n_trials,
                "seconds": max((entry.at - begun).total_seconds(), 0.0),
                "hypervolume": entry.hypervolume,
            }
            for entry in history
            if entry.hypervolume is not None
        ],
        "defaults": {
            "x": objectives[min(1, len(objectives) - 1)].key if len(objectives) > 1 else PARAMS,
            "y": objectives[0].key,
            "view": "verified" if any(member.verified for member in front.members) else "believed",
            "best": objectives[0].key,
        },
    }
