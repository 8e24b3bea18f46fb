"""What every route shares: settings, store, cursors; and the one check of who may call which route.

A request says who it is by an API key in its `Authorization` header, or as a browser by the session cookie that signing
in with such a key has left there; the header wins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

from fastapi import Depends, Header, Query, Request

from .. import sessions
from ..auth import LOCAL, Principal, authenticate, principal_of
from ..dashboard.login import login_address
from ..settings import Settings
from ..store.records import Role
from ..store.store import Store
from .cursors import Cursors
from .problems import ProblemError

__all__ = ["ACCESS", "API", "PUBLIC", "Context", "ContextDep", "CursorParam", "Limit", "PrincipalDep", "authorize"]

API: Final = "/api/v1"

PUBLIC: Final = frozenset({"/healthz", "/readyz", "/openapi.json", "/login", "/agent.py", "/static/{name:path}"})
"""Routes that anyone may call: none of them tells what the store holds."""

_READ: Final = (
    "/metrics",
    f"{API}/searches",
    f"{API}/searches/{{search_id}}",
    f"{API}/searches/{{search_id}}/artifacts",
    f"{API}/searches/{{search_id}}/events",
    f"{API}/searches/{{search_id}}/front",
    f"{API}/searches/{{search_id}}/front/history",
    f"{API}/searches/{{search_id}}/points",
    f"{API}/searches/{{search_id}}/trials",
    f"{API}/searches/{{search_id}}/trials/{{number}}",
    f"{API}/artifacts/{{artifact_id}}",
    f"{API}/artifacts/{{artifact_id}}/content",
    f"{API}/devices",
    f"{API}/devices/{{name}}",
    f"{API}/devices/{{name}}/models",
    f"{API}/jobs",
    f"{API}/jobs/{{job_id}}",
    f"{API}/spaces",
    f"{API}/spaces/{{name}}",
)
_COMPUTE: Final = (f"{API}/spaces/{{name}}/sample", f"{API}/spaces/{{name}}/validate")
_WRITE: Final = (
    f"{API}/searches",
    f"{API}/searches/{{search_id}}/cancel",
    f"{API}/searches/{{search_id}}/pause",
    f"{API}/searches/{{search_id}}/resume",
    f"{API}/devices",
    f"{API}/devices/{{name}}/cancel",
    f"{API}/devices/{{name}}/keys",
    f"{API}/devices/{{name}}/probes",
)

_MEASURE: Final = (
    f"{API}/devices/{{name}}/agent",
    f"{API}/devices/{{name}}/results",
    f"{API}/devices/{{name}}/tasks/claim",
    f"{API}/devices/{{name}}/tasks/{{task_id}}/fail",
    f"{API}/devices/{{name}}/tasks/{{task_id}}/release",
    f"{API}/devices/{{name}}/tasks/{{task_id}}/renew",
    f"{API}/devices/{{name}}/tasks/{{task_id}}/result",
)

ACCESS: Final = MappingProxyType({
    **{("GET", path): Role.VIEWER for path in _READ},
    **{("POST", path): Role.VIEWER for path in _COMPUTE},
    **{("POST", path): Role.EDITOR for path in _WRITE},
    **{("POST", path): Role.DEVICE for path in _MEASURE},
    ("GET", f"{API}/devices/{{name}}/tasks"): Role.DEVICE,
    ("PATCH", f"{API}/searches/{{search_id}}"): Role.EDITOR,
    ("POST", "/logout"): Role.VIEWER,
    ("DELETE", f"{API}/searches/{{search_id}}"): Role.ADMIN,
})  # fmt: skip
"""The role that each route of the API needs, by method and path template. What is not listed is refused."""


@dataclass(frozen=True, slots=True)
class Context:
    """What `create_app` was given."""

    settings: Settings
    store: Store
    cursors: Cursors
    signing_key: bytes


def context_of(request: Request) -> Context:
    """The application's context."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


ContextDep = Annotated[Context, Depends(context_of)]
Limit = Annotated[int, Query(ge=1, le=500, description="At most this many items.")]
CursorParam = Annotated[str | None, Query(max_length=1024, description="`next_cursor` of the page before.")]


