"""One owner per SQLite file: others are refused in words, or go through the server that owns it."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import Finished, Server, archsmith, assert_same, found


@pytest.mark.slow
def test_commands_on_an_owned_store(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path)
    with Server(folder) as server:
        for refused in (["serve", "--port", "0"], ["worker"]):
            done = archsmith(folder, *refused)
            assert done.returncode == 1
            assert f"owned by process {server.process.pid}" in done.stderr
            assert "Traceback" not in done.stderr
        taken = archsmith(folder, "serve", "--port", server.url.rpartition(":")[2], "--store", "sqlite:///other.db")
        assert taken.returncode == 2
        assert "free address" in taken.stderr
        assert not (folder / "other.db").exists()
        done = archsmith(folder, "run", "job.yaml", "--quiet")
        assert done.returncode == 0, done.stderr
        assert len(list((folder / "runs" / "small-2").rglob("model.onnx"))) == min(5, len(finished.found.front))
        wrong = folder / "wrong.yaml"
        wrong.write_text((folder / "job.yaml").read_text().replace("mobilenet", "mobilnet"), encoding="utf-8")
        refused_job = archsmith(folder, "submit", "wrong.yaml")
        assert refused_job.returncode == 2
        assert "mobilnet" in refused_job.stderr
        assert "mobilenet" in refused_job.stderr
        assert archsmith(folder, "list").stdout.count("succeeded") == 2
    assert_same(found(folder, 2), finished.found)
