"""Train: one weight-sharing supernet, or none if the store has it already."""

from __future__ import annotations

from pathlib import Path

from ...predictors.supernet.settings import SupernetSettings
from ...predictors.supernet.sharing import supernet_trainer
from ...predictors.supernet.trainer import TrainedSupernet, TrainingInterrupted
from .contracts import Interrupted, Recorder, ResultStore, Stage, StoredResult, identity_of
from .prepare import Setting

__all__ = ["WEIGHTS", "supernet_identity", "train_supernet"]

WEIGHTS = "weights.safetensors"
TRAINER_VERSION = 2
"""Raise it when the trainer computes something else from the same settings: stored supernets are then not reused."""


def supernet_identity(setting: Setting) -> str:
    """Hash of everything that decides the trained weights."""
    settings = SupernetSettings.from_json(setting.plan.supernet)
    return identity_of(
        space=setting.space.identity,
        task=setting.task.identity,
        settings=settings.content(),
        seed=setting.plan.seed,
        version=TRAINER_VERSION,
    )


def train_supernet(setting: Setting, recorder: Recorder, store: ResultStore) -> StoredResult:
    """Train the supernet of the plan, or return the stored one.

    Raises:
        Interrupted: the recorder asked to stop; the last step is checkpointed.
    """
    identity = supernet_identity(setting)
    found = store.find("supernet", identity)
    recorder.stage(Stage.TRAIN, reused=found is not None)
    if found is not None:
        return found
    scratch = store.scratch("supernet", identity)
    try:
        trained = _train(setting, scratch / "checkpoints", recorder)
    except TrainingInterrupted as stop:
        raise Interrupted(recorder.should_stop() or "pause") from stop
    output = _collect(scratch, trained.weights)
    return store.keep("supernet", identity, output, {**trained.summary(), "identity": identity})


def _train(setting: Setting, directory: Path, recorder: Recorder) -> TrainedSupernet:
    """By this process, or by as many as the settings ask for."""
    settings = SupernetSettings.from_json(setting.plan.supernet)

    def should_stop() -> bool:
        return recorder.should_stop() is not None

    if settings.workers > 1:
        from ..pools.ray_train import train_on_ray

        seed, folder = setting.plan.seed, str(directory.resolve())
        config = setting.worker_config | {"settings": settings.to_json(), "seed": seed, "directory": folder}
        return train_on_ray(
            config,
            workers=settings.workers,
            address=setting.plan.pool.address,
            progress=recorder.progress,
            should_stop=should_stop,
        )
    trainer = supernet_trainer(setting.space, setting.task, settings, seed=setting.plan.seed, directory=directory)
    return trainer.run(progress=recorder.progress, should_stop=should_stop)


def _collect(scratch: Path, weights: Path) -> Path:
    output = scratch / "output"
    output.mkdir(exist_ok=True)
    target = output / WEIGHTS
    if weights != target:
        target.write_bytes(weights.read_bytes())
    return output
