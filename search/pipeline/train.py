"""Train: one weight-sharing supernet, or none if the store has it already."""

from __future__ import annotations

from pathlib import Path

from ...predictors.supernet.settings import SupernetSettings
from ...predictors.supernet.trainer import SupernetTrainer, TrainingInterrupted
from .contracts import Interrupted, Recorder, ResultStore, Stage, StoredResult, identity_of
from .prepare import Setting

__all__ = ["WEIGHTS", "supernet_identity", "train_supernet"]

WEIGHTS = "weights.safetensors"
TRAINER_VERSION = 1
"""Raise it when the trainer computes something else from the same settings: stored supernets are then not reused."""


def supernet_identity(setting: Setting) -> str:
    """Hash of everything that decides the trained weights."""
    settings = SupernetSettings.from_json(setting.plan.supernet)
    return identity_of(
        space=setting.space.identity,
        task=setting.task.identity,
        settings=settings.to_json(),
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
    trainer = SupernetTrainer(
        setting.space,
        setting.task,
        SupernetSettings.from_json(setting.plan.supernet),
        seed=setting.plan.seed,
        directory=scratch / "checkpoints",
    )
    try:
        trained = trainer.run(progress=recorder.progress, should_stop=lambda: recorder.should_stop() is not None)
    except TrainingInterrupted as stop:
        raise Interrupted(recorder.should_stop() or "pause") from stop
    output = _collect(scratch, trained.weights)
    return store.keep("supernet", identity, output, {**trained.summary(), "identity": identity})


def _collect(scratch: Path, weights: Path) -> Path:
    output = scratch / "output"
    output.mkdir(exist_ok=True)
    target = output / WEIGHTS
    if weights != target:
        target.write_bytes(weights.read_bytes())
    return output
