"""From the store's records to the API's resources: directions back to natural, values by label, with their sources."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...search.problem import label
from ..schemas import resources
from ..store.records import (
    ArtifactLink,
    ArtifactRecord,
    EventRecord,
    FrontLogEntry,
    FrontRecord,
    FrontView,
    JobRecord,
    SearchRecord,
    TrialRecord,
)

__all__ = ["artifact", "event", "front", "history_entry", "job", "objectives_of", "search", "summary", "trial"]


def objectives_of(record: SearchRecord) -> list[resources.Objective]:
    """The search's objectives, in the order of its value columns."""
    return [
        resources.Objective(
            label=label(item["name"], item.get("device")),
            name=item["name"],
            direction=item["direction"],
            device=item.get("device"),
        )
        for item in record.objectives
    ]


def natural(values: Sequence[float | None], objectives: Sequence[resources.Objective]) -> dict[str, float | None]:
    """Minimised values as natural ones by label; missing or non-finite ones are None."""
    return {
        objective.label: None
        if value is None or not math.isfinite(value)
        else (-float(value) if objective.direction == "max" else float(value))
        for value, objective in zip(values, objectives, strict=True)
    }


def summary(record: SearchRecord) -> resources.SearchSummary:
    """A search as lists show it."""
    return resources.SearchSummary.model_validate(_search_fields(record))


def search(record: SearchRecord) -> resources.Search:
    """A search with everything about it."""
    objectives = objectives_of(record)
    return resources.Search.model_validate(
        _search_fields(record)
        | {
            "job": dict(record.config),
            "space": dict(record.space),
            "constraints": [dict(item) for item in record.constraints],
            "seed": record.seed,
            "reference": None if record.reference is None else natural(record.reference, objectives),
            "report": record.report,
        }
    )


def _search_fields(record: SearchRecord) -> dict[str, Any]:
    plain = resources.SearchSummary.model_fields.keys() - {"objectives", "progress"}
    return {name: getattr(record, name) for name in plain} | {
        "objectives": objectives_of(record),
        "progress": dict(record.progress),
    }


def artifact(record: ArtifactRecord, link: ArtifactLink | None = None) -> resources.Artifact:
    """An artifact, in its role where `link` gives one."""
    role = {} if link is None else {"role": link.role, "trial_number": link.trial_number}
    return resources.Artifact(**dataclasses.asdict(record), **role)


def trial(record: TrialRecord, objectives: Sequence[resources.Objective]) -> resources.Trial:
    """A trial."""
    return resources.Trial(
        search_id=record.search_id,
        number=record.number,
        state=record.state.value,
        arch_key=record.arch_key,
        genome=list(record.genome),
        choices=None if record.choices is None else dict(record.choices),
        fidelity=record.fidelity,
        values=natural(record.values, objectives),
        sources=_sources(record.sources, objectives),
        violation=record.violation,
        params=record.params,
        macs=record.macs,
        error=record.error,
        cost_s=record.cost_s,
        created=record.created,
        metrics=[resources.Metric(**dataclasses.asdict(metric)) for metric in record.metrics],
        artifacts=[artifact(link.artifact, link) for link in record.artifacts],
    )


def _sources(sources: Sequence[str], objectives: Sequence[resources.Objective]) -> dict[str, str]:
    return {objective.label: source for objective, source in zip(objectives, sources, strict=False)}


def front(
    record: FrontRecord, trials: Sequence[TrialRecord], objectives: Sequence[resources.Objective]
) -> resources.Front:
    """A front; `trials` are its members, which know where their values come from."""
    by_number = {item.number: item for item in trials}
    members = []
    for number, key, row in zip(record.numbers.tolist(), record.keys, record.values.tolist(), strict=True):
        member = by_number.get(number)
        values = {name: value for name, value in natural(row, objectives).items() if value is not None}
        sources = {} if member is None else _member_sources(member, record.view, objectives, values)
        members.append(resources.FrontMember(number=number, arch_key=key, values=values, sources=sources))
    return resources.Front(
        search_id=record.search_id,
        view=record.view.value,
        version=record.version,
        hypervolume=record.hypervolume,
        objectives=list(objectives),
        members=members,
    )


def _member_sources(
    member: TrialRecord, view: FrontView, objectives: Sequence[resources.Objective], values: Mapping[str, float]
) -> dict[str, str]:
    """Where a member's values come from: the trial's sources, or those of the metrics that hold the verified values."""
    sources = _sources(member.sources, objectives)
    if view is FrontView.BELIEVED:
        return sources
    for objective in objectives:
        for metric in member.metrics:
            same = (metric.quantity, metric.device) == (objective.name, objective.device)
            if same and math.isclose(metric.value, values.get(objective.label, math.nan), rel_tol=1e-9):
                sources[objective.label] = metric.source
    return sources


def history_entry(entry: FrontLogEntry) -> resources.FrontHistoryEntry:
    """A change of a front."""
    return resources.FrontHistoryEntry.model_validate(dataclasses.asdict(entry) | {"view": entry.view.value})


def job(record: JobRecord) -> resources.Job:
    """A job without its payload, which may be large."""
    fields = {name: getattr(record, name) for name in resources.Job.model_fields}
    return resources.Job.model_validate(fields)


def event(record: EventRecord) -> resources.Event:
    """An event."""
    return resources.Event.model_validate(dataclasses.asdict(record))
