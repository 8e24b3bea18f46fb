"""Lines of the lists of jobs and devices."""

from __future__ import annotations

from collections.abc import Mapping

from ...store.records import DeviceRecord, JobRecord
from ..views import DeviceRow, JobRow

__all__ = ["device_row", "job_row"]


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


def device_row(device: DeviceRecord) -> DeviceRow:
    """A device's line."""
    description = device.description
    text = description.get("description") or description.get("title") or description.get("processor") or ""
    return DeviceRow(
        name=device.name,
        kind=str(description.get("kind") or description.get("type") or "–"),
        description=str(text),
        created_at=device.created,
    )
