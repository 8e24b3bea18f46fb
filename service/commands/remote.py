"""`submit`: hand a job to the server that works on it."""

from __future__ import annotations

from pathlib import Path

from ...errors import ConfigError
from ..client.client import Client
from ..settings import Settings
from .connection import ServerFile
from .output import console

__all__ = ["submit"]


def submit(settings: Settings, job_file: Path, server: str | None, api_key: str | None, *, wait: bool) -> int:
    """Submit a job; with `wait`, follow it to its end. Returns the exit code."""
    url = server or ServerFile(settings).read()
    if url is None:
        raise ConfigError(
            "--server", None, "the address of a running server", "Start one: archsmith serve. Or: archsmith run JOB."
        )
    with Client(url, api_key) as client:
        search = client.searches.create(job_file)
        console.print(f"Submitted as search {search.resource.number}; live at {client.url}/searches/{search.id}")
        if wait:
            search.wait(progress=True)
            console.print(f"Search {search.resource.number}: {search.state}")
            return 0 if search.state == "succeeded" else 1
    return 0
