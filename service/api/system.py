"""Health, metrics, and the description of the API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from .context import ContextDep, authorize

__all__ = ["Metrics", "router"]

router = APIRouter(tags=["system"], dependencies=[Depends(authorize)])


class Metrics:
    """Counters of one application; its own registry, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "archsmith_http_requests", "Requests by route and status.", ("method", "route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "archsmith_http_request_seconds", "Time until the response began.", ("method", "route"),
            registry=self.registry,
        )  # fmt: skip

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """One answered request; `route` is the path template, so that labels stay few."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)


@router.get("/healthz", summary="Is the process alive?")
def healthz() -> dict[str, str]:
    """Answers while the process can answer at all."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it serve?")
def readyz(context: ContextDep) -> dict[str, str]:
    """Answers 503 while the database does not."""
    context.store.ping()
    return {"status": "ready"}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Counters in the Prometheus text format."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", summary="The description of this API")
def openapi(request: Request) -> dict[str, Any]:
    """OpenAPI 3.1."""
    return request.app.openapi()
