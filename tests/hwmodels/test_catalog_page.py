from __future__ import annotations

import dataclasses
from pathlib import Path

from archsmith.hwmodels import catalog
from archsmith.hwmodels.catalog_page import UNITS, page
from archsmith.hwmodels.device import Device

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_page_is_the_one_in_the_docs():
    assert (DOCS / "device-catalog.md").read_text(encoding="utf-8") == page(), (
        "regenerate: python -m archsmith.hwmodels.catalog_page docs"
    )


def test_page_shows_every_device_and_every_source():
    text = page()
    for name in catalog.names():
        assert f"## {name}\n" in text
    source = catalog.get("tpu_v1").peak_gmacs_per_s["int8"].source
    assert f"| peak rate int8 (GMAC/s) | 45,875 | {source} |" in text


def test_every_figure_of_a_device_has_a_name_and_unit():
    assert set(UNITS) == {field.name for field in dataclasses.fields(Device)} - {"name", "title", "kind"}
