"""The page of strategies is what the catalog says."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsmith.errors import ConfigError
from archsmith.search.strategies import catalog, catalog_page

DOCS = Path(catalog_page.__file__).parents[2] / "docs"


def test_page_is_up_to_date() -> None:
    text = (DOCS / "strategies.md").read_text(encoding="utf-8")
    assert catalog_page.page(text) == text, "run: python -m archsmith.search.strategies.catalog_page docs"


def test_every_strategy_has_a_use_and_no_other() -> None:
    assert sorted(catalog_page.USES) == catalog.names()


def test_auto_and_every_option_are_documented() -> None:
    text = catalog_page.table()
    assert "`strategy: auto`" in text
    for name in catalog.names():
        for option in catalog.options(name):
            assert f"`{option}`" in text


def test_text_by_hand_stays() -> None:
    kept = f"before\n{catalog_page.BEGIN}\noutdated\n{catalog_page.END}\nfigures"
    page = catalog_page.page(kept)
    assert page.startswith("before\n")
    assert page.endswith("\nfigures")
    assert "outdated" not in page
    with pytest.raises(ConfigError, match="markers"):
        catalog_page.page("nothing")
