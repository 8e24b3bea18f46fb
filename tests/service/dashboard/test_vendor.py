from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import archsmith.service.dashboard as dashboard
from archsmith.service.dashboard.vendor import VENDORED

VENDOR = Path(dashboard.__file__).parent / "static" / "vendor"


@pytest.mark.parametrize("name", sorted(VENDORED))
def test_vendored_file_has_the_pinned_digest_version_and_licence(name):
    entry = VENDORED[name]
    content = (VENDOR / entry.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert entry.version in entry.file
    assert len((VENDOR / entry.licence_file).read_text(encoding="utf-8")) > 300


def test_vendor_folder_holds_nothing_unpinned():
    pinned = {name for entry in VENDORED.values() for name in (entry.file, entry.licence_file)}
    assert {path.name for path in VENDOR.iterdir()} == pinned


def test_vendored_plotly_states_its_version_and_is_the_strict_bundle():
    entry = VENDORED["plotly"]
    assert f"(strict - minified) v{entry.version}" in (VENDOR / entry.file).read_text(encoding="utf-8")[:400]
