"""Connections and transactions on SQLite and PostgreSQL, and the database's own clock.

SQLite: WAL, full synchronisation, foreign keys; every write begins with BEGIN IMMEDIATE, because a deferred transaction
that first reads and then writes fails under contention whatever the busy timeout. PostgreSQL: writes are READ COMMITTED
and rely on row locks; reads see one snapshot (REPEATABLE READ), so that a front and its version belong together.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, overload

import numpy as np
from sqlalchemy import Connection, Double, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from ...errors import StoreError
from .faults import StoreUnavailable

__all__ = ["Database", "db_now", "moment"]

BUSY_TIMEOUT_MS = 30_000


class db_now(FunctionElement[float]):  # noqa: N801  # reads as the SQL function it is
    """Seconds since 1970 by the database's clock at this moment, not at the transaction's begin."""

    type = Double()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgres_now(element: db_now, compiler: SQLCompiler, **_: Any) -> str:
    return "(extract(epoch from clock_timestamp())::float8)"


@overload
def moment(seconds: float) -> datetime: ...
@overload
def moment(seconds: None) -> None: ...
def moment(seconds: float | None) -> datetime | None:
    """A stored time as an aware datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class Database:
    """An engine with two ways in: `read` and `write`."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StoreError(
                f"database URL {url!r} cannot be read; use sqlite:///path/to/file.db or postgresql://user@host/name."
            ) from error
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise StoreError("an in-memory SQLite store is not supported: name a file, sqlite:///path/to/file.db.")
            self.engine = create_engine(
                parsed, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000}, json_serializer=_to_json
            )
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self._reader = self.engine
        elif parsed.get_backend_name() == "postgresql":
            self.engine = create_engine(parsed, pool_pre_ping=True, json_serializer=_to_json)
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ")
        else:
            raise StoreError(f"database {parsed.get_backend_name()!r} is not supported; allowed: sqlite, postgresql.")
        self._writer: Engine = self.engine.execution_options(archsmith_write=True)

    @property
    def place(self) -> str:
        """The database without its password, for messages."""
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot."""
        with self._guard(), self._reader.connect() as conn, conn.begin():
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self._guard(), self._writer.connect() as conn, conn.begin():
            yield conn

    def dispose(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise StoreError(f"{self.place} refused a row that breaks its rules: {error.orig}.") from error
        except sqlite3.OperationalError as error:  # from the pragmas of a new connection
            raise self._explain(str(error)) from error
        except OperationalError as error:
            raise self._explain(str(error.orig)) from error
        except StatementError as error:
            if isinstance(error.orig, StoreError):
                raise error.orig from error
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise self._explain(str(error.orig)) from error
            raise StoreError(f"{self.place} refused a statement: {error.orig}.") from error

    def _explain(self, reason: str) -> StoreError:
        low = reason.lower()
        if "disk is full" in low or "no space" in low or "disk i/o" in low:
            return StoreError(
                f"{self.place}: the disk is full ({reason}); free space, then resume. Nothing was half-stored."
            )
        if "readonly" in low or "read-only" in low:
            return StoreError(
                f"{self.place} is read-only ({reason}); make the file and its folder writable, then retry."
            )
        if "unable to open" in low:
            return StoreError(f"{self.place} cannot be opened ({reason}); its folder must exist and be writable.")
        return StoreUnavailable(f"{self.place} does not answer ({reason}); check that it runs, then try again.")


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's begin event, not the driver, decides how transactions start
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("archsmith_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _to_json(value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False, default=_plain, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"a value cannot be stored as JSON ({error}); store finite numbers, text, lists and objects."
        ) from error
