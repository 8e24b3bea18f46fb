"""One search by every door and on every pool: the same genomes, believed values and front to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import JOB, Finished, Server, archsmith, assert_same, found


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["local", "ray"])
def test_run_on_another_pool_finds_the_same(finished: Finished, tmp_path: Path, pool: str) -> None:
    folder = finished.copy(tmp_path)
    done = archsmith(folder, "run", "job.yaml", "--quiet", ARCHSMITH_POOL=pool)
    assert done.returncode == 0, done.stderr
    assert_same(found(folder, 2), finished.found)


def test_search_over_rest_finds_the_same(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path)
    with Server(folder) as server:
        search = server.client.searches.create(JOB).wait(timeout_s=120)
        assert search.state == "succeeded", search.resource.error
        assert {search.resource.progress[stage]["message"] for stage in ("train", "model")} == {"reused"}
        assert "2 of them reused" not in search.resource.progress["verify"]["message"]
        front = search.front()
    assert_same(found(folder, 2), finished.found)
    assert [member.number for member in front] == finished.found.front


def test_supernet_trained_anew_gives_the_same_search(finished: Finished, tmp_path: Path) -> None:
    """Training is as repeatable as the search: the stored cost model is all that has to be the same."""
    folder = finished.copy(tmp_path, "supernet", "standalone", "export")
    done = archsmith(folder, "run", "job.yaml", "--quiet")
    assert done.returncode == 0, done.stderr
    assert_same(found(folder, 2), finished.found)
