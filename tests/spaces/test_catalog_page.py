"""The page of search spaces says what the catalog says."""

from __future__ import annotations

from pathlib import Path

from archsmith.spaces import catalog
from archsmith.spaces.catalog_page import page

DOCS = Path(__file__).parent.parent.parent / "docs"
AGAIN = "run: python -m archsmith.spaces.catalog_page docs"


def test_page_and_pictures_are_up_to_date():
    text, pictures = page()
    assert (DOCS / "spaces.md").read_text(encoding="utf-8") == text, AGAIN
    stored = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "images" / "spaces").glob("*.svg")}
    assert stored == pictures, AGAIN


def test_page_has_every_family_with_its_presets():
    text, pictures = page()
    for name, family in catalog.FAMILIES.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| [{name}]")]
        assert all(f"`{preset}`" in row for preset in family.presets)
        assert ("| yes |" in row) == family.supernet
        assert f"{name}.svg" in pictures
