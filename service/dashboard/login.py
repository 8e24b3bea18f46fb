"""Signing in and out of the dashboard, where the server asks for API keys: a key in, a session cookie out."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from ..auth import authenticate
from ..sessions import COOKIE, issue
from ..settings import Settings
from ..store.store import Store
from .rendering import Renderer

__all__ = ["create_login_router", "login_address"]

_REFUSED: Final = (
    "This key is not valid here: it is malformed, unknown or revoked. Ask whoever runs the server for one."
)


def login_address(request: Request) -> str:
    """Where someone signs in who asked for this page, and comes back to it."""
    from urllib.parse import urlencode

    query = f"?{request.url.query}" if request.url.query else ""
    return f"{_root(request)}/login?{urlencode({'next': request.url.path + query})}"


def create_login_router(settings: Settings, store: Store, signing_key: bytes) -> APIRouter:
    """The login form, and what its button and the one for signing out do."""
    renderer = Renderer()
    router = APIRouter()

    def show(request: Request, target: str, error: str = "") -> Response:
        status = 401 if error else 200
        return renderer.page(request, "login.html", status_code=status, section="", target=target, error=error)

    @router.get("/login")
    def form(request: Request, next: str = "/") -> Response:  # noqa: A002  # the query parameter's name
        """The form; where no key is needed, straight on."""
        if not settings.needs_api_key:
            return RedirectResponse(_root(request) + "/searches", status_code=303)
        return show(request, _own_page(next))

    @router.post("/login")
    async def sign_in(request: Request) -> Response:
        """Exchange an API key for a session."""
        given = parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=8)
        target = _own_page(given.get("next", ["/"])[0])
        key = given.get("key", [""])[0].strip()
        principal = await run_in_threadpool(authenticate, store, signing_key, key)
        if principal is None:
            return await run_in_threadpool(show, request, target, _REFUSED)
        lifetime_s = round(3600 * settings.session_hours)
        response = RedirectResponse(target, status_code=303, headers={"Cache-Control": "no-store"})
        response.set_cookie(
            COOKIE,
            issue(principal.name, signing_key, until=time.time() + lifetime_s),
            max_age=lifetime_s,
            path=_root(request) or "/",
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return response

    @router.post("/logout")
    def sign_out(request: Request) -> Response:
        """Forget the session in this browser; revoking the key ends it everywhere."""
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path=_root(request) or "/", httponly=True, samesite="lax")
        return response

    return router


def _own_page(target: str) -> str:
    """`target` where it is a path of this server, else the start page: nobody is sent elsewhere by a link to us.

    >>> _own_page("/searches/1?x=2"), _own_page("//evil.example"), _own_page("https://evil.example")
    ('/searches/1?x=2', '/', '/')
    """
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if plain else "/"


def _root(request: Request) -> str:
    return request.scope.get("root_path", "").rstrip("/")
