"""HTTP for the SDK: one request with bounded retries, and problem documents as exceptions."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from ... import __version__
from ...errors import ArchsmithError
from ..schemas.resources import Page, Problem

__all__ = ["ApiError", "ConnectionLostError", "Transport"]

Item = TypeVar("Item", bound=BaseModel)
_RETRIED: Final = frozenset({409, 429, 502, 503, 504})


class ApiError(ArchsmithError):
    """The server refused a request; the message is the problem's detail.

    Args:
        status: HTTP status code.
        problem: the problem document, None where the answer held none (a proxy's error page).
        text: what to say without a document.
    """

    def __init__(self, status: int, problem: Problem | None, text: str = "") -> None:
        self.status = status
        self.problem = problem
        super().__init__(problem.detail if problem else f"HTTP {status}: {text[:200]}")


class ConnectionLostError(ArchsmithError):
    """The server could not be reached, however often it was tried."""


class Transport:
    """Requests to one server.

    Args:
        http: the connection.
        attempts: how often a request that may be repeated is tried.
        patience_s: longest pause between two tries, seconds; the first is a tenth of a second.
    """

    def __init__(self, http: httpx.Client, *, attempts: int = 5, patience_s: float = 5.0) -> None:
        self.http = http
        self.attempts = attempts
        self.patience_s = patience_s

    def get(self, path: str, **params: object) -> httpx.Response:
        """Read; repeated where the server is away or busy."""
        given = {key: str(value) for key, value in params.items() if value is not None}
        return self._send("GET", path, repeatable=True, params=given)

    def create(self, path: str, body: Mapping[str, Any], idempotency_key: str | None = None) -> httpx.Response:
        """POST that creates something: repeated under one key, so that it is created once."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._send("POST", path, repeatable=True, json=body, headers=headers)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, params: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """POST that is not repeated."""
        return self._send("POST", path, repeatable=False, json=body, params=params)

    def patch(self, path: str, body: Mapping[str, Any], etag: str) -> httpx.Response:
        """Change what still has this ETag; not repeated."""
        return self._send("PATCH", path, repeatable=False, json=body, headers={"If-Match": etag})

    def delete(self, path: str) -> None:
        """DELETE; not repeated."""
        self._send("DELETE", path, repeatable=False)

    def pages(self, path: str, item: type[Item], **params: object) -> Iterator[Item]:
        """Every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = Page[item].model_validate_json(self.get(path, **params, cursor=cursor).content)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], read_timeout_s: float | None) -> Iterator[httpx.Response]:
        """A response read piece by piece; not repeated."""
        timeout = httpx.Timeout(10.0, read=read_timeout_s)
        with self.http.stream("GET", path, headers=dict(headers), timeout=timeout) as response:
            if response.is_error:
                response.read()
                raise _error_of(response)
            yield response

    def _send(self, method: str, path: str, *, repeatable: bool, **options: Any) -> httpx.Response:
        attempts = self.attempts if repeatable else 1
        for attempt in range(1, attempts + 1):
            try:
                response = self.http.request(method, path, **options)
            except httpx.TransportError as error:
                if attempt == attempts:
                    raise ConnectionLostError(
                        f"{method} {self.http.base_url.join(path)}: {error or type(error).__name__} after {attempt} "
                        f"tries. Check that the server runs (archsmith serve) and that the address is right."
                    ) from error
                self._pause(attempt, None)
                continue
            if not response.is_error:
                return response
            error = _error_of(response)
            in_flight = response.status_code != 409 or (error.problem and error.problem.code == "request-in-flight")
            if attempt == attempts or response.status_code not in _RETRIED or not in_flight:
                raise error
            self._pause(attempt, response.headers.get("retry-after"))
        raise AssertionError("unreachable: the last try returns or raises")

    def _pause(self, attempt: int, retry_after: str | None) -> None:
        asked = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
        backoff = 0.1 * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
        time.sleep(min(max(backoff, asked), self.patience_s))


def connect(url: str, api_key: str | None, timeout_s: float) -> httpx.Client:
    """A connection pool to the server at `url`."""
    headers = {"User-Agent": f"archsmith/{__version__}"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return httpx.Client(base_url=f"{url.rstrip('/')}/api/v1/", headers=headers, timeout=timeout_s)


def _error_of(response: httpx.Response) -> ApiError:
    try:
        problem = Problem.model_validate_json(response.content)
    except (ValidationError, json.JSONDecodeError):
        problem = None
    return ApiError(response.status_code, problem, response.text)
