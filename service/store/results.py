"""Stored results, artifacts and what they belong to; the files themselves are `ArtifactFiles`' business."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Row, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from .database import db_now, moment
from .faults import NotFound
from .ids import new_id
from .records import ArtifactLink, ArtifactRecord, Json, StoredResultRecord
from .tables import artifact as artifact_table
from .tables import search_artifact, stored_result, stored_result_file

__all__ = ["artifact", "get", "link", "links", "put", "register"]

OF_SEARCH = -1
"""`trial_number` of an artifact that belongs to the search itself."""


def get(conn: Connection, kind: str, identity: str) -> StoredResultRecord | None:
    """A stored result, or None."""
    where = (stored_result.c.kind == kind, stored_result.c.identity == identity)
    row = conn.execute(select(stored_result).where(*where)).one_or_none()
    if row is None:
        return None
    files = select(stored_result_file.c.path, stored_result_file.c.artifact_id)
    files = files.where(stored_result_file.c.kind == kind, stored_result_file.c.identity == identity)
    return StoredResultRecord(
        kind=row.kind,
        identity=row.identity,
        summary=row.summary,
        files={row.path: row.artifact_id for row in conn.execute(files.order_by(stored_result_file.c.path))},
        created=moment(row.created),
    )


def put(conn: Connection, kind: str, identity: str, *, summary: Json, files: Mapping[str, str]) -> StoredResultRecord:
    """Keep a result unless one is stored under this identity already; either way returns what is stored."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(stored_result).values(
        kind=kind, identity=identity, summary=dict(summary), created=db_now()
    )
    inserted = statement.on_conflict_do_nothing().returning(
        stored_result.c.identity
    )  # a rowcount is not told by psycopg
    if conn.execute(inserted).one_or_none() is not None:
        for path, artifact_id in files.items():
            artifact(conn, artifact_id)
            values = {"kind": kind, "identity": identity, "path": path, "artifact_id": artifact_id}
            conn.execute(insert(stored_result_file).values(values))
    found = get(conn, kind, identity)
    assert found is not None
    return found


def register(conn: Connection, *, sha256: str, size: int, name: str, media_type: str) -> ArtifactRecord:
    """The record of a file; equal content under the same name and type has one record."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    values = {"id": new_id(), "sha256": sha256, "size": size, "name": name, "media_type": media_type}
    conn.execute(dialect.insert(artifact_table).values(created=db_now(), **values).on_conflict_do_nothing())
    columns = artifact_table.c
    where = (columns.sha256 == sha256, columns.name == name, columns.media_type == media_type)
    return _artifact(conn.execute(select(artifact_table).where(*where)).one())


def artifact(conn: Connection, artifact_id: str) -> ArtifactRecord:
    """One artifact's record."""
    row = conn.execute(select(artifact_table).where(artifact_table.c.id == artifact_id)).one_or_none()
    if row is None:
        raise NotFound("artifact", artifact_id)
    return _artifact(row)


def link(conn: Connection, search_id: str, role: str, artifact_id: str, *, trial_number: int | None) -> None:
    """Give an artifact a role; the role's former artifact is unlinked."""
    artifact(conn, artifact_id)
    number = OF_SEARCH if trial_number is None else trial_number
    columns = search_artifact.c
    where = (columns.search_id == search_id, columns.trial_number == number, columns.role == role)
    conn.execute(delete(search_artifact).where(*where))
    values = {"search_id": search_id, "trial_number": number, "role": role, "artifact_id": artifact_id}
    conn.execute(insert(search_artifact).values(values))


def links(conn: Connection, search_id: str) -> list[ArtifactLink]:
    """All artifacts of a search and its trials, by trial and role."""
    columns = search_artifact.c
    query = (
        select(artifact_table, columns.role, columns.trial_number)
        .join(search_artifact, columns.artifact_id == artifact_table.c.id)
        .where(columns.search_id == search_id)
        .order_by(columns.trial_number, columns.role)
    )
    return [
        ArtifactLink(
            role=row.role,
            trial_number=None if row.trial_number == OF_SEARCH else row.trial_number,
            artifact=_artifact(row),
        )
        for row in conn.execute(query)
    ]


def _artifact(row: Row[tuple[object, ...]]) -> ArtifactRecord:
    return ArtifactRecord(
        id=row.id,
        sha256=row.sha256,
        size=row.size,
        media_type=row.media_type,
        name=row.name,
        created=moment(row.created),
    )
