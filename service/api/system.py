"""Health, metrics, and the description of the API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..store.records import JobState, StoreCounts
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

        self.searches = Gauge("archsmith_searches", "Searches by state.", ("state",), registry=self.registry)
        self.trials = Gauge("archsmith_trials", "Trials of all stored searches.", registry=self.registry)
        self.queued = Gauge("archsmith_queue_depth", "Jobs that wait for a worker.", registry=self.registry)

    def set_counts(self, counts: StoreCounts) -> None:
        """What the store holds now."""
        for state in JobState:
            self.searches.labels(state.value).set(counts.searches.get(state, 0))
        self.trials.set(counts.trials)
        self.queued.set(counts.queued)

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
def metrics(request: Request, context: ContextDep) -> Response:
    """Requests, searches by state, trials and queue depth in the Prometheus text format."""
    kept: Metrics = request.app.state.metrics
    kept.set_counts(context.store.counts())
    return Response(generate_latest(kept.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", summary="The description of this API")
def openapi(request: Request) -> dict[str, Any]:
    """OpenAPI 3.1."""
    return request.app.openapi()
