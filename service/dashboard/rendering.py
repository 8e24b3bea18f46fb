"""Templates, static files and the security headers that every page of the dashboard carries."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from . import format as fmt
from .vendor import PLOTLY_STYLE_HASH, VENDORED

__all__ = ["CONTENT_SECURITY_POLICY", "Renderer", "static_response"]

_HERE: Final = Path(__file__).parent
_STATIC: Final = _HERE / "static"

CONTENT_SECURITY_POLICY: Final = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    f"style-src 'self' '{PLOTLY_STYLE_HASH}'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
))  # fmt: skip
"""Nothing from elsewhere, nothing inline; the hash admits the one style element that Plotly inserts at load."""

_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Renderer:
    """Renders templates for one application; `now` is the clock that ages are told by."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["age"] = lambda moment: fmt.age(moment, self._now())
        environment.filters["clock"] = lambda moment: fmt.as_utc(moment).strftime("%H:%M:%S")
        environment.filters["timestamp"] = fmt.timestamp
        environment.globals["vendored"] = VENDORED
        environment.globals["version"] = _version()
        return environment

    def page(self, request: Request, template: str, *, status_code: int = 200, **context: object) -> Response:
        """A whole page or a fragment of one, as a response with the security headers."""
        root = request.scope.get("root_path", "").rstrip("/")
        text = self._environment.get_template(template).render(
            url=lambda path: root + path,
            csrf_token=getattr(request.state, "csrf_token", ""),  # empty where nobody has signed in
            account=getattr(request.state, "principal", None),
            asset=lambda name: f"{root}/static/{name}?v={_digest(name)}",
            **context,
        )
        return Response(text, status_code=status_code, media_type="text/html", headers=_HEADERS)


def static_response(request: Request, name: str) -> Response:
    """A file of ``static/`` by its listed name; whatever is not listed does not exist, so no name becomes a path."""
    path = _files().get(name)
    if path is None:
        return Response("Not found", status_code=404, media_type="text/plain")
    etag = f'"{_digest(name)}"'
    # Modules import each other without a version in the address; only vendored files, whose names hold their version,
    # may be kept without asking.
    caching = "public, max-age=31536000, immutable" if name.startswith("vendor/") else "no-cache"
    headers = {"ETag": etag, "Cache-Control": caching, "X-Content-Type-Options": "nosniff", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return Response(_content(name, zipped=zipped), media_type=_media_type(path), headers=headers)


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    return {path.relative_to(_STATIC).as_posix(): path for path in _STATIC.rglob("*") if path.is_file()}


@lru_cache(maxsize=64)
def _content(name: str, *, zipped: bool) -> bytes:
    content = _files()[name].read_bytes()
    return gzip.compress(content, compresslevel=6, mtime=0) if zipped else content


@lru_cache(maxsize=64)
def _digest(name: str) -> str:
    return hashlib.sha256(_files()[name].read_bytes()).hexdigest()[:16]


def _media_type(path: Path) -> str:
    if path.suffix == ".js":
        return "text/javascript; charset=utf-8"
    return mimetypes.guess_type(path.name)[0] or "text/plain; charset=utf-8"


def _version() -> str:
    try:
        return package_version("archsmith")
    except PackageNotFoundError:  # an uninstalled checkout on PYTHONPATH
        return "development"
