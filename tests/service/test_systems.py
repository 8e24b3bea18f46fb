"""Every published system of ``configs/systems`` loads at both sizes, and some run from end to end."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import archsmith.configs
from archsmith.errors import ConfigError
from archsmith.search.pipeline.contracts import ModuleSpec, Plan, PoolSpec
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.pipeline.run import run_pipeline
from archsmith.search.strategies import catalog
from archsmith.service.jobfile import load_job
from archsmith.service.schemas.resolve import plan_of

SYSTEMS = sorted((Path(archsmith.configs.__file__).parent / "systems").glob("*.yaml"))
SAMPLES = 40
"""Images per file of made CIFAR-10."""
ONE_BY_ONE = PoolSpec(kind="serial", workers=1)


def test_there_are_systems() -> None:
    names = {path.stem for path in SYSTEMS}
    published = {"bananas", "carbs", "epnas", "fbnetv3", "hierarchical_evolution", "linas", "local_search", "manas"}
    published |= {"mcts", "moboga", "nested_mcts", "nsga2", "nsga3", "regularized_evolution"}
    published |= {"autoformer", "dress", "efficient_tdnn", "gm_nas", "hat", "once_for_all", "sorted_net", "spos"}
    assert published <= names


def make_data(task: str, folder: Path) -> None:
    """A few samples of real files, as a task reads them."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    if task == "parallel_text":
        for ending in ("en", "de"):
            (folder / f"train.{ending}").write_text("\n".join(" ".join(rng.choice(list("abcd"), 5)) for _ in range(30)))
    if task == "cifar10":
        for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            labels = np.arange(SAMPLES)[:, None] % 10
            rows = np.concatenate([labels, rng.integers(0, 256, (SAMPLES, 3072))], axis=1)
            (folder / name).write_bytes(rows.astype(np.uint8).tobytes())
    for label, number in itertools.product("ab", range(8)) if task in ("image_folder", "speech_folder") else ():
        (folder / label).mkdir(exist_ok=True)
        if task == "image_folder":
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
        else:
            with wave.open(str(folder / label / f"{number}.wav"), "wb") as stream:
                stream.setnchannels(1)
                stream.setsampwidth(2)
                stream.setframerate(16_000)
                stream.writeframes(rng.integers(-999, 999, 8000).astype("<i2").tobytes())


@pytest.mark.parametrize("smoke", [False, True], ids=["whole", "smoke"])
@pytest.mark.parametrize("path", SYSTEMS, ids=lambda path: path.stem)
def test_system_loads_and_its_parts_fit(path: Path, smoke: bool, tmp_path: Path) -> None:
    job = load_job(path, local=True, smoke=smoke)
    if job.task is not None and job.task.path is not None:  # the user's own data
        make_data(job.task.name, tmp_path / "data")
        job = load_job(path, local=True, smoke=smoke, data=tmp_path / "data")
        assert job.task is not None
        if job.task.name == "cifar10":
            job.task.options["images_per_file"] = SAMPLES
    assert job.system is not None
    assert "http" in job.system.source
    assert len(job.system.deviations) > 20
    catalog.check(job.strategy.name, job.strategy.options)
    if job.evaluator.kind != "table":
        plan = plan_of(job, ONE_BY_ONE)
        setting = build_setting(plan)
        assert setting.space.size > 100
    if smoke:
        assert job.budget.trials is not None
        assert job.budget.trials <= 200


def test_other_data_than_the_file_names_are_read_where_the_task_reads_any(tmp_path: Path) -> None:
    job = load_job(smoke_file("spos"), local=True, data=tmp_path)
    assert job.task is not None
    assert job.task.path == str(tmp_path)
    with pytest.raises(ConfigError, match=r"task\.path.*no path: task 'digits_shifted' brings its own data"):
        load_job(smoke_file("spos"), local=True, smoke=True, data=tmp_path)
    table = tmp_path / "table.yaml"
    table.write_text("name: looked up\n")
    with pytest.raises(ConfigError, match=r"table\.yaml: task: got None; allowed: a mapping with the task's name"):
        load_job(table, local=True, data=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dress", "efficient_tdnn", "fbnetv3", "gm_nas", "hat", "mcts"])
def test_system_runs_from_end_to_end(name: str, tmp_path: Path) -> None:
    run_briefly(plan_of(load_job(smoke_file(name), local=True, smoke=True), ONE_BY_ONE), tmp_path)


@pytest.mark.slow
def test_efficient_tdnn_runs_on_words_that_were_spoken(tmp_path: Path) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed: no speech to read")
    for word, (number, voice) in itertools.product(("yes", "no"), enumerate(("en-us", "en-gb+f3", "en+m4", "en+f2"))):
        for speed in (140, 160, 180):
            file = tmp_path / "spoken" / word / f"{number}-{speed}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-w", str(file), word], check=True)
    plan = plan_of(load_job(smoke_file("efficient_tdnn"), local=True, smoke=True), ONE_BY_ONE)
    options = {"path": str(tmp_path / "spoken"), "sample_rate": 22_050, "mels": 20, "frames": 40}
    run_briefly(dataclasses.replace(plan, task=ModuleSpec(name="speech_folder", options=options)), tmp_path)


def smoke_file(name: str) -> Path:
    return next(path for path in SYSTEMS if path.stem == name)


def run_briefly(plan: Plan, tmp_path: Path) -> None:
    """Every stage, with hardly any training."""
    plan = dataclasses.replace(plan, audit=0, supernet={**plan.supernet, "steps": 5, "split_steps": 5})
    plan = dataclasses.replace(plan, standalone={**plan.standalone, "steps": 3})
    told = ScriptRecorder()
    report = run_pipeline(plan, told, FolderStore(tmp_path))
    assert report["search"]["trials"] == plan.budget.trials  # type: ignore[index]  # plain data
    assert told.members
    assert np.isfinite(told.all.values).all()
