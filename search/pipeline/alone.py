"""Train architectures alone, each once: what the store has by the same recipe is not trained again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import PredictorError
from ...predictors.recipe import evaluation_keys, recipe_of
from ...predictors.training import StandaloneSettings
from ...spaces.architecture import Architecture
from ...spaces.digest import hex_digest
from ..pool import open_pool
from .contracts import ResultStore, StoredResult, identity_of
from .prepare import Setting

__all__ = ["SharedWeights", "Trained", "name_of", "standalone_identity", "train_alone"]

TRAINER = "archsmith.predictors.training:build_trainer"
WEIGHTS = "weights.safetensors"
KIND = "standalone"
RECIPE_VERSION = 1
"""Raise it when standalone training computes something else from the same settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedWeights:
    """A trained supernet that trainings may start from: its file, and the identity of what is in it."""

    file: Path
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """An architecture trained alone: accuracies on the valid and the test split, and where its weights are.

    `identity` is that of everything that decided the weights.
    """

    architecture: Architecture
    identity: str
    valid_accuracy: float
    test_accuracy: float
    seconds: float
    weights: Path


def train_alone(
    setting: Setting,
    architectures: list[Architecture],
    on_trained: Callable[[int, int], None],
    store: ResultStore,
    *,
    shared: SharedWeights | None = None,
) -> dict[str, Trained]:
    """Train every architecture by the plan's recipe and seed, side by side in the pool.

    Args:
        setting: the plan with its names resolved.
        architectures: without repetition.
        on_trained: called at first and after every training with how many are done and how many of them were stored
            already; what it raises ends the call.
        store: keeps each finished training under its identity.
        shared: where recipes that start from shared weights find them.

    Returns:
        By `name_of`.

    Raises:
        PredictorError: a training failed; those that finished are kept.
    """
    trained: dict[str, Trained] = {}
    missing = []
    identities = {item: standalone_identity(setting, item, shared) for item in architectures}
    for architecture in architectures:
        found = store.find(KIND, identities[architecture])
        if found is None:
            missing.append(architecture)
        else:
            trained[name_of(setting, architecture)] = _trained(architecture, identities[architecture], found)
    reused = len(trained)
    on_trained(reused, reused)
    if not missing:
        return trained

    def on_done(index: int, answer: Mapping[str, Any]) -> None:
        if answer.get("status") != "failed":
            architecture = missing[index]
            summary = {key: answer[key] for key in ("valid_accuracy", "test_accuracy", "seconds")}
            identity = identities[architecture]
            kept = store.keep(KIND, identity, store.scratch(KIND, identity), summary | {"key": architecture.key})
            trained[name_of(setting, architecture)] = _trained(architecture, identity, kept)
        on_trained(len(trained), reused)

    items = [_item(setting, item, store.scratch(KIND, identities[item])) for item in missing]
    answers = _run(setting, items, on_done, shared)
    if errors := [str(answer["error"]) for answer in answers if answer.get("status") == "failed"]:
        raise PredictorError(
            f"verify: {len(errors)} of {len(missing)} trainings alone failed; the first: {errors[0]}. The "
            "others are kept: mend the cause and submit the search again."
        )
    return trained


def _run(
    setting: Setting,
    items: list[dict[str, Any]],
    on_done: Callable[[int, dict[str, Any]], None],
    shared: SharedWeights | None,
) -> list[dict[str, Any]]:
    plan = setting.plan
    config = setting.worker_config | {"settings": dict(plan.standalone), "recipe_genes": setting.joint}
    if shared is not None:
        config |= {"supernet": {"weights": str(shared.file), "settings": dict(plan.supernet)}}
    with open_pool(plan.pool.kind, plan.pool.workers, TRAINER, config, address=plan.pool.address) as pool:
        return pool.map(items, on_done)


def _item(setting: Setting, architecture: Architecture, scratch: Path) -> dict[str, Any]:
    return {
        "genome": list(architecture.genome),
        "seed": setting.plan.seed,
        "test": True,
        "weights_path": str(scratch / WEIGHTS),
    }


def name_of(setting: Setting, architecture: Architecture) -> str:
    """What tells trained networks apart: the key, and the recipe where genes decide it."""
    if not setting.joint:
        return architecture.key
    genome = np.array([architecture.genome], dtype=np.int16)
    return hex_digest(evaluation_keys(setting.space, genome)[0])


def standalone_identity(setting: Setting, architecture: Architecture, shared: SharedWeights | None = None) -> str:
    """Hash of everything that decides the trained weights."""
    settings = StandaloneSettings.from_json(setting.plan.standalone)
    if setting.joint:
        settings = recipe_of(settings, architecture)
    return identity_of(
        key=architecture.key,
        task=setting.task.identity,
        settings=settings.to_json(),
        seed=setting.plan.seed,
        version=RECIPE_VERSION,
        **({"shared": shared.identity} if shared is not None and settings.initial == "supernet" else {}),
    )


def _trained(architecture: Architecture, identity: str, stored: StoredResult) -> Trained:
    summary = stored.summary

    def number(name: str) -> float:
        value = summary[name]
        assert isinstance(value, int | float)
        return float(value)

    return Trained(
        architecture=architecture,
        identity=identity,
        valid_accuracy=number("valid_accuracy"),
        test_accuracy=number("test_accuracy"),
        seconds=number("seconds"),
        weights=stored.directory / WEIGHTS,
    )
