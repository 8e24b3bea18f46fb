"""Every route against every kind of caller: what `ACCESS` does not open is closed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from archsmith.errors import ConfigError
from archsmith.service import sessions
from archsmith.service.api.app import create_app
from archsmith.service.api.context import ACCESS, PUBLIC
from archsmith.service.auth import create_key
from archsmith.service.store.records import Role
from archsmith.service.store.store import Store

from .conftest import Served, fill, serving, settings_for

MAY = {
    Role.VIEWER: {Role.VIEWER},
    Role.DEVICE: {Role.DEVICE},
    Role.EDITOR: {Role.VIEWER, Role.DEVICE, Role.EDITOR},
    Role.ADMIN: set(Role),
}


@pytest.fixture
def guarded(sqlite: Store, tmp_path: Path) -> Iterator[Served]:
    with serving(settings_for(tmp_path, require_api_key=True), sqlite) as running:
        yield running


def session_of(
    served: Served, key: str, *, until: float | None = None, signing_key: bytes | None = None
) -> dict[str, str]:
    """Headers of a browser that signed in with `key`, its page's token included."""
    signed = signing_key or served.settings.signing_key()
    cookie = sessions.issue(key.split("_")[1], signed, until=until or time.time() + 60)
    return {"Cookie": f"{sessions.COOKIE}={cookie}", sessions.CSRF_HEADER: sessions.csrf_token(cookie, signed)}


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
    devices = {Role.DEVICE: "none"}
    keys = {role: create_key(guarded.store, key, name=role, role=role, device=devices.get(role)) for role in MAY}
    routes = routes_of(create_app(guarded.settings, guarded.store))
    assert len(routes) > 25
    for method, template in routes:
        path = template.replace("{name:path}", "archsmith.css").replace("{number}", "0")
        path = path.replace("{search_id}", "none").replace("{artifact_id}", "none").replace("{job_id}", "none")
        path = path.replace("{task_id}", "none")
        path = path.replace("{name}", "none")
        needed = None if template in PUBLIC else ACCESS.get((method, template), Role.VIEWER)
        callers = {
            "none": {},
            "bad": {"Authorization": f"Bearer {keys[Role.ADMIN][:-1]}~"},
            "wrong": {"Authorization": f"Bearer {keys[Role.ADMIN][:-4]}AAAA"},
            "expired": session_of(guarded, keys[Role.ADMIN], until=time.time() - 1),
            "forged": session_of(guarded, keys[Role.ADMIN], signing_key=b"another"),
        }
        callers |= {role: {"Authorization": f"Bearer {text}"} for role, text in keys.items()}
        asked = [(caller, headers) for caller, headers in callers.items()]
        asked += [(role, session_of(guarded, text)) for role, text in keys.items()]
        for caller, headers in asked:
            status = guarded.http.request(method, path, headers=headers).status_code
            where = f"{method} {template} as {caller}"
            if needed is None:
                assert status == (401 if (method, template) == ("POST", "/login") else 200), where
            elif not isinstance(caller, Role):
                assert status == 401, where
            elif needed not in MAY[caller]:
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


def test_session_cookie_is_guarded_and_carries_no_secret(guarded: Served) -> None:
    key = create_key(guarded.store, guarded.settings.signing_key(), name="ann", role=Role.EDITOR)
    answer = guarded.http.post("/login", data={"key": f" {key} ", "next": "/jobs?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?x=1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Max-Age={12 * 3600}" in cookie
    assert "Secure" not in cookie
    assert key.split("_")[2] not in cookie
    page = guarded.http.get("/jobs")
    assert page.status_code == 200
    assert 'name="csrf-token"' in page.text


def test_session_needs_its_token_to_change_anything(guarded: Served) -> None:
    signing = guarded.settings.signing_key()
    key = create_key(guarded.store, signing, name="ann", role=Role.EDITOR)
    mine, other = session_of(guarded, key), session_of(guarded, key)
    path = f"/api/v1/searches/{fill(guarded.store)}/pause"
    without = {"Cookie": mine["Cookie"]}
    for headers in (without, without | {sessions.CSRF_HEADER: other[sessions.CSRF_HEADER]}):
        refused = guarded.http.post(path, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf-token")
    assert guarded.http.post(path, headers=mine | {"Origin": "http://evil.example"}).status_code == 403
    assert guarded.http.post(path, headers=mine).status_code == 202
    guarded.store.revoke_api_key(key.split("_")[1])
    assert guarded.http.get("/api/v1/searches", headers=mine).status_code == 401


def test_page_without_a_session_leads_to_the_login_and_back(guarded: Served) -> None:
    browser = {"Accept": "text/html,*/*"}
    answer = guarded.http.get("/searches?state=running", headers=browser)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fsearches%3Fstate%3Drunning"
    fragment = guarded.http.get("/searches", headers=browser | {"HX-Request": "true"})
    assert (fragment.status_code, fragment.headers["hx-redirect"]) == (401, "/login")
    assert guarded.http.get("/api/v1/searches", headers=browser).status_code == 401


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "evil"])
def test_login_sends_nobody_elsewhere(guarded: Served, target: str) -> None:
    key = create_key(guarded.store, guarded.settings.signing_key(), name="ann", role=Role.VIEWER)
    assert guarded.http.post("/login", data={"key": key, "next": target}).headers["location"] == "/"


def test_login_refuses_wrong_keys_and_other_sites(guarded: Served) -> None:
    answer = guarded.http.post("/login", data={"key": "nas_000000000000_" + "A" * 43})
    assert answer.status_code == 401
    assert "not valid here" in answer.text
    assert "set-cookie" not in answer.headers
    elsewhere = guarded.http.post("/login", data={"key": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert elsewhere.status_code == 403


def test_session_behind_an_https_proxy_is_secure(guarded: Served) -> None:
    key = create_key(guarded.store, guarded.settings.signing_key(), name="ann", role=Role.VIEWER)
    answer = guarded.http.post("/login", data={"key": key}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]


def test_login_where_no_key_is_needed_leads_on(served: Served) -> None:
    assert served.http.get("/login").headers["location"] == "/searches"
