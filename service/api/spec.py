"""The committed description of the API: ``python -m archsmith.service.api.spec`` writes it anew after a change."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from ..settings import Settings
from ..store.store import Store
from .app import create_app

__all__ = ["SPEC", "render"]

SPEC: Final = Path(__file__).parent / "openapi.json"


def render() -> str:
    """The description of the API as this code has it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.open(f"sqlite:///{folder}/archsmith.db", folder / "artifacts") as store:
            content = create_app(Settings(runs_dir=folder), store).openapi()
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SPEC.write_text(render(), encoding="utf-8")
