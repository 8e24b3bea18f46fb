"""Train, by gradients: shared weights and a distribution over architectures, instead of shared weights alone.

The cost models come first, because their tables are terms of the loss. What is stored is a supernet with one more file:
the learned distribution and the derived network, which the strategy `derived` proposes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...predictors.supernet.trainer import TrainingInterrupted
from ...spaces.space import SearchSpace
from ..gradient.distribution import Distribution, places_of
from ..gradient.settings import CostSettings, GradientSettings
from ..gradient.trainer import GradientSearch
from ..problem import Quantity
from .contracts import Interrupted, Plan, Recorder, ResultStore, Stage, StoredResult
from .model import CostModels
from .prepare import Setting
from .train import WEIGHTS

__all__ = ["Learned", "learned_from", "train_relaxed"]

LEARNED: Final = "learned.json"
PARAMETERS: Final = "parameters.safetensors"

RELAXED_VERSION: Final = 1
"""Raise it when the search computes something else from the same settings: stored ones are then not reused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a gradient-based search hands to the strategy.

    Attributes:
        distribution: over architectures.
        genome: [G] the derived network.
    """

    distribution: Distribution
    genome: NDArray[np.int16]


def train_relaxed(setting: Setting, models: CostModels, recorder: Recorder, store: ResultStore) -> StoredResult:
    """Search by gradients as the plan says, or return the stored search.

    Raises:
        ConfigError: the cost is of a quantity that no model tells.
        InfeasibleError: no architecture keeps the limit.
        Interrupted: the recorder asked to stop; the last step is checkpointed.
    """
    plan = setting.plan
    assert plan.gradient is not None
    settings = GradientSettings.from_json(plan.gradient)
    search = GradientSearch(
        setting.space,
        setting.task,
        settings,
        seed=plan.seed,
        directory=Path(),
        quantity=None if settings.cost is None else _quantity(settings.cost, models.known),
        limit=None if settings.cost is None else _limit(settings.cost, plan),
    )
    identity = f"{search.identity}-{RELAXED_VERSION}"
    found = store.find("supernet", identity)
    recorder.stage(Stage.TRAIN, reused=found is not None)
    if found is not None:
        return found
    scratch = store.scratch("supernet", identity)
    search.directory = scratch / "checkpoints"
    try:
        learned = search.run(progress=recorder.progress, should_stop=lambda: recorder.should_stop() is not None)
    except TrainingInterrupted as stop:
        raise Interrupted(recorder.should_stop() or "pause") from stop
    output = scratch / "output"
    output.mkdir(exist_ok=True)
    (output / WEIGHTS).write_bytes(learned.weights.read_bytes())
    (output / PARAMETERS).write_bytes(learned.parameters.read_bytes())
    content = {"learned": learned.learned.to_json(), "genome": list(learned.genome)}
    (output / LEARNED).write_text(json.dumps(content), encoding="utf-8")
    return store.keep("supernet", identity, output, {**learned.summary(), "identity": identity})


def learned_from(stored: StoredResult, space: SearchSpace) -> Learned:
    """What a stored search learned."""
    content: dict[str, Any] = json.loads((stored.directory / LEARNED).read_text(encoding="utf-8"))
    return Learned(
        distribution=Distribution.from_json(places_of(space), content["learned"]),
        genome=np.array(content["genome"], dtype=np.int16),
    )


def _quantity(cost: CostSettings, known: Mapping[str, Quantity]) -> Quantity:
    if cost.quantity not in known:
        raise ConfigError("gradient.cost.quantity", cost.quantity, f"one of {', '.join(sorted(known))}")
    return known[cost.quantity]


def _limit(cost: CostSettings, plan: Plan) -> float | None:
    """The tightest of the plan's upper bounds on the quantity."""
    bounds = [item.bound for item in plan.constraints if item.label == cost.quantity and item.operator == "<="]
    return min(bounds, default=None)
