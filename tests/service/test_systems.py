"""Every published system of ``configs/systems`` loads at both sizes, and some run from end to end."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import archsmith.configs
from archsmith.search.pipeline.contracts import PoolSpec
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.pipeline.run import run_pipeline
from archsmith.search.strategies import catalog
from archsmith.service.jobfile import load_job
from archsmith.service.schemas.resolve import plan_of

SYSTEMS = sorted((Path(archsmith.configs.__file__).parent / "systems").glob("*.yaml"))


def test_there_are_systems() -> None:
    names = {path.stem for path in SYSTEMS}
    published = {"bananas", "carbs", "epnas", "fbnetv3", "hierarchical_evolution", "linas", "local_search", "manas"}
    published |= {"mcts", "moboga", "nested_mcts", "nsga2", "nsga3", "regularized_evolution"}
    assert published <= names


@pytest.mark.parametrize("smoke", [False, True], ids=["whole", "smoke"])
@pytest.mark.parametrize("path", SYSTEMS, ids=lambda path: path.stem)
def test_system_loads_and_its_parts_fit(path: Path, smoke: bool) -> None:
    job = load_job(path, local=True, smoke=smoke)
    assert job.system is not None
    assert "http" in job.system.source
    assert len(job.system.deviations) > 20
    catalog.check(job.strategy.name, job.strategy.options)
    if job.evaluator.kind != "table":
        plan = plan_of(job, PoolSpec(kind="serial", workers=1))
        setting = build_setting(plan)
        assert setting.space.size > 100
    if smoke:
        assert job.budget.trials is not None
        assert job.budget.trials <= 200


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fbnetv3", "mcts"])
def test_system_runs_from_end_to_end(name: str, tmp_path: Path) -> None:
    path = next(path for path in SYSTEMS if path.stem == name)
    plan = plan_of(load_job(path, local=True, smoke=True), PoolSpec(kind="serial", workers=1))
    plan = dataclasses.replace(plan, audit=0, supernet={**plan.supernet, "steps": 5})
    plan = dataclasses.replace(plan, standalone={**plan.standalone, "steps": 3})
    told = ScriptRecorder()
    report = run_pipeline(plan, told, FolderStore(tmp_path))
    assert report["search"]["trials"] == plan.budget.trials  # type: ignore[index]  # plain data
    assert told.members
    assert np.isfinite(told.all.values).all()
