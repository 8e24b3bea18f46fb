"""The vendored browser libraries: which files, which versions, which digests, and what their style needs of the CSP.

They are served from this package so that the dashboard works offline. `VENDORED` pins each file; a test compares the
digests with the files. To update one, run ``npm pack <package>``, copy its minified file and licence into
``static/vendor``, and change its entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["PLOTLY_STYLE_HASH", "VENDORED", "VendoredFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VendoredFile:
    """One third-party file under ``static/vendor``."""

    package: str
    version: str
    licence: str
    file: str
    sha256: str
    licence_file: str


VENDORED: Final = {
    "plotly": VendoredFile(
        # The strict bundle: the ordinary one builds WebGL shaders with `new Function`, which a strict CSP blocks; it
        # then draws "WebGL is not supported" without any error.
        package="plotly.js-strict-dist-min",
        version="4.1.1",
        licence="MIT",
        file="plotly-strict-4.1.1.min.js",
        sha256="4ac841837b31c1bfd2ab140e3a248ddcc6c2106978fbf2c1c18a7aada930a37a",
        licence_file="LICENSE.plotly.txt",
    ),
    "htmx": VendoredFile(
        package="htmx.org",
        version="2.0.11",
        licence="0BSD",
        file="htmx-2.0.11.min.js",
        sha256="d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        licence_file="LICENSE.htmx.txt",
    ),
}

PLOTLY_STYLE_HASH: Final = "sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o="
"""The one inline style that the pinned Plotly inserts at load (of its map library); the others are in plotly.css."""
