"""A full disk and a folder that cannot be written: one clear message, and a search that goes on afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from running import Finished, archsmith, command, environment, found, write_job


@pytest.mark.slow
@pytest.mark.parametrize("limit", [20_000, 400_000], ids=["database", "supernet"])
def test_full_disk_is_an_error_in_words_and_the_search_goes_on_later(
    finished: Finished, tmp_path: Path, limit: int
) -> None:
    """A limit on the size of files stands for the disk: the kernel refuses to write beyond it, as where it is full."""
    folder = finished.copy(tmp_path, "supernet")
    done = subprocess.run(
        command("run", "job.yaml", "--quiet"),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr or "disk" in done.stderr
    if limit > 100_000:
        again = archsmith(folder, "resume", "2", "--quiet")
        assert again.returncode == 0, again.stderr
        assert found(folder, 2).front == finished.found.front


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write anywhere")
def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    write_job(folder)
    folder.chmod(0o555)
    # Root may write anywhere: without that power it is a user like others.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    try:
        done = subprocess.run(
            [*drop, *command("run", "job.yaml", "--quiet")],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        folder.chmod(0o755)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "Permission denied" in done.stderr or "writ" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["job.yaml"]
