from __future__ import annotations

import json

from archsmith.service.api.spec import SPEC, render

from .conftest import Served


def test_committed_description_is_current() -> None:
    committed = SPEC.read_text(encoding="utf-8")
    assert committed == render(), "run: python -m archsmith.service.api.spec"


def test_server_serves_its_description(served: Served) -> None:
    served_spec = served.http.get("/openapi.json").json()
    assert served_spec == json.loads(SPEC.read_text(encoding="utf-8"))
    assert "/api/v1/searches/{search_id}/front" in served_spec["paths"]
