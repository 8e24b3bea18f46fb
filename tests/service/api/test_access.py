"""Every route against every kind of caller: what `ACCESS` does not open is closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from archsmith.errors import ConfigError
from archsmith.service.api.app import create_app
from archsmith.service.api.context import ACCESS, PUBLIC
from archsmith.service.auth import create_key
from archsmith.service.store.records import Role
from archsmith.service.store.store import Store

from .conftest import Served, serving, settings_for

RANK = [Role.VIEWER, Role.EDITOR, Role.ADMIN]


@pytest.fixture
def guarded(sqlite: Store, tmp_path: Path) -> Iterator[Served]:
    with serving(settings_for(tmp_path, require_api_key=True), sqlite) as running:
        yield running


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path template) of every route."""
    return sorted(
        (method, context.path) for context in iter_route_contexts(app.routes) for method in context.methods or ()
    )


def test_every_route_is_an_authorised_one(sqlite: Store, tmp_path: Path) -> None:
    app = create_app(settings_for(tmp_path), sqlite)
    contexts = list(iter_route_contexts(app.routes))
    assert all(isinstance(context.original_route, APIRoute) for context in contexts)  # nothing mounted past the check
    listed = {(method, path) for method, path in routes_of(app) if path.startswith("/api/")}
    assert listed == {(method, path) for method, path in ACCESS if path.startswith("/api/")}


def test_every_route_answers_only_those_who_may(guarded: Served) -> None:
    key = guarded.settings.signing_key()
    keys = {role: create_key(guarded.store, key, name=role.value, role=role) for role in RANK}
    routes = routes_of(create_app(guarded.settings, guarded.store))
    assert len(routes) > 25
    for method, template in routes:
        path = template.replace("{name:path}", "archsmith.css").replace("{number}", "0")
        path = path.replace("{search_id}", "none").replace("{artifact_id}", "none").replace("{job_id}", "none")
        path = path.replace("{name}", "none")
        needed = None if template in PUBLIC else ACCESS.get((method, template), Role.VIEWER)
        for caller, headers in {
            "none": {},
            "bad": {"Authorization": f"Bearer {keys[Role.ADMIN][:-1]}~"},
            "wrong": {"Authorization": f"Bearer {keys[Role.ADMIN][:-4]}AAAA"},
            **{role: {"Authorization": f"Bearer {text}"} for role, text in keys.items()},
        }.items():
            status = guarded.http.request(method, path, headers=headers).status_code
            where = f"{method} {template} as {caller}"
            if needed is None:
                assert status == 200, where
            elif not isinstance(caller, Role):
                assert status == 401, where
            elif RANK.index(caller) < RANK.index(needed):
                assert status == 403, where
            else:
                assert status not in (401, 403), where


def test_revoked_key_opens_nothing(guarded: Served) -> None:
    text = create_key(guarded.store, guarded.settings.signing_key(), name="gone", role=Role.ADMIN)
    headers = {"Authorization": f"Bearer {text}"}
    assert guarded.http.get("/api/v1/searches", headers=headers).status_code == 200
    guarded.store.revoke_api_key(text.split("_")[1])
    response = guarded.http.get("/api/v1/searches", headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_wrong_key_is_refused_even_where_none_is_needed(served: Served) -> None:
    assert served.http.get("/api/v1/searches", headers={"Authorization": "Bearer nas_x"}).status_code == 401


def test_reachable_server_without_a_key_is_refused(sqlite: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loopback address as long as there is no API key"):
        create_app(settings_for(tmp_path, host="0.0.0.0"), sqlite)
    settings = settings_for(tmp_path, host="0.0.0.0", require_api_key=False)
    with pytest.raises(ConfigError, match="REQUIRE_API_KEY"):
        create_app(settings, sqlite)
    create_key(sqlite, settings.signing_key(), name="first", role=Role.ADMIN)
    create_app(settings_for(tmp_path, host="0.0.0.0"), sqlite)
