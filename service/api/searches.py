"""Searches: create, list, show, pause, resume, cancel, delete, and follow by server-sent events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from ..measuring import Lab, registered_names
from ..schemas import resources
from ..schemas.check import check_names
from ..schemas.job import JobSpec
from ..store.faults import Conflict
from ..store.records import (
    TERMINAL,
    CancelMode,
    EventRecord,
    IdempotencyKey,
    JobState,
    NewSearch,
    SearchRecord,
    StoredResponse,
)
from . import convert
from .admission import admit
from .context import API, Context, ContextDep, CursorParam, Limit, PrincipalDep, authorize
from .problems import ProblemError

__all__ = ["router"]

router = APIRouter(prefix=f"{API}/searches", tags=["searches"], dependencies=[Depends(authorize)])
ROUTE = "POST /api/v1/searches"
State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


@router.post("", status_code=202, response_model=resources.Search, summary="Submit a search")
def create_search(
    job: JobSpec,
    context: ContextDep,
    principal: PrincipalDep,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, description="Repeating a request with the same key creates nothing new."),
    ] = None,
) -> JSONResponse:
    """Check the whole job, store the search as queued, and answer with where it can be followed."""
    key = None
    if idempotency_key is not None:
        key = IdempotencyKey(
            principal=principal.name, route=ROUTE, key=idempotency_key, body_sha256=_canonical_digest(job)
        )
        if (stored := context.store.replay(key)) is not None:
            return _replayed(stored)
    store = context.store
    lab = Lab(store, patience_s=None, server=context.settings.url)
    new = admit(check_names(job, registered=registered_names(store)), lab)
    try:
        return _accepted(_create(context, new, key))
    except Conflict as conflict:
        if key is None:
            raise
        if (stored := context.store.replay(key)) is None:
            raise ProblemError(
                409,
                "request-in-flight",
                "A request with this Idempotency-Key is being handled; repeat it in a moment.",
                headers={"Retry-After": "1"},
            ) from conflict
        return _replayed(stored)


def _create(context: Context, new: NewSearch, key: IdempotencyKey | None) -> StoredResponse:
    answers: list[StoredResponse] = []

    def respond(record: SearchRecord) -> StoredResponse:
        body = convert.search(record).model_dump(mode="json")
        answers.append(StoredResponse(status=202, body=body, headers={"Location": f"{API}/searches/{record.id}"}))
        return answers[-1]

    record = context.store.create_search(new, idempotency=key, respond=respond)
    return answers[-1] if answers else respond(record)


def _accepted(answer: StoredResponse) -> JSONResponse:
    return JSONResponse(dict(answer.body), status_code=answer.status, headers=dict(answer.headers))


def _replayed(answer: StoredResponse) -> JSONResponse:
    response = _accepted(answer)
    response.headers["Idempotent-Replayed"] = "true"
    return response


def _canonical_digest(job: JobSpec) -> str:
    text = json.dumps(job.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@router.get("", summary="List searches, newest first")
def list_searches(
    context: ContextDep,
    limit: Limit = 50,
    cursor: CursorParam = None,
    state: State | None = None,
    name: str | None = None,
) -> resources.Page[resources.SearchSummary]:
    """One page of searches, of one state or name where asked for."""
    scope = {"list": "searches", "state": state, "name": name}
    before = context.cursors.read(cursor, scope)
    chosen = JobState(state) if state else None
    records = context.store.searches(limit=limit + 1, before=before, state=chosen, name=name)
    more = len(records) > limit
    return resources.Page(
        items=[convert.summary(record) for record in records[:limit]],
        next_cursor=context.cursors.make(records[limit - 1].number, scope) if more else None,
    )


@router.get(
    "/{search_id}",
    summary="Show a search",
    response_model=resources.Search,
    responses={304: {"description": "Unchanged."}},
)
def show_search(
    search_id: str,
    context: ContextDep,
    if_none_match: Annotated[str | None, Header(description="An ETag; 304 if nothing has changed since.")] = None,
) -> Response:
    """The search with this id or number: its job, progress and report."""
    response = _shown(context.store.search(search_id))
    if if_none_match is not None and response.headers["etag"] in if_none_match:
        return Response(status_code=304, headers={"ETag": response.headers["etag"]})
    return response


@router.patch(
    "/{search_id}",
    summary="Rename a search",
    response_model=resources.Search,
    responses={412: {"description": "Someone else has changed it since."}, 428: {"description": "No If-Match."}},
)
def change_search(
    search_id: str,
    change: resources.SearchChange,
    context: ContextDep,
    if_match: Annotated[str | None, Header(description="The search's ETag as last seen, or `*`.")] = None,
) -> Response:
    """Change what people may change: the name. A search that has merely gone on since the ETag is no conflict."""
    record = context.store.search(search_id)
    if if_match is None:
        raise ProblemError(428, "if-match-required", "PATCH needs If-Match with the search's ETag; read it first.")
    stale = ProblemError(412, "changed-meanwhile", f"Its name is now {record.name!r}; read it again, then decide.")
    if if_match.strip() != "*" and f'"{_edit_tag(record)}-' not in if_match:
        raise stale
    try:
        return _shown(context.store.rename_search(record.id, change.name, expected=record.name))
    except Conflict as conflict:
        raise stale from conflict


def _shown(record: SearchRecord) -> Response:
    """A search with its ETag: what people may change, then everything there is."""
    body = convert.search(record).model_dump_json().encode()
    headers = {"ETag": f'"{_edit_tag(record)}-{hashlib.sha256(body).hexdigest()[:16]}"'}
    return Response(body, media_type="application/json", headers=headers)


def _edit_tag(record: SearchRecord) -> str:
    return hashlib.sha256(record.name.encode()).hexdigest()[:16]


@router.delete("/{search_id}", status_code=204, summary="Delete a finished search")
def delete_search(search_id: str, context: ContextDep) -> Response:
    """Remove a search that has ended, with all that belongs to it alone."""
    context.store.delete_search(context.store.search(search_id).id)
    return Response(status_code=204)


@router.post("/{search_id}/cancel", status_code=202, summary="Ask a search to stop for good")
def cancel_search(
    search_id: str,
    context: ContextDep,
    mode: Annotated[
        Literal["drain", "kill"],
        Query(description="drain: a running search finishes its batch; kill: it stops at once and discards it."),
    ] = "drain",
) -> resources.Search:
    """A waiting search is cancelled at once, a running one as `mode` says; its trials and front stay."""
    search_id = context.store.search(search_id).id
    context.store.cancel(search_id, CancelMode(mode))
    return convert.search(context.store.search(search_id))


@router.post("/{search_id}/pause", status_code=202, summary="Ask a search to pause")
def pause_search(search_id: str, context: ContextDep) -> resources.Search:
    """A running search pauses at its next safe point and keeps everything needed to go on."""
    search_id = context.store.search(search_id).id
    context.store.pause(search_id)
    return convert.search(context.store.search(search_id))


@router.post("/{search_id}/resume", status_code=202, summary="Let a paused search go on")
def resume_search(search_id: str, context: ContextDep) -> resources.Search:
    """Queue a paused search again; it goes on from its last checkpoint."""
    search_id = context.store.search(search_id).id
    context.store.resume(search_id)
    return convert.search(context.store.search(search_id))


# --- events --------------------------------------------------------------------------------------------------------


def _followed(search_id: str, context: ContextDep) -> SearchRecord:
    return context.store.search(search_id)


def _resume_after(
    after: int = 0, last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None
) -> int:
    if last_event_id is None:
        return after
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19):
        raise ProblemError(422, "invalid-value", f"Last-Event-ID: got {last_event_id!r}; allowed: an event's id.")
    return int(last_event_id)


@router.get("/{search_id}/events", response_class=EventSourceResponse, summary="Follow a search")
async def follow_search(
    request: Request,
    context: ContextDep,
    record: Annotated[SearchRecord, Depends(_followed)],
    after: Annotated[int, Depends(_resume_after)],
) -> AsyncIterator[ServerSentEvent]:
    """Every event after the given one, then new ones as they come, until the search has ended."""
    yield ServerSentEvent(comment="connected", retry=2000)
    store = context.store
    while not request.app.state.stopping:
        # The state is read before the events: what ended the search is then among them.
        state = (await run_in_threadpool(store.search, record.id)).state
        events = await run_in_threadpool(store.events_after, record.id, after)
        for event in events:
            after = event.id
            yield _as_sse(event)
        if state in TERMINAL and not events:
            # Browsers reconnect to a stream that ends; there is nothing more to come, so rarely is often enough.
            yield ServerSentEvent(event="end", data={"state": state.value}, retry=60_000)
            return
        if not events:
            await anyio.sleep(context.settings.event_poll_s)


def _as_sse(event: EventRecord) -> ServerSentEvent:
    data: dict[str, Any] = convert.event(event).model_dump(mode="json")
    return ServerSentEvent(event=event.kind, id=str(event.id), data=data)
