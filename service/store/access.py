"""API keys, and the answers kept under idempotency keys."""

from __future__ import annotations

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from .database import db_now, moment
from .faults import Conflict, IdempotencyMismatch, NotFound
from .ids import new_id
from .records import ApiKeyRecord, IdempotencyKey, Role, StoredResponse
from .tables import api_key, idempotency

__all__ = ["create_key", "expire", "get_key", "keep_response", "list_keys", "replay", "revoke_key"]


def replay(conn: Connection, key: IdempotencyKey) -> StoredResponse | None:
    """The answer kept under a key."""
    columns = idempotency.c
    where = (columns.principal == key.principal, columns.route == key.route, columns.key == key.key)
    row = conn.execute(select(idempotency).where(*where)).one_or_none()
    if row is None:
        return None
    if row.body_sha256 != key.body_sha256:
        raise IdempotencyMismatch(
            f"idempotency key {key.key!r} was used on {key.route} with another body; use a new key for a new request."
        )
    return StoredResponse(status=row.status, body=row.body, headers=row.headers)


def keep_response(conn: Connection, key: IdempotencyKey, response: StoredResponse) -> None:
    """Keep an answer in the creating transaction; a second one under the same key is a Conflict."""
    values = {
        "principal": key.principal,
        "route": key.route,
        "key": key.key,
        "body_sha256": key.body_sha256,
        "status": response.status,
        "body": dict(response.body),
        "headers": dict(response.headers),
    }
    try:
        conn.execute(insert(idempotency).values(created=db_now(), **values))
    except IntegrityError as error:
        raise Conflict(f"use idempotency key {key.key!r} on {key.route} twice", "taken", ("unused",)) from error


def expire(conn: Connection, days: float) -> int:
    """Forget keys older than that."""
    return conn.execute(delete(idempotency).where(idempotency.c.created < db_now() - 86_400.0 * days)).rowcount


def create_key(
    conn: Connection, *, name: str, role: Role, digest: str, key_id: str | None, device: str | None
) -> ApiKeyRecord:
    """Insert a key's digest."""
    values = {"id": key_id or new_id(), "name": name, "role": role, "digest": digest, "device": device}
    row = conn.execute(insert(api_key).values(created=db_now(), **values).returning(api_key)).one()
    return _key(row)


def get_key(conn: Connection, key_id: str) -> ApiKeyRecord:
    """One key."""
    row = conn.execute(select(api_key).where(api_key.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound("API key", key_id)
    return _key(row)


def list_keys(conn: Connection) -> list[ApiKeyRecord]:
    """All keys, oldest first."""
    return [_key(row) for row in conn.execute(select(api_key).order_by(api_key.c.created, api_key.c.id))]


def revoke_key(conn: Connection, key_id: str) -> ApiKeyRecord:
    """Revoke, keeping the first time of revocation."""
    where = (api_key.c.id == key_id, api_key.c.revoked.is_(None))
    conn.execute(update(api_key).where(*where).values(revoked=db_now()))
    return get_key(conn, key_id)


def _key(row: Row[tuple[object, ...]]) -> ApiKeyRecord:
    return ApiKeyRecord(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        digest=row.digest,
        created=moment(row.created),
        revoked=moment(row.revoked),
        device=row.device,
    )
