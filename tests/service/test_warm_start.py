"""A search that starts from an earlier one of the same store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from running import Finished, archsmith, found, write_job


def test_front_of_the_earlier_search_comes_first(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path)
    job = write_job(folder, warm_start=[1], budget={"trials": 40})
    done = archsmith(folder, "run", job, "--quiet")
    assert done.returncode == 0, done.stderr
    new, old = found(folder, 2), finished.found
    assert new.record.report is not None
    told = new.record.report["search"]["warm_start"]
    assert told["searches"] == ["search 1 (small)"]
    assert told["results"] == old.record.n_trials
    first = told["first_trials"]
    assert first == len(old.front)
    earlier = {row.tobytes(): value for row, value in zip(old.genomes, old.values, strict=True)}
    np.testing.assert_array_equal(new.values[:first], [earlier[row.tobytes()] for row in new.genomes[:first]])
    assert new.record.n_trials == 40


def test_search_that_does_not_fit_is_refused(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path)
    missing = archsmith(folder, "run", write_job(folder, warm_start=[99]), "--quiet")
    assert missing.returncode == 2
    assert "warm_start: got 99" in missing.stderr
    other = archsmith(
        folder, "run", write_job(folder, warm_start=[1], supernet={"steps": 3, "batch_size": 8}), "--quiet"
    )
    assert other.returncode == 2
    assert "evaluated by the same task, recipe and seed" in other.stderr
