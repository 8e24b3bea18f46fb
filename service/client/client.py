"""`Client`: the door to a server, with one attribute per collection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..schemas import resources
from .devices import Devices
from .searches import Searches
from .transport import Transport, connect

__all__ = ["Client"]


class Client:
    """Speaks to one archsmith server; safe to share between threads.

    Args:
        url: of the server, e.g. ``http://127.0.0.1:8765``.
        api_key: needed unless the server listens on loopback only.
        timeout_s: for one answer, seconds.

    Attributes:
        searches: submit, list and follow searches.
        devices, spaces, jobs: what the server knows, has and does.

    Example::

        with Client("http://127.0.0.1:8765") as client:
            search = client.searches.create("configs/jobs/digits.yaml")
            search.wait(progress=True)
            print(search.front(view="verified").to_pandas())
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8765", api_key: str | None = None, *, timeout_s: float = 30.0
    ) -> None:
        self.url = url.rstrip("/")
        self._http = connect(url, api_key, timeout_s)
        transport = Transport(self._http)
        self.searches = Searches(transport)
        self.devices = Devices(transport)
        self.spaces = Spaces(transport)
        self.jobs = Jobs(transport)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Spaces:
    """The search spaces that jobs may name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[resources.Space]:
        """All families, each described by its first preset."""
        return list(self._transport.pages("spaces", resources.Space))

    def get(self, name: str, preset: str | None = None) -> resources.Space:
        """One preset of a family; the first one if left out."""
        return resources.Space.model_validate_json(self._transport.get(f"spaces/{name}", preset=preset).content)

    def sample(self, name: str, n: int = 1, *, preset: str | None = None, seed: int = 0) -> resources.SpaceSample:
        """Architectures drawn uniformly, with their exact counts."""
        body = {"n": n, "preset": preset, "seed": seed}
        return resources.SpaceSample.model_validate_json(self._transport.post(f"spaces/{name}/sample", body).content)

    def validate(self, name: str, choices: dict[str, Any], *, preset: str | None = None) -> resources.Validation:
        """The architecture with these choices; raises ApiError naming the gene and its values if there is none."""
        body = {"choices": choices, "preset": preset}
        return resources.Validation.model_validate_json(self._transport.post(f"spaces/{name}/validate", body).content)


class Jobs:
    """The queue of background work."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, state: str | None = None, kind: str | None = None) -> Iterator[resources.Job]:
        """Newest first."""
        return self._transport.pages("jobs", resources.Job, state=state, kind=kind)

    def get(self, job_id: str) -> resources.Job:
        """One job."""
        return resources.Job.model_validate_json(self._transport.get(f"jobs/{job_id}").content)
