"""Searches through the SDK: submit, list, and a handle to one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Literal

from ...errors import StoreError
from ..jobfile import read_job
from ..schemas import resources
from ..schemas.job import JobSpec
from .front import Front
from .transport import Transport
from .watch import watch

__all__ = ["SearchHandle", "Searches"]


class Searches:
    """The searches of a server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, job: Mapping[str, Any] | JobSpec | Path | str, idempotency_key: str | None = None) -> SearchHandle:
        """Submit a search.

        Args:
            job: a job, or the path of a job file.
            idempotency_key: repeating the call with the same key and job returns the same search; made up if left out.

        Raises:
            ConfigError: the job file cannot be read.
            ApiError: the job was refused; nothing is stored then.
        """
        if isinstance(job, JobSpec):
            body = job.to_json()
        else:
            body = read_job(job) if isinstance(job, Path | str) else dict(job)
        response = self._transport.create("searches", body, idempotency_key)
        return SearchHandle(self._transport, resources.Search.model_validate_json(response.content))

    def list(self, *, state: str | None = None, name: str | None = None) -> Iterator[resources.SearchSummary]:
        """Newest first, page by page."""
        return self._transport.pages("searches", resources.SearchSummary, state=state, name=name)

    def get(self, search_id: str | int) -> SearchHandle:
        """The search with this id or number."""
        response = self._transport.get(f"searches/{search_id}")
        return SearchHandle(self._transport, resources.Search.model_validate_json(response.content))


class SearchHandle:
    """One search on the server.

    Args:
        transport: how to reach it.
        resource: the search as last seen.
    """

    def __init__(self, transport: Transport, resource: resources.Search) -> None:
        self._transport = transport
        self.resource = resource

    def __repr__(self) -> str:
        return f"<search {self.resource.number} {self.resource.name!r}: {self.state}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self.resource.id

    @property
    def state(self) -> str:
        """Its state when last seen; `refresh` looks again."""
        return self.resource.state

    @property
    def report(self) -> dict[str, Any] | None:
        """What `verify` found, when last seen."""
        return self.resource.report

    def refresh(self) -> SearchHandle:
        """Look again."""
        self.resource = resources.Search.model_validate_json(self._transport.get(self._path()).content)
        return self

    def wait(self, *, progress: bool = False, timeout_s: float | None = None) -> SearchHandle:
        """Follow the search until it has ended, was paused, or the time is up.

        Args:
            progress: whether to show stage, trials, hypervolume and time left in the terminal.
            timeout_s: longest wait, seconds; None = as long as it takes.

        Raises:
            ConnectionLostError: the server stayed away for minutes.
            TimeoutError: the time is up; the search goes on.
        """
        self.resource = watch(self._transport, self.resource, progress=progress, timeout_s=timeout_s)
        return self

    def front(self, *, view: resources.View = "believed") -> Front:
        """The Pareto front: by what the search believed, or by what was measured on retrained members."""
        response = self._transport.get(self._path("front"), view=view)
        return Front(resources.Front.model_validate_json(response.content))

    def front_history(self, *, view: resources.View = "believed") -> list[resources.FrontHistoryEntry]:
        """How the front grew."""
        response = self._transport.get(self._path("front/history"), view=view)
        return resources.FrontHistory.model_validate_json(response.content).items

    def trials(self, *, state: str | None = None, on_front: resources.View | None = None) -> Iterator[resources.Trial]:
        """Every trial by number, page by page."""
        return self._transport.pages(
            self._path("trials"), resources.Trial, limit=500, state=state, on_front=on_front
        )  # fmt: skip

    def trial(self, number: int) -> resources.Trial:
        """One trial with its metrics and files."""
        return resources.Trial.model_validate_json(self._transport.get(self._path(f"trials/{number}")).content)

    def artifacts(self) -> list[resources.Artifact]:
        """The files of the search and its trials."""
        return list(self._transport.pages(self._path("artifacts"), resources.Artifact))

    def download(self, directory: Path | str) -> list[Path]:
        """Fetch every file into `directory`, those of a trial into ``trial-<number>``; each is checked by its digest.

        Files that are already there with the right content are kept.

        Returns:
            The files, in the order of `artifacts`.

        Raises:
            StoreError: what arrived is not what was stored.
        """
        return [self._fetch(artifact, Path(directory)) for artifact in self.artifacts()]

    def pause(self) -> SearchHandle:
        """Ask it to pause at its next safe point."""
        return self._act("pause")

    def resume(self) -> SearchHandle:
        """Let it go on after a pause."""
        return self._act("resume")

    def cancel(self, *, mode: Literal["drain", "kill"] = "drain") -> SearchHandle:
        """Ask it to stop for good, after the batch in hand or (`kill`) at once; its trials and front stay."""
        return self._act("cancel", mode=mode)

    def rename(self, name: str) -> SearchHandle:
        """Give it another name; raises ApiError (412) where someone else renames it at the same moment."""
        etag = self._transport.get(self._path()).headers["etag"]
        response = self._transport.patch(self._path(), {"name": name}, etag)
        self.resource = resources.Search.model_validate_json(response.content)
        return self

    def delete(self) -> None:
        """Remove it, once it has ended."""
        self._transport.delete(self._path())

    def _path(self, part: str = "") -> str:
        return f"searches/{self.id}/{part}" if part else f"searches/{self.id}"

    def _act(self, action: str, **params: str) -> SearchHandle:
        response = self._transport.post(self._path(action), params=params)
        self.resource = resources.Search.model_validate_json(response.content)
        return self

    def _fetch(self, artifact: resources.Artifact, directory: Path) -> Path:
        folder = directory if artifact.trial_number is None else directory / f"trial-{artifact.trial_number}"
        # The server's name is taken as a name only, never as a path.
        path = folder / (PurePath(artifact.name.replace("\\", "/")).name or artifact.id)
        if path.is_file() and _digest(path) == artifact.sha256:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        hasher = hashlib.sha256()
        with (
            self._transport.stream(f"artifacts/{artifact.id}/content", {}, 60.0) as response,
            draft.open("wb") as file,
        ):
            for chunk in response.iter_bytes():
                hasher.update(chunk)
                file.write(chunk)
        if hasher.hexdigest() != artifact.sha256:
            draft.unlink()
            raise StoreError(
                f"download of {artifact.name}: the content's SHA-256 is {hasher.hexdigest()}, expected "
                f"{artifact.sha256}; try again, and check the server's artifact folder if it stays so."
            )
        return draft.replace(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
