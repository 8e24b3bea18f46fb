"""Scoring subnets by the shared weights: validation accuracy without training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ... import spaces
from ...errors import PredictorError, SpaceError
from ...spaces.elastic.supernet import Supernet
from ...spaces.space import SearchSpace
from ...spaces.subspace import SubSpace
from ..evaluation import measure_accuracy
from ..optimization import channels_last, pick_device
from ..runtime import keep_freed_memory
from ..tasks import catalog as tasks
from ..tasks.task import Samples, Task
from .calibration import Calibration
from .parts import read_parts
from .settings import SupernetSettings

__all__ = ["SOURCE", "SupernetScorer", "build_scorer"]

SOURCE = "predicted:supernet"


class SupernetScorer:
    """Scores architectures on the validation split with shared weights; never sees the test split.

    Where the space was split, every architecture is scored with the weights of its part.

    Attributes:
        valid: the validation samples that scores are computed on, at most `settings.scoring_samples`.

    Args:
        space: the space whose supernet was trained.
        task: what it was trained on.
        weights: the trained weights, safetensors.
        settings: of calibration and scoring.
        device: None = CUDA where there is one, else the CPU.

    Raises:
        PredictorError: the weights are missing or do not fit the space.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        weights: Path,
        settings: SupernetSettings,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        self.space, self.statistics = space, settings.norm_statistics
        self.device = pick_device(device)
        self._supernets = _load_supernets(space, Path(weights), self.device)
        self.calibration = Calibration(task, settings, self.device)
        valid = _spread(task.split("valid"), settings.scoring_samples).to(self.device)
        self.valid = valid.map_inputs(channels_last)
        if self.device.type == "cpu":
            keep_freed_memory()

    @torch.inference_mode()
    def score(self, genome: NDArray[np.int16]) -> float:
        """Accuracy in [0, 1] of one canonical genome [G] on `valid`; the same whatever was scored before."""
        architecture, supernet = self.space.decode(genome), self.supernet_of(genome)
        if self.statistics == "calibrated":
            self.calibration.apply(supernet, architecture)
        for _, norm in supernet.batch_norms():
            norm.training = self.statistics == "batch"  # normalises by the samples at hand, and stores nothing
        return measure_accuracy(lambda *inputs: supernet(*inputs, architecture), self.valid)

    def extract(self, genome: NDArray[np.int16]) -> nn.Module:
        """The subnet of a genome [G] as a network of its own, in evaluation mode: calibrated, or as it was tracked."""
        architecture, supernet = self.space.decode(genome), self.supernet_of(genome)
        if self.statistics != "tracked":
            self.calibration.apply(supernet, architecture)
        return supernet.extract(architecture)

    def supernet_of(self, genome: NDArray[np.int16]) -> Supernet:
        """The shared weights that are for a genome [G]: of the part it belongs to, or of the whole space."""
        row = np.asarray(genome, dtype=np.int16)[None]
        return next(supernet for part, supernet in self._supernets if part.contains(row)[0])


def build_scorer(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """What a pool's worker process builds once and then calls per candidate, on one thread.

    Args:
        config: JSON-able: ``space`` and ``task``, each {name, preset, options}; ``weights``, a path; ``settings``,
            `SupernetSettings` by field name, may be left out.

    Returns:
        {"genome": [G] ints} -> {"accuracy": float in [0, 1], "seconds": float}.
    """
    torch.set_num_threads(1)
    space, task = build_space_and_task(config)
    settings = SupernetSettings.from_json(config.get("settings", {}))
    scorer = SupernetScorer(space, task, Path(config["weights"]), settings)

    def score(item: Mapping[str, Any]) -> dict[str, float]:
        started = time.perf_counter()
        value = scorer.score(np.asarray(item["genome"], dtype=np.int16))
        return {"accuracy": value, "seconds": time.perf_counter() - started}

    return score


def build_space_and_task(config: Mapping[str, Any]) -> tuple[SearchSpace, Task]:
    """The space and the task that a worker's config names."""
    space, task = config["space"], config["task"]
    return (
        spaces.get(space["name"], space.get("preset"), **space.get("options", {})),
        tasks.get(task["name"], **task.get("options", {})),
    )


def _spread(samples: Samples, count: int) -> Samples:
    """At most `count` samples, evenly spread; all placements of one image are neighbours, so every image stays."""
    if count >= len(samples):
        return samples
    rows = torch.arange(count) * len(samples) // count
    return samples.take(rows)


def _load_supernets(space: SearchSpace, file: Path, device: torch.device) -> list[tuple[SubSpace, Supernet]]:
    """Every part of the space that has shared weights of its own, with them; one for all where nothing was split."""
    loaded = []
    for part in read_parts(file):
        supernet = space.supernet(seed=0)
        try:
            supernet.load_state_dict(part.weights)
            subspace = part.subspace(space)
        except (RuntimeError, SpaceError) as error:
            raise PredictorError(
                f"supernet weights {str(file)!r} do not fit space {space.identity}; they belong to another space."
            ) from error
        supernet.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        loaded.append((subspace, supernet.eval()))
    return loaded
