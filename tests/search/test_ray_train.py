"""Ray Train shares the training of a supernet: real workers, stopped, resumed, and told apart from one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from archsmith import spaces
from archsmith.errors import PredictorError
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer, TrainedSupernet, TrainingInterrupted
from archsmith.predictors.tasks import catalog
from archsmith.search.budget import Budget
from archsmith.search.pipeline.contracts import ModuleSpec, Plan, PoolSpec
from archsmith.search.pipeline.local import FolderStore, ScriptRecorder
from archsmith.search.pipeline.prepare import build_setting
from archsmith.search.pipeline.train import WEIGHTS, train_supernet
from archsmith.search.pools.cluster import connect
from archsmith.search.pools.ray_train import train_on_ray
from archsmith.search.problem import Objective

SETTINGS = {"steps": 5, "batch_size": 16, "checkpoint_every": 2, "precision": "float64", "max_grad_norm": 0.0}
SPACE = ModuleSpec(name="mobilenet", preset="tiny")
TASK = ModuleSpec(name="digits_shifted")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Train and what it imports, not we
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves its log files open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    connect(2, None)
    import ray  # it reads the settings of a local cluster when it is imported

    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> TrainedSupernet:
    """What one process trains."""
    space, task = spaces.get("mobilenet", "tiny"), catalog.get("digits_shifted")
    settings = SupernetSettings.from_json(SETTINGS)
    directory = tmp_path_factory.mktemp("alone")
    return SupernetTrainer(space, task, settings, seed=3, directory=directory, device="cpu").run()


def config(directory: Path, **changes: object) -> dict[str, Any]:
    settings = SETTINGS | {"workers": 2} | changes
    return {
        "space": SPACE.to_json(),
        "task": TASK.to_json(),
        "settings": settings,
        "seed": 3,
        "directory": str(directory),
    }


def assert_close(first: Path, second: Path, tolerance: float) -> None:
    a, b = load_file(first), load_file(second)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=tolerance, msg=name)


def test_two_workers_train_what_one_process_trains_and_stop_when_asked(alone: TrainedSupernet, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    with pytest.raises(TrainingInterrupted) as stopped:
        train_on_ray(
            config(tmp_path),
            workers=2,
            progress=lambda *news: told.append(news),
            should_stop=lambda: True,
        )
    assert stopped.value.step < SETTINGS["steps"]
    assert stopped.value.checkpoint.is_dir()

    trained = train_on_ray(config(tmp_path), workers=2, progress=lambda *news: told.append(news))
    assert trained.steps == SETTINGS["steps"]
    assert all(total == SETTINGS["steps"] and done <= total for done, total, _ in told)
    assert [point["step"] for point in trained.history] == [1, 2, 3, 4, 5]
    for ours, theirs in zip(trained.history, alone.history, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)  # losses and accuracies of the whole batch
    assert_close(trained.weights, alone.weights, 1e-5 * trained.steps)


def test_error_of_the_workers_is_that_of_one_process(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match=r"diverged: the loss is (nan|inf) at step \d.*supernet\.learning_rate"):
        train_on_ray(config(tmp_path, learning_rate=1e38, warmup=0.0, precision="float32"), workers=2)


def test_plan_asks_for_workers_by_a_setting_of_the_supernet(alone: TrainedSupernet, tmp_path: Path) -> None:
    plan = Plan(
        space=SPACE,
        task=TASK,
        devices=(),
        objectives=(Objective(name="accuracy", direction="max"),),
        constraints=(),
        strategy=ModuleSpec(name="random"),
        budget=Budget(trials=1),
        supernet=SETTINGS | {"workers": 2},
        seed=3,
        pool=PoolSpec(kind="serial", workers=1),
    )
    stored = train_supernet(build_setting(plan), ScriptRecorder(), FolderStore(tmp_path))
    assert stored.summary["steps"] == SETTINGS["steps"]
    assert_close(stored.directory / WEIGHTS, alone.weights, 1e-5 * SETTINGS["steps"])
