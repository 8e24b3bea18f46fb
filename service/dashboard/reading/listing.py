"""Lines of the lists of jobs and devices."""

from __future__ import annotations

from collections.abc import Mapping

from ....hwmodels.device import Device
from ...measuring import SILENT_S, describe
from ...store.records import DeviceRecord, JobRecord, JobState
from ..views import DeviceRow, JobRow

__all__ = ["catalog_row", "device_row", "job_row"]


def job_row(job: JobRecord, search_names: Mapping[str, str], root: str) -> JobRow:
    """A job's line; a search's job carries the search's id."""
    search_id = job.id if job.kind == "search" else str(job.payload.get("search_id") or "")
    error = job.error or {}
    return JobRow(
        id=job.id,
        kind=job.kind.capitalize(),
        state=job.state.value,
        search_name=search_names.get(search_id, search_id),
        search_href=f"{root}/searches/{search_id}" if search_id else "",
        worker=job.worker or "",
        attempts=job.attempts,
        error=str(error.get("message") or error.get("reason") or ""),
        updated_at=job.finished or job.started or job.created,
    )


def device_row(record: DeviceRecord, tasks: Mapping[JobState, int]) -> DeviceRow:
    """A device's line; `tasks` counts its measuring tasks by state."""
    device = describe(record)
    left = tasks.get(JobState.QUEUED, 0) + tasks.get(JobState.RUNNING, 0)
    failed = tasks.get(JobState.FAILED, 0)
    counts = ((tasks.get(JobState.SUCCEEDED, 0), "measured"), (left, "left"), (failed, "failed"))
    return DeviceRow(
        name=device.name,
        kind=device.kind,
        description=device.title,
        agent=_agent(record),
        tasks=", ".join(f"{count} {what}" for count, what in counts if count),
        created_at=record.created,
    )


def catalog_row(device: Device) -> DeviceRow:
    """The line of a device that comes with archsmith and nobody has registered."""
    agent = "not needed" if device.name == "host" else "none so far"
    return DeviceRow(
        name=device.name, kind=device.kind, description=device.title, agent=agent, tasks="", created_at=None
    )


def _agent(record: DeviceRecord) -> str:
    if record.silent_s is None:
        return "none so far"
    return "at work" if record.silent_s < SILENT_S else f"silent for {record.silent_s / 60:.0f} min"
