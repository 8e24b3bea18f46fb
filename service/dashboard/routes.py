"""The dashboard's addresses: pages, the fragments that live updates swap in, and what the charts need.

Everything here only reads. What changes a search, the points of the scatter's background, the event stream and
downloads are the API's, on the same origin.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Concatenate, Final, ParamSpec
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from ...hwmodels import catalog as device_catalog
from ..auth import LOCAL, Principal
from ..store.faults import NotFound
from ..store.records import FrontView as FrontName
from ..store.records import JobState, Role, SearchRecord, TrialRecord
from ..store.store import Store
from .picture import picture_of, picture_response
from .reading.front import chart_json, front_view
from .reading.listing import catalog_row, device_row, job_row
from .reading.log import EventTail, log_view
from .reading.report import verdicts_of
from .reading.status import search_row, search_view
from .reading.trial import trial_view
from .rendering import Renderer, static_response
from .views import Filter, FrontView, SearchesTable, SearchView

__all__ = ["create_router"]

_PAGE: Final = 50
_STATES: Final = (
    JobState.RUNNING,
    JobState.QUEUED,
    JobState.PAUSED,
    JobState.SUCCEEDED,
    JobState.FAILED,
    JobState.CANCELLED,
)
_P = ParamSpec("_P")
Page = Callable[Concatenate["Dashboard", Request, _P], Response]


def create_router(
    store: Store,
    *,
    api: str = "/api/v1",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> APIRouter:
    """The dashboard over a store.

    Args:
        store: what is shown; actions are offered to those whose role allows them.
        api: path under which the same server answers the API; actions and downloads go there.
        now: the clock that ages are told by.
    """
    dashboard = Dashboard(store, api, now)
    router = APIRouter(include_in_schema=False)
    for path, endpoint in (
        ("/", dashboard.home),
        ("/searches", dashboard.searches),
        ("/searches/{search_id}", dashboard.search),
        ("/searches/{search_id}/status", dashboard.status),
        ("/searches/{search_id}/front-table", dashboard.front_table),
        ("/searches/{search_id}/report", dashboard.report),
        ("/searches/{search_id}/log", dashboard.log),
        ("/searches/{search_id}/chart", dashboard.chart),
        ("/searches/{search_id}/trials/{number}", dashboard.trial),
        ("/searches/{search_id}/trials/{number}/architecture.svg", dashboard.architecture),
        ("/jobs", dashboard.jobs),
        ("/devices", dashboard.devices),
        ("/static/{name:path}", dashboard.static),
    ):
        router.add_api_route(path, endpoint, methods=["GET"], response_class=Response)
    return router


def _or_missing(page: Page[_P]) -> Page[_P]:
    """Answer an unknown search or trial with a page that says so, instead of the API's problem document."""

    @functools.wraps(page)
    def guarded(self: Dashboard, request: Request, *args: _P.args, **kwargs: _P.kwargs) -> Response:
        try:
            return page(self, request, *args, **kwargs)
        except NotFound as error:
            return self.renderer.page(request, "missing.html", status_code=404, section="", message=str(error))

    return guarded


