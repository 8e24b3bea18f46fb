"""On PostgreSQL: a server with its worker, and two workers of which one takes over from the other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import JOB, TRIALS, Finished, Server, command, environment, found, opened, reached, wait_for
from sqlalchemy import URL, create_engine, text

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def url(postgres_server: URL) -> Iterator[str]:
    """URL of a fresh database."""
    name = f"archsmith_{time.monotonic_ns()}"
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f'CREATE DATABASE "{name}"'))
    yield postgres_server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as conn:
        conn.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    admin.dispose()


def borrow(finished: Finished, folder: Path, url: str) -> None:
    """Give the database what a finished store has of supernets, cost models, trained networks and exports."""
    finished.copy(folder)
    with opened(folder) as source, opened(folder, url) as target:
        with source.database.read() as conn:
            kept = [tuple(row) for row in conn.execute(text("SELECT kind, identity FROM stored_result"))]
        for kind, identity in kept:
            record = source.get_stored(kind, identity)
            assert record is not None
            files = {}
            for path, artifact_id in record.files.items():
                artifact = source.artifact(artifact_id)
                content = source.artifact_path(artifact_id)
                files[path] = target.add_artifact(content, name=artifact.name, media_type=artifact.media_type).id
            target.put_stored(kind, identity, summary=record.summary, files=files)


def test_server_with_its_worker_runs_a_search(finished: Finished, tmp_path: Path, url: str) -> None:
    borrow(finished, tmp_path, url)
    with Server(tmp_path, "--store", url) as server:
        search = server.client.searches.create(JOB).wait(timeout_s=120)
        assert search.state == "succeeded", search.resource.error
        assert len(search.artifacts()) == 4 * min(5, len(search.front()))
    on_postgres = found(tmp_path, 1, url)
    assert (on_postgres.genomes == finished.found.genomes).all()
    assert (on_postgres.values == finished.found.values).all()
    assert on_postgres.front == finished.found.front


def test_killed_worker_is_relieved_by_the_other(finished: Finished, tmp_path: Path, url: str) -> None:
    borrow(finished, tmp_path, url)
    with opened(tmp_path, url) as store:
        from archsmith.service.api.admission import admit
        from archsmith.service.schemas.check import check_job

        search = store.create_search(admit(check_job(JOB)))
        quick = {"ARCHSMITH_LEASE_TTL_S": "6", "ARCHSMITH_POLL_S": "0.2", "ARCHSMITH_STORE_URL": url}
        workers = [
            subprocess.Popen(
                command("worker"), cwd=tmp_path, env=environment(**quick), stderr=subprocess.DEVNULL, text=True
            )
            for _ in range(2)
        ]
        try:
            wait_for(lambda: reached(tmp_path, 1, "search", url, done=16), "the search")
            first = store.search(search.id).worker
            assert first is not None
            os.kill(int(first.rpartition(":")[2]), signal.SIGKILL)
            wait_for(lambda: store.search(search.id).state == "succeeded", "the other worker")
            assert store.search(search.id).epoch == 2
        finally:
            for process in workers:
                process.terminate()
            for process in workers:
                process.wait(timeout=60)
    relieved = found(tmp_path, 1, url)
    assert relieved.record.n_trials == TRIALS
    assert (relieved.values == finished.found.values).all()
    assert relieved.front == finished.found.front
