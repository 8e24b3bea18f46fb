"""The picture of a trial's architecture: drawn from what the store holds, where this version still has its space."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from fastapi import Request, Response
from pydantic import ValidationError

from ...errors import ConfigError, SpaceError
from ...spaces import catalog
from ...spaces.drawing import STYLE, draw_svg
from ..schemas.job import SpaceSection
from ..store.records import SearchRecord, TrialRecord

__all__ = ["picture_of", "picture_response"]

_STYLE_HASH: Final = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src '{_STYLE_HASH}'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",  # kept by the browser, shown only after the server has been asked again
}
"""Opened by itself, the picture may use its own style element and nothing else."""


def picture_of(search: SearchRecord, trial: TrialRecord) -> str | None:
    """The trial's network as an SVG document, or None where its space cannot be rebuilt as the search knew it."""
    section = search.config.get("space")
    if not isinstance(section, Mapping):
        return None
    return _draw(json.dumps(dict(section), sort_keys=True), trial.genome, trial.arch_key)


def picture_response(request: Request, svg: str, arch_key: str) -> Response:
    """The picture, or that the browser's copy is still right.

    The entity tag holds a digest beside the architecture's key: another version may draw the same architecture anew.
    """
    etag = f'"{arch_key}-{hashlib.sha256(svg.encode()).hexdigest()[:16]}"'
    headers = {**_HEADERS, "ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(svg, media_type="image/svg+xml", headers=headers)


@lru_cache(maxsize=256)
def _draw(section: str, genome: tuple[int, ...], arch_key: str) -> str | None:
    """Draw one genome of the space that a job's section describes."""
    try:
        wanted = SpaceSection.model_validate_json(section)
        space = catalog.get(wanted.name, wanted.preset, **wanted.options)
        architecture = space.decode(np.array(genome))
        # Keys hold the space's identity: another key means that this genome once stood for something else.
        return draw_svg(space, architecture) if architecture.key == arch_key else None
    except (ConfigError, SpaceError, ValidationError):
        return None
