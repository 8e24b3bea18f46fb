"""What a search found: trials, fronts, their history, points to draw, and artifacts."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import FileResponse
from numpy.typing import NDArray

from ...errors import ConfigError
from ..dashboard.sampling import MAX_POINTS, pack_points, stratified_rows
from ..schemas import resources
from ..schemas.check import unknown_name
from ..store.records import FrontView, Points, SearchRecord, TrialState
from . import convert
from .context import API, ContextDep, CursorParam, Limit, authorize

__all__ = ["router"]

router = APIRouter(prefix=API, dependencies=[Depends(authorize)])
View = Annotated[
    resources.View, Query(description="Values that the search believed, or those measured on retrained members.")
]
IfNoneMatch = Annotated[str | None, Header(description="An ETag; 304 if nothing has changed since.")]


@router.get("/searches/{search_id}/trials", tags=["trials"], summary="List trials by number")
def list_trials(
    search_id: str,
    context: ContextDep,
    limit: Limit = 50,
    cursor: CursorParam = None,
    state: Literal["succeeded", "infeasible", "failed", "pruned"] | None = None,
    on_front: resources.View | None = None,
) -> resources.Page[resources.Trial]:
    """One page of trials; of one state, or of a front's members, where asked for."""
    record = context.store.search(search_id)
    scope = {"list": "trials", "search": record.id, "state": state, "on_front": on_front}
    after = context.cursors.read(cursor, scope)
    trials = context.store.trials(
        record.id,
        limit=limit + 1,
        after=-1 if after is None else after,
        state=TrialState(state) if state else None,
        on_front=FrontView(on_front) if on_front else None,
    )
    objectives = convert.objectives_of(record)
    return resources.Page(
        items=[convert.trial(trial, objectives) for trial in trials[:limit]],
        next_cursor=context.cursors.make(trials[limit - 1].number, scope) if len(trials) > limit else None,
    )


@router.get("/searches/{search_id}/trials/{number}", tags=["trials"], summary="Show a trial")
def show_trial(search_id: str, number: int, context: ContextDep) -> resources.Trial:
    """One trial with everything measured on it and its files."""
    record = context.store.search(search_id)
    return convert.trial(context.store.trial(record.id, number), convert.objectives_of(record))


@router.get(
    "/searches/{search_id}/front",
    tags=["front"],
    summary="The Pareto front",
    response_model=resources.Front,
    responses={200: {"content": {"text/csv": {}}}, 304: {"description": "Unchanged."}},
)
def show_front(
    search_id: str,
    context: ContextDep,
    view: View = "believed",
    format: Literal["json", "csv"] = "json",  # noqa: A002  # the query parameter's name
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The non-dominated feasible trials, in the view asked for."""
    record = context.store.search(search_id)
    front = context.store.front(record.id, FrontView(view))
    headers = {"ETag": f'"{front.version}-{view}-{format}"', "Cache-Control": "private, no-cache"}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    trials = context.store.front_trials(record.id, FrontView(view))
    body = convert.front(front, trials, convert.objectives_of(record))
    if format == "json":
        return Response(body.model_dump_json(), media_type="application/json", headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="front-{record.number}-{view}.csv"'
    return Response(_as_csv(body), media_type="text/csv; charset=utf-8", headers=headers)


def _as_csv(front: resources.Front) -> str:
    labels = [objective.label for objective in front.objectives]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_escape(name) for name in ["number", "arch_key", *labels, *(f"{name} source" for name in labels)])
    for member in front.members:
        sources = [_escape(member.sources.get(name, "")) for name in labels]
        values = [member.values.get(name, "") for name in labels]
        writer.writerow([member.number, _escape(member.arch_key), *values, *sources])
    return out.getvalue()


def _escape(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@router.get("/searches/{search_id}/front/history", tags=["front"], summary="How the front grew")
def front_history(
    search_id: str,
    context: ContextDep,
    view: View = "believed",
    after: Annotated[int, Query(ge=-1, description="Only changes after this version.")] = -1,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
) -> resources.FrontHistory:
    """Every change of the front with the hypervolume after it."""
    record = context.store.search(search_id)
    entries = context.store.front_history(record.id, FrontView(view), after=after, limit=limit)
    return resources.FrontHistory(search_id=record.id, items=[convert.history_entry(entry) for entry in entries])


@router.get(
    "/searches/{search_id}/points",
    tags=["trials"],
    summary="Trials as points to draw",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def points(
    search_id: str,
    context: ContextDep,
    x: Annotated[str, Query(description="Label of an objective, or params, or macs.")],
    y: Annotated[str, Query(description="Label of an objective, or params, or macs.")],
    max: Annotated[int, Query(ge=1, le=MAX_POINTS)] = MAX_POINTS,  # noqa: A002  # the query parameter's name
) -> Response:
    """N float32 x, N float32 y and N bytes (1 = feasible), little-endian; sampled evenly over the plane where many."""
    record = context.store.search(search_id)
    trials = context.store.points(record.id)
    across, up = _column(record, trials, "x", x), _column(record, trials, "y", y)
    rows = stratified_rows(across, up, max, np.random.default_rng(0))
    body = pack_points(across[rows], up[rows], trials.feasible[rows])
    headers = {"X-Point-Count": str(len(rows)), "X-Trial-Count": str(len(trials))}
    return Response(body, media_type="application/octet-stream", headers=headers)


def _column(record: SearchRecord, trials: Points, parameter: str, wanted: str) -> NDArray[np.float64]:
    """[N] a quantity of every trial by its label, in its natural direction."""
    objectives = convert.objectives_of(record)
    for column, objective in enumerate(objectives):
        if objective.label == wanted:
            return trials.values[:, column] * (-1.0 if objective.direction == "max" else 1.0)
    sizes = {"params": trials.params, "macs": trials.macs}
    if wanted in sizes:
        return sizes[wanted]
    error: ConfigError = unknown_name(
        f"query.{parameter}", wanted, [*(objective.label for objective in objectives), *sizes]
    )
    raise error


# --- artifacts -----------------------------------------------------------------------------------------------------


@router.get("/searches/{search_id}/artifacts", tags=["artifacts"], summary="Files of a search and its trials")
def list_artifacts(
    search_id: str, context: ContextDep, trial: Annotated[int | None, Query(ge=0)] = None
) -> resources.Page[resources.Artifact]:
    """All files of a search, or of one of its trials; never more than a few dozen, on one page."""
    links = context.store.search_artifacts(context.store.search(search_id).id)
    items = [convert.artifact(link.artifact, link) for link in links if trial is None or link.trial_number == trial]
    return resources.Page(items=items)


@router.get("/artifacts/{artifact_id}", tags=["artifacts"], summary="Show an artifact")
def show_artifact(artifact_id: str, context: ContextDep) -> resources.Artifact:
    """Name, size and digest of a stored file."""
    return convert.artifact(context.store.artifact(artifact_id))


@router.get(
    "/artifacts/{artifact_id}/content",
    tags=["artifacts"],
    summary="Download an artifact",
    response_class=FileResponse,
    responses={206: {"description": "The part that the Range header asks for."}},
)
def artifact_content(artifact_id: str, context: ContextDep) -> FileResponse:
    """The file itself; `Range` and `If-Range` are honoured."""
    record = context.store.artifact(artifact_id)
    path = context.store.artifact_path(artifact_id)
    headers = {"ETag": f'"{record.sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type=record.media_type, filename=record.name, headers=headers)
