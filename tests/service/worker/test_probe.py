"""Probing a device without naming a space: the kernel suite becomes tasks, and what came of them serves searches."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import JOB

from archsmith import spaces
from archsmith.predictors.cost import kernel_fitting
from archsmith.search.pipeline.contracts import PoolSpec
from archsmith.search.pipeline.local import ScriptRecorder
from archsmith.search.pipeline.model import fit_cost_models
from archsmith.search.pipeline.prepare import build_setting
from archsmith.service.measuring import ALL_SPACES, Lab
from archsmith.service.schemas.check import check_job
from archsmith.service.schemas.resolve import plan_of
from archsmith.service.settings import Settings
from archsmith.service.store.device_tasks import DeviceTask
from archsmith.service.store.records import JobKind, JobState
from archsmith.service.store.store import Store
from archsmith.service.worker.results import DatabaseResultStore
from archsmith.service.worker.runner import Worker

INFO = {"runtime": "onnxruntime 1", "cpu": "a board"}
SIZES = {"kernels": 40, "networks": 6, "held_out_networks": 3, "rounds": 1, "kernels_per_round": 4,
         "fusion_examples": 1, "prior_networks": 12, "visits": 2}  # fmt: skip


@pytest.fixture
def small_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small spaces in place of eight."""
    suite = (spaces.get("mobilenet", "tiny"), spaces.get("vit", "tiny"))
    monkeypatch.setattr(kernel_fitting, "suite_spaces", lambda: suite)


def result(task: DeviceTask) -> dict[str, Any]:
    """What a device whose time grows with the size of a model would answer."""
    assert task.model is not None
    latency = 0.003 + 1e-6 * len(task.model["data"]) + 1e-6 * sum(fill[1] for fill in task.model["fills"])
    told = {"latency_ms": latency, "iqr_ms": 0.01 * latency, "repeats": 96, "precision": 0.01, "noisy": False}
    return told | {"reference_ms": 0.5, "slowdown": 1.0, "conditions": INFO | {"threads": 1}}


def measure_all(store: Store) -> int:
    """Do what an agent does for all open tasks."""
    done = 0
    while held := store.tasks.claim("board", "agent", 60.0):
        store.tasks.finish(held[0], result(held[1]))
        done += 1
    return done


def test_kernels_of_every_space_become_one_model_that_searches_take(tmp_path: Path, small_suite: None) -> None:
    settings = Settings(runs_dir=tmp_path, artifacts_dir=tmp_path / "artifacts")
    with Store.open(f"sqlite:///{tmp_path}/archsmith.db", tmp_path / "artifacts") as store:
        store.tasks.hello("board", INFO)
        payload = {"device": "board", "space": None, "preset": None, "options": {}, "settings": SIZES, "seed": 0}
        job = store.enqueue(JobKind.PROBE, payload | {"data_type": "float32"})
        worker, rounds = Worker(store, settings, shutdown=threading.Event()), 0
        while store.job(job.id).state != JobState.SUCCEEDED:
            lease = store.claim("worker", job_id=job.id, ttl_s=60.0)
            assert lease is not None
            worker.execute(lease)
            assert measure_all(store) or store.job(job.id).state == JobState.SUCCEEDED, store.job(job.id).error
            rounds += 1
        assert rounds > 3  # fusion, suite, adaptive rounds and visits each ask for what is missing
        (model,) = store.tasks.models("board")
        assert model.space == ALL_SPACES
        assert model.summary["report"]["n"] == 6
        assert set(model.summary["spaces"]) == {"mobilenet", "vit"}
        assert model.summary["conditions"]["dtype"] == "float32"

        lab = Lab(store, patience_s=None, server="http://here:1")
        assert lab.fitted("board", None) == model.identity
        assert lab.fitted("board", None, "int8") is None
        assert lab.fitted("board", spaces.get("mobilenet", "tiny")) is None
        on_board = JOB | {"devices": ["board"], "objectives": [{"name": "accuracy"}, {"name": "latency_ms"}]}
        plan = plan_of(check_job(on_board, registered=("board",)), PoolSpec(kind="serial", workers=1))
        setting = build_setting(dataclasses.replace(plan, constraints=()), lab)
        found = DatabaseResultStore(store, lease, tmp_path)
        models = fit_cost_models(setting, ScriptRecorder(), found)
        assert models.source("latency_ms@board") == "predicted:kernels"
        assert store.tasks.open("board") == []  # nothing was asked for again
        latency = models.known["latency_ms@board"](setting.space.sample(20, np.random.default_rng(0)))
        assert (latency > 0).all()
