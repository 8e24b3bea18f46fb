"""Errors as RFC 9457 problem documents: one JSON shape, a stable `code`, a `request_id`, and never a traceback.

Source: https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from ...errors import ArchsmithError, ConfigError, DeviceError, InfeasibleError, SpaceError, StoreError, TaskError
from ..schemas.check import InvalidJobError, explain, place_of
from ..schemas.job import JobSpec
from ..store.faults import Conflict, IdempotencyMismatch, NotFound

__all__ = ["ProblemError", "install_handlers", "problem_response"]

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger("archsmith.service")


class ProblemError(Exception):
    """An answer other than success, decided by a route.

    Args:
        status: HTTP status code.
        code: stable name of the problem, for programs.
        detail: what failed, the value received, what is allowed, what to do next.
        errors: the single mistakes, where there are several.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Iterable[ConfigError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def problem_response(request: Request, problem: ProblemError) -> JSONResponse:
    """The problem as a response."""
    content = {
        "type": f"urn:archsmith:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
        "code": problem.code,
        "request_id": getattr(request.state, "request_id", ""),
        "errors": [_error_json(error) for error in problem.errors],
    }
    return JSONResponse(content, status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        return problem_response(request, error)

    async def on_archsmith(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ArchsmithError)
        return problem_response(request, _from_archsmith(request, error))

    async def on_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return problem_response(request, _from_validation(error))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-").replace("'", "")
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"There is nothing at {request.url.path}. See /openapi.json for what there is."
        return problem_response(request, ProblemError(error.status_code, code, detail, headers=error.headers))

    async def on_database(request: Request, error: Exception) -> JSONResponse:
        _log.error("request %s: the database does not answer: %s", _request_id(request), error)
        problem = ProblemError(
            503, "store-unavailable", "The database does not answer. Try again.", headers={"Retry-After": "5"}
        )
        return problem_response(request, problem)

    async def on_anything(request: Request, error: Exception) -> JSONResponse:
        request_id = _request_id(request)
        _log.error("request %s: %s %s failed", request_id, request.method, request.url.path, exc_info=error)
        detail = f"The server failed to answer. Its log tells why, under request {request_id}."
        return problem_response(request, ProblemError(500, "internal-error", detail))

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(ArchsmithError, on_archsmith)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(OperationalError, on_database)
    app.add_exception_handler(Exception, on_anything)


def _request_id(request: Request) -> str:
    return getattr(request.state, "request_id", "")


def _from_archsmith(request: Request, error: ArchsmithError) -> ProblemError:
    if isinstance(error, InvalidJobError):
        return ProblemError(422, "invalid-job", str(error), errors=error.errors)
    if isinstance(error, ConfigError):
        return ProblemError(422, "invalid-value", str(error), errors=[error])
    if isinstance(error, InfeasibleError):
        return ProblemError(422, "infeasible", str(error))
    if isinstance(error, NotFound):
        return ProblemError(404, "not-found", str(error))
    if isinstance(error, Conflict):
        return ProblemError(409, "conflict", str(error))
    if isinstance(error, IdempotencyMismatch):
        return ProblemError(422, "idempotency-mismatch", str(error))
    if isinstance(error, SpaceError | TaskError | DeviceError):
        return ProblemError(422, "invalid-value", str(error))
    request_id = _request_id(request)
    _log.error("request %s: %s %s failed", request_id, request.method, request.url.path, exc_info=error)
    if isinstance(error, StoreError):
        return ProblemError(
            503,
            "store-unavailable",
            f"The store refused the operation; the server's log tells why, under request {request_id}.",
            headers={"Retry-After": "5"},
        )
    return ProblemError(
        500, "internal-error", f"The server failed to answer. Its log tells why, under request {request_id}."
    )


def _from_validation(error: RequestValidationError) -> ProblemError:
    body_errors, errors = [], []
    for item in error.errors():
        where, *rest = item["loc"]
        if item["type"] == "json_invalid":
            reason = item.get("ctx", {}).get("error", "not JSON")
            return ProblemError(400, "malformed-json", f"The body is no JSON document: {reason}.")
        if where == "body":
            body_errors.append({**item, "loc": tuple(rest)})
        else:
            errors.append(ConfigError(place_of((str(where), *rest)), item.get("input"), item["msg"]))
    errors += explain(body_errors, JobSpec)
    return ProblemError(
        422, "invalid-job" if body_errors else "invalid-value", "\n".join(map(str, errors)), errors=errors
    )


def _error_json(error: ConfigError) -> dict[str, Any]:
    value = error.value
    plain = isinstance(value, str | int | bool) or value is None or (isinstance(value, float) and math.isfinite(value))
    return {
        "place": error.place,
        "value": error.value if plain else repr(error.value)[:200],
        "allowed": error.allowed,
        "hint": error.hint,
        "message": str(error),
    }
