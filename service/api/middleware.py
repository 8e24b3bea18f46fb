"""What surrounds every request: its id, the limit of its body, and the headers that keep browsers safe."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..dashboard.rendering import CONTENT_SECURITY_POLICY
from .problems import ProblemError, problem_response
from .system import Metrics

__all__ = ["SECURITY_HEADERS", "BodyLimit", "RequestFrame", "TrustedHosts"]

SECURITY_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

_PORT = re.compile(r":\d+$")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestFrame:
    """Gives each request an id (the caller's, where it sends a plain one) and each response the security headers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        begun = time.perf_counter()

        async def send_framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("cache-control", "no-store")
                route = getattr(scope.get("route"), "path", "other")
                self.metrics.observe(scope["method"], route, message["status"], time.perf_counter() - begun)
            await send(message)

        await self.app(scope, receive, send_framed)


class TrustedHosts:
    """Answers only requests whose Host header is listed: a name that an attacker rebinds to this machine is not."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and "*" not in self.hosts:
            host = _PORT.sub("", Headers(scope=scope).get("host", "")).lower()
            if host not in self.hosts:
                detail = f"Host: got {host!r}; allowed: {', '.join(sorted(self.hosts))}. Set ARCHSMITH_TRUSTED_HOSTS."
                problem = ProblemError(400, "untrusted-host", detail)
                await problem_response(Request(scope), problem)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses bodies above `limit` bytes, declared or streamed, before a route sees them."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self.limit:
            await self._refuse(scope, receive, send)
            return
        messages, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has gone
            messages.append(message)
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size > self.limit:
                await self._refuse(scope, receive, send)
                return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = ProblemError(
            413, "body-too-large", f"The body is too large; at most {self.limit} bytes are read.",
            headers={"Connection": "close"},
        )  # fmt: skip
        await problem_response(Request(scope), problem)(scope, receive, send)