class Dashboard:
    """The endpoints; each reads what it shows afresh, but for the event logs, which only grow."""

    def __init__(self, store: Store, api: str, now: Callable[[], datetime]) -> None:
        self.store = store
        self.api = api
        self.now = now
        self.renderer = Renderer(now)
        self.tails = EventTail(store)

    # Pages

    def home(self, request: Request) -> Response:
        """The list of searches."""
        return RedirectResponse(f"{_root(request)}/searches")

    def searches(
        self,
        request: Request,
        state: JobState | None = None,
        before: Annotated[int | None, Query(ge=1)] = None,
    ) -> Response:
        """The list, newest first; HTMX asks for the table alone."""
        table = self._table(request, state, before)
        if request.headers.get("hx-request") == "true":
            return self.renderer.page(request, "partials/searches_table.html", table=table)
        base = f"{_root(request)}/searches"
        filters = [Filter(title="All", href=base, current=state is None)]
        filters += [
            Filter(title=one.value.capitalize(), href=f"{base}?state={one.value}", current=state is one)
            for one in _STATES
        ]
        return self.renderer.page(request, "searches.html", section="Searches", table=table, filters=filters)

    @_or_missing
    def search(self, request: Request, search_id: str) -> Response:
        """One search, live."""
        search, front = self._front(request, search_id)
        tail = self.tails.read(search.id)
        return self.renderer.page(
            request,
            "search.html",
            section="Searches",
            page=self._view(request, search, front),
            front=front,
            verdicts=verdicts_of(search),
            log=log_view(search, tail),
        )

    @_or_missing
    def trial(self, request: Request, search_id: str, number: int) -> Response:
        """One trial."""
        search = self.store.search(search_id)
        trial = self.store.trial(search.id, number)
        on_front = bool(np.isin(number, self.store.front(search.id).numbers))
        view = trial_view(
            search,
            trial,
            on_front=on_front,
            drawn=picture_of(search, trial) is not None,
            href=_href(request, search),
            api=_root(request) + self.api,
        )
        return self.renderer.page(request, "trial.html", section="Searches", trial=view)

    @_or_missing
    def architecture(self, request: Request, search_id: str, number: int) -> Response:
        """The picture on a trial's page."""
        search = self.store.search(search_id)
        trial = self.store.trial(search.id, number)
        svg = picture_of(search, trial)
        if svg is None:
            raise NotFound("picture", f"architecture of trial {number}")
        return picture_response(request, svg, trial.arch_key)

    def jobs(self, request: Request) -> Response:
        """The latest jobs."""
        names = {search.id: search.name for search in self.store.searches(limit=_PAGE)}
        rows = [job_row(job, names, _root(request)) for job in self.store.jobs(limit=_PAGE)]
        return self.renderer.page(request, "jobs.html", section="Jobs", rows=rows)

    def devices(self, request: Request) -> Response:
        """All devices."""
        rows = {name: catalog_row(device_catalog.get(name)) for name in device_catalog.names()}
        rows |= {item.name: device_row(item, self.store.tasks.counts(item.name)) for item in self.store.devices()}
        return self.renderer.page(
            request, "devices.html", section="Devices", rows=[rows[name] for name in sorted(rows)]
        )

    def static(self, request: Request, name: str) -> Response:
        """A file of the dashboard."""
        return static_response(request, name)

    # Fragments

    @_or_missing
    def status(self, request: Request, search_id: str) -> Response:
        """Head, stages and figures of a search."""
        search, front = self._front(request, search_id)
        page = self._view(request, search, front)
        return self.renderer.page(request, "partials/search_status.html", page=page)

    @_or_missing
    def front_table(self, request: Request, search_id: str) -> Response:
        """The table of front members."""
        search, front = self._front(request, search_id)
        return self.renderer.page(
            request, "partials/search_front.html", page={"href": _href(request, search)}, front=front
        )

    @_or_missing
    def report(self, request: Request, search_id: str) -> Response:
        """The verification report."""
        search = self.store.search(search_id)
        return self.renderer.page(
            request,
            "partials/search_report.html",
            page={"href": _href(request, search)},
            verdicts=verdicts_of(search),
        )

    @_or_missing
    def log(self, request: Request, search_id: str) -> Response:
        """Failures and events."""
        search = self.store.search(search_id)
        log = log_view(search, self.tails.read(search.id))
        return self.renderer.page(request, "partials/search_log.html", page={"href": _href(request, search)}, log=log)

    # Data of the charts

    def chart(self, request: Request, search_id: str) -> Response:
        """Axes, front members and hypervolume history as JSON."""
        search, front = self._front(request, search_id)
        return JSONResponse(
            chart_json(search, front, self.store.front_curve(search.id)), headers={"Cache-Control": "no-store"}
        )

    # Helpers

    def _table(self, request: Request, state: JobState | None, before: int | None) -> SearchesTable:
        found = self.store.searches(limit=_PAGE + 1, before=before, state=state)
        shown = found[:_PAGE]
        base = f"{_root(request)}/searches"
        chosen = {"state": state.value} if state else {}

        def address(**more: object) -> str:
            query = urlencode({**chosen, **more})
            return f"{base}?{query}" if query else base

        return SearchesTable(
            rows=tuple(search_row(search, f"{base}/{search.id}") for search in shown),
            href=address(before=before) if before else address(),
            filtered=state.value if state else "",
            first_href=address() if before else "",
            next_href=address(before=shown[-1].number) if len(found) > _PAGE else "",
        )

    def _front(self, request: Request, search_id: str) -> tuple[SearchRecord, FrontView]:
        search = self.store.search(search_id)
        trials: dict[int, TrialRecord] = {}
        for view in FrontName:
            trials |= {trial.number: trial for trial in self.store.front_trials(search.id, view)}
        members = [trials[number] for number in sorted(trials)]
        return search, front_view(search, members, href=_href(request, search), api=_root(request) + self.api)

    def _view(self, request: Request, search: SearchRecord, front: FrontView) -> SearchView:
        return search_view(
            search,
            front,
            self.tails.read(search.id),
            now=self.now(),
            acting=_may_act(request),
            href=_href(request, search),
            api=_root(request) + self.api,
        )


def _may_act(request: Request) -> bool:
    principal: Principal = getattr(request.state, "principal", LOCAL)
    return principal.may(Role.EDITOR)


def _root(request: Request) -> str:
    return request.scope.get("root_path", "").rstrip("/")


def _href(request: Request, search: SearchRecord) -> str:
    return f"{_root(request)}/searches/{search.id}"