def authorize(
    request: Request,
    context: ContextDep,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Principal:
    """Who calls, if they may: a dependency of every router, so that a new route is closed until `ACCESS` opens it.

    Raises:
        ProblemError: 401 without a valid key or session (a browser is sent to sign in), 403 with one whose role does
            not suffice, with a device's key for another device, or for another site's page.
    """
    path = request.scope["route"].path
    changing = request.method not in ("GET", "HEAD")
    if path in PUBLIC:
        if changing:
            _refuse_other_sites(request)
        return LOCAL
    principal = _identify(request, context, authorization)
    needed = _needed_role(request.method, path)
    if needed is None or not principal.may(needed):
        allowed = f"role {needed} or above" if needed else "nobody"
        raise ProblemError(
            403, "forbidden", f"{request.method} {path} is open to {allowed}; this key has role {principal.role}."
        )
    device = request.path_params.get("name") if needed is Role.DEVICE else None
    if device is not None and not principal.acts_for(device):
        bound = f"it is bound to device {principal.device!r}" if principal.device else "it is bound to no device"
        raise ProblemError(
            403,
            "other-device",
            f"{request.method} {request.url.path}: this key cannot act for device {device!r}; {bound}. Make one for "
            f"{device!r}: archsmith devices key {device}.",
        )
    if authorization is None and changing:
        _refuse_other_sites(request)
        _check_token(request, context)
    request.state.principal = principal
    return principal


PrincipalDep = Annotated[Principal, Depends(authorize)]


def _identify(request: Request, context: Context, authorization: str | None) -> Principal:
    if authorization is not None:
        scheme, _, key = authorization.partition(" ")
        valid = authenticate(context.store, context.signing_key, key.strip()) if scheme.lower() == "bearer" else None
        if valid is None:
            raise _unauthorized("The API key is malformed, unknown or revoked.")
        return valid
    if not context.settings.needs_api_key:
        return LOCAL
    cookie = request.cookies.get(sessions.COOKIE, "")
    key_id = sessions.read(cookie, context.signing_key, now=time.time())
    principal = None if key_id is None else principal_of(context.store, key_id)
    if principal is None:
        raise _sign_in(request)
    request.state.csrf_token = sessions.csrf_token(cookie, context.signing_key)
    return principal


def _sign_in(request: Request) -> ProblemError:
    """Send a browser that asks for a page to the login form; tell everyone else that a key is needed."""
    headers = request.headers
    if request.url.path.startswith("/api/") or request.method != "GET" or "text/html" not in headers.get("accept", ""):
        return _unauthorized("This server needs an API key; send it as `Authorization: Bearer nas_…`.")
    detail = "Sign in with an API key to see this page."
    if headers.get("hx-request") == "true":  # a fragment of an open page: htmx takes the whole page there
        return ProblemError(
            401, "unauthorized", detail, headers={"HX-Redirect": f"{request.scope.get('root_path', '')}/login"}
        )
    return ProblemError(
        303, "sign-in", detail, headers={"Location": login_address(request), "Cache-Control": "no-store"}
    )


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="archsmith"'})


def _check_token(request: Request, context: Context) -> None:
    """What changes something in a session carries the session's token, which only this server's pages know."""
    cookie = request.cookies.get(sessions.COOKIE, "")
    token = request.headers.get(sessions.CSRF_HEADER, "")
    if context.settings.needs_api_key and not sessions.is_csrf_token(token, cookie, context.signing_key):
        raise ProblemError(
            403, "csrf-token", f"{sessions.CSRF_HEADER}: it is not this session's; reload the page and try again."
        )


def _needed_role(method: str, path: str) -> Role | None:
    """The role that the route needs; None = refused. Pages of the dashboard are read by viewers."""
    method = "GET" if method == "HEAD" else method
    if not path.startswith("/api/") and method == "GET":
        return Role.VIEWER
    return ACCESS.get((method, path))


def _refuse_other_sites(request: Request) -> None:
    """A page of another origin must not act through the browser of someone who needs no key here."""
    origin = request.headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ProblemError(403, "cross-site-request", "Requests that change something are not taken from other sites.")
