"""What exists: search spaces, and the jobs in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query

from ...errors import ConfigError, SpaceError
from ...spaces import catalog as space_catalog
from ...spaces.digest import hex_digest
from ...spaces.space import SearchSpace
from ..schemas import resources
from ..schemas.check import unknown_name
from ..store.records import JobState
from . import convert
from .context import API, ContextDep, CursorParam, Limit, authorize
from .problems import ProblemError

__all__ = ["router", "space_of"]

router = APIRouter(prefix=API, dependencies=[Depends(authorize)])


# --- search spaces -------------------------------------------------------------------------------------------------


@router.get("/spaces", tags=["spaces"], summary="List search spaces")
def list_spaces() -> resources.Page[resources.Space]:
    """Every family, described by its first preset."""
    return resources.Page(items=[_describe(space_catalog.get(name)) for name in space_catalog.names()])


@router.get("/spaces/{name}", tags=["spaces"], summary="Show a search space")
def show_space(
    name: str, preset: Annotated[str | None, Query(description="One of the space's presets.")] = None
) -> resources.Space:
    """A preset's genes and exact size."""
    return _describe(space_of(name, preset, {}))


@router.post("/spaces/{name}/sample", tags=["spaces"], summary="Draw architectures")
def sample_space(name: str, request: resources.SampleRequest) -> resources.SpaceSample:
    """Architectures drawn uniformly, with their exact counts."""
    space = space_of(name, request.preset, request.options)
    genomes = space.sample(request.n, np.random.default_rng(request.seed))
    return resources.SpaceSample(
        identity=space.identity,
        choices=[dict(space.decode(genome).choices) for genome in genomes],
        genomes=genomes.tolist(),
        keys=[hex_digest(key) for key in space.keys(genomes)],
        params=space.params(genomes).tolist(),
        macs=space.macs(genomes).tolist(),
    )


@router.post("/spaces/{name}/validate", tags=["spaces"], summary="Check an architecture")
def validate_architecture(name: str, request: resources.ValidateRequest) -> resources.Validation:
    """Its genome, key and counts; 422 naming the gene and its values where it is none of this space."""
    space = space_of(name, request.preset, request.options)
    try:
        architecture = space.architecture(request.choices)
    except SpaceError as error:
        raise ConfigError("choices", None, str(error)) from error
    genomes = space.encode(architecture)[None]
    return resources.Validation(
        identity=space.identity,
        genome=list(architecture.genome),
        key=architecture.key,
        params=int(space.params(genomes)[0]),
        macs=int(space.macs(genomes)[0]),
    )


def space_of(name: str, preset: str | None, options: Mapping[str, bool | int | float | str]) -> SearchSpace:
    """The space of a request; 404 or 422 naming what does not exist."""
    if name not in space_catalog.names():
        raise _missing("space", name, space_catalog.names())
    if preset is not None and preset not in space_catalog.presets(name):
        raise unknown_name("preset", preset, space_catalog.presets(name))
    try:
        return space_catalog.get(name, preset, **options)
    except (SpaceError, TypeError) as error:
        raise ConfigError("options", str(dict(options)), f"options that suit the space: {error}") from error


def _describe(space: SearchSpace) -> resources.Space:
    description = space.description()
    genes = description["genes"]
    assert isinstance(genes, list)
    return resources.Space(
        name=space.name,
        presets=list(space_catalog.presets(space.name)),
        options=list(space_catalog.FAMILIES[space.name].options),
        preset=space.preset,
        identity=space.identity,
        size=str(space.size),
        genes=genes,
    )


def _missing(what: str, name: str, known: list[str] | tuple[str, ...]) -> ProblemError:
    error = unknown_name(what, name, known)
    return ProblemError(404, "not-found", str(error), errors=[error])


# --- jobs ----------------------------------------------------------------------------------------------------------


@router.get("/jobs", tags=["jobs"], summary="List jobs, newest first")
def list_jobs(
    context: ContextDep,
    limit: Limit = 50,
    cursor: CursorParam = None,
    state: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"] | None = None,
    kind: str | None = None,
) -> resources.Page[resources.Job]:
    """One page of jobs; searches are jobs too."""
    scope = {"list": "jobs", "state": state, "kind": kind}
    before = context.cursors.read(cursor, scope)
    chosen = JobState(state) if state else None
    records = context.store.jobs(limit=limit + 1, before=before, state=chosen, kind=kind)
    return resources.Page(
        items=[convert.job(record) for record in records[:limit]],
        next_cursor=context.cursors.make(records[limit - 1].id, scope) if len(records) > limit else None,
    )


@router.get("/jobs/{job_id}", tags=["jobs"], summary="Show a job")
def show_job(job_id: str, context: ContextDep) -> resources.Job:
    """State, attempts and lease of a job."""
    return convert.job(context.store.job(job_id))
