"""Every error has the same shape and tells nothing about the server's inside."""

from __future__ import annotations

import json

import pytest

from archsmith.service.api import catalogue
from archsmith.service.schemas.resources import Problem

from .conftest import Served

KEYS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("GET", "/api/v1/nothing", None, 404, "not-found"),
        ("GET", "/api/v1/searches/none", None, 404, "not-found"),
        ("PUT", "/api/v1/searches", None, 405, "method-not-allowed"),
        ("GET", "/api/v1/searches?limit=0", None, 422, "invalid-value"),
        ("GET", "/api/v1/searches?limit=x", None, 422, "invalid-value"),
        ("GET", "/api/v1/searches?cursor=x", None, 400, "invalid-cursor"),
        ("POST", "/api/v1/searches", b"{", 400, "malformed-json"),
        ("POST", "/api/v1/searches", b"[]", 422, "invalid-job"),
        ("POST", "/api/v1/searches", b'"' + b"x" * (1 << 20) + b'"', 413, "body-too-large"),
    ],
)
def test_error_has_the_problem_shape(
    served: Served, method: str, path: str, content: bytes | None, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json", "X-Request-ID": "mine-1"}
    response = served.http.request(method, path, content=content, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == KEYS
    problem = Problem.model_validate(body)
    assert (problem.status, problem.code, problem.request_id) == (status, code, "mine-1")
    assert response.headers["x-request-id"] == "mine-1"
    for error in body["errors"]:
        assert set(error) == {"place", "value", "allowed", "hint", "message"}


def test_error_streamed_body_is_counted(served: Served) -> None:
    response = served.http.post("/api/v1/searches", content=(b"x" * 65536 for _ in range(20)))
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


def test_error_unforeseen_hides_its_cause(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("the secret is swordfish")

    monkeypatch.setattr(catalogue.space_catalog, "names", broken)
    response = served.http.get("/api/v1/spaces")
    assert (response.status_code, response.json()["code"]) == (500, "internal-error")
    assert set(response.json()) == KEYS
    assert "swordfish" not in json.dumps(response.json())
    assert response.json()["request_id"]


def test_untrusted_host_is_refused(served: Served) -> None:
    response = served.http.get("/healthz", headers={"Host": "evil.example"})
    assert (response.status_code, response.json()["code"]) == (400, "untrusted-host")


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_other_sites_may_not_act(served: Served, headers: dict[str, str]) -> None:
    response = served.http.post("/api/v1/searches/1/cancel", headers=headers)
    assert (response.status_code, response.json()["code"]) == (403, "cross-site-request")
    assert served.http.post("/api/v1/searches/1/cancel", headers={"Origin": served.url}).status_code == 404


def test_responses_carry_security_headers(served: Served) -> None:
    for path in ("/healthz", "/api/v1/searches", "/nothing"):
        headers = served.http.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_metrics_count_requests_by_route(served: Served) -> None:
    served.http.get("/api/v1/searches/none")
    text = served.http.get("/metrics").text
    assert 'route="/api/v1/searches/{search_id}",status="404"' in text
