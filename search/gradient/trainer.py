"""Gradient-based search: shared weights and architecture parameters trained together, and a network derived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import ConfigError
from ...predictors.optimization import pick_device
from ...predictors.runtime import torch_threads
from ...predictors.supernet.checkpoint import CheckpointStore, write_tensors
from ...predictors.supernet.trainer import Progress, TrainingInterrupted
from ...predictors.tasks.task import Task
from ...spaces.space import SearchSpace
from ..problem import Quantity
from .derivation import DERIVATIONS
from .distribution import Chosen, Distribution, places_of
from .gradient_run import GradientRun
from .mixing import expectation
from .pricing import Pricing
from .settings import GradientSettings

__all__ = ["GradientSearch", "LearnedSearch"]

_STREAM = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedSearch:
    """What a gradient-based search leaves.

    Attributes:
        weights: the shared weights, safetensors.
        parameters: the architecture parameters, safetensors.
        learned: the distribution that they mean.
        chosen: the derived network's choice by place.
        genome: the same as choice indices of genes.
        derivation: what derived it; not that of the settings where its network broke the limit.
        cost: of the derived network, by the quantity that was limited; None without one.
        expected_cost: under the learned distribution.
        limit: that was kept, or None.
        steps: of the weights.
        seconds: wall time of all runs together.
        history: at most about a hundred points: step, learning_rate, temperature, entropy (share of a uniform
            distribution's), loss and choices_loss (cross-entropies on the samples of the weights and of the choices),
            expected_cost and multiplier where there are such.
        device: ``cpu`` or ``cuda``.
    """

    weights: Path
    parameters: Path
    learned: Distribution
    chosen: Chosen
    genome: tuple[int, ...]
    derivation: str
    cost: float | None
    expected_cost: float | None
    limit: float | None
    steps: int
    seconds: float
    history: tuple[dict[str, float], ...]
    device: str

    def summary(self) -> dict[str, Any]:
        """JSON-able: everything but the paths."""
        names = {place.name: place.choices for place in self.learned.places}
        derived = {name: None if choice is None else names[name][choice] for name, choice in self.chosen.items()}
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "history": list(self.history),
            "device": self.device,
            "derived": derived,
            "genome": list(self.genome),
            "derivation": self.derivation,
            "entropy": self.learned.entropy,
            "cost": self.cost,
            "expected_cost": self.expected_cost,
            "limit": self.limit,
            "learned": self.learned.to_json(),
        }


class GradientSearch:
    """Searches `space` on `task` by gradients.

    Args:
        space: whose supernet runs mixtures.
        task: gives training batches.
        settings: how.
        seed: decides initial weights and parameters, batches and draws.
        directory: holds the checkpoints and, in the end, ``weights.safetensors`` and ``parameters.safetensors``; may
            hold those of an earlier run.
        quantity: [B, G] genomes -> [B] cost, of `settings.cost.quantity`.
        limit: of the cost, where the settings have none of their own.
        device: None = CUDA where there is one, else the CPU.

    Raises:
        StrategyError: the space has no mixtures.
        ConfigError: settings that do not go together, or a cost without its quantity.
        InfeasibleError: no network keeps the limit.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        settings: GradientSettings,
        *,
        seed: int,
        directory: Path,
        quantity: Quantity | None = None,
        limit: float | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        places_of(space)
        if settings.cost is not None and quantity is None:
            raise ConfigError("gradient.cost.quantity", settings.cost.quantity, "a quantity that is known beforehand")
        self.space, self.task, self.settings, self.seed = space, task, settings, seed
        self.directory = Path(directory)
        self.device = pick_device(device)
        self.pricing: Pricing | None = None
        if settings.cost is not None and quantity is not None:
            self.pricing = Pricing(space, settings.cost, quantity, limit)
        priced = [] if self.pricing is None else [self.pricing.table.identity, self.pricing.limit]
        content = [space.identity, task.identity, settings.to_json(), seed, *priced]
        self.identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def run(self, progress: Progress | None = None, should_stop: Callable[[], bool] | None = None) -> LearnedSearch:
        """Search, from the last checkpoint if there is one.

        Args:
            progress: told after every step.
            should_stop: asked before every step.

        Raises:
            TrainingInterrupted: `should_stop` said so; the state is checkpointed.
            PredictorError: a loss is no number any more, or the checkpoints belong to another run.
        """
        store = CheckpointStore(self.directory, self.identity)
        run = GradientRun(self)
        if (state := store.load_last(self.device)) is not None:
            run.restore(state)
        with torch_threads(run.threads):
            while run.step < self.settings.steps:
                if should_stop is not None and should_stop():
                    raise TrainingInterrupted(run.step, store.save(run.state()))
                run.advance(store)
                if run.step % self.settings.checkpoint_every == 0 or run.step == self.settings.steps:
                    store.save(run.state())
                if progress is not None:
                    progress(run.step, self.settings.steps, run.message())
        return self._finish(run)

    def _finish(self, run: GradientRun) -> LearnedSearch:
        weights, parameters = self.directory / "weights.safetensors", self.directory / "parameters.safetensors"
        write_tensors(weights, run.supernet.state_dict())
        write_tensors(parameters, run.mixer.parameters.state())
        learned = run.mixer.learned()
        chosen, derivation = self._derive(learned)
        priced = self.pricing
        return LearnedSearch(
            weights=weights,
            parameters=parameters,
            learned=learned,
            chosen=chosen,
            genome=tuple(int(choice) for choice in self.space.assembled(chosen)),
            derivation=derivation,
            cost=None if priced is None else priced.true_cost(chosen),
            expected_cost=None if priced is None else float(priced.table.expected(expectation(learned))),
            limit=None if priced is None else priced.limit,
            steps=run.step,
            seconds=run.seconds,
            history=tuple(run.history),
            device=self.device.type,
        )

    def _derive(self, learned: Distribution) -> tuple[Chosen, str]:
        """A network, and by which derivation: `feasible` where the asked one broke the limit."""
        settings = self.settings.derivation
        limit = None if self.pricing is None else self.pricing.derivation_limit(settings.least_use)
        rng = np.random.default_rng([self.seed, self.settings.steps, _STREAM])
        chosen = DERIVATIONS[settings.name](learned, rng, limit)
        if limit is None or limit.holds(chosen):
            return chosen, settings.name
        return DERIVATIONS["feasible"](learned, rng, limit), "feasible"
