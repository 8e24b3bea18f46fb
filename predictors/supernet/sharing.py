"""How much of a space shares one set of weights: all of it, or parts that were split off after a common beginning.

A supernet of the whole space is trained first. Then its space is split at one gene, every part goes on from the common
weights with paths of its own, and may be split again. An architecture is scored by the supernet of its part.

Source: Zhao et al., Few-shot Neural Architecture Search, ICML 2021, https://arxiv.org/abs/2006.06863; Hu et al.,
Generalizing Few-Shot NAS with Gradient Matching, ICLR 2022, https://arxiv.org/abs/2203.15207. There parts go on with
the schedule of the whole; here the whole is trained to the end of its schedule, and every part has one of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ...spaces.space import SearchSpace
from ..optimization import pick_device
from ..runtime import torch_threads
from ..tasks.task import Task
from .checkpoint import CheckpointStore
from .parts import Part, limited, write_parts
from .settings import EXHAUSTIVE, ONE_SHOT, RANDOM, SupernetSettings
from .splitting import choose_split, gradient_distances
from .trainer import Progress, SupernetTrainer, TrainedSupernet
from .training_run import TrainingRun

__all__ = ["FewShotTrainer", "supernet_trainer"]

_SPLIT: Final = "split.json"
_WHOLE: Final = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A supernet that was trained, and the part of the space that it is for."""

    name: str
    choices: dict[str, tuple[int, ...]]
    trained: TrainedSupernet


@dataclass(slots=True)
class _Steps:
    """Steps done and known to come, over all supernets."""

    progress: Progress | None
    done: int = 0
    total: int = 0
    told: list[TrainedSupernet] = field(default_factory=list)

    def __call__(self, step: int, steps: int, message: str) -> None:
        del steps  # of one supernet
        if self.progress is not None:
            self.progress(self.done + step, self.total, message)

    def finish(self, trained: TrainedSupernet) -> None:
        self.done += trained.steps
        self.told.append(trained)


class FewShotTrainer:
    """Trains the supernet of `space`, splits it, and trains the parts.

    It takes what `SupernetTrainer` takes, and runs and resumes like it. The weights that it leaves hold all parts.

    Args:
        space: must have a supernet.
        task: gives training batches.
        settings: how; `sharing`, `splits` and `split_steps` say how weights are shared.
        seed: decides initial weights, batches, paths and what gradients are compared on.
        directory: holds a folder for every supernet and, in the end, ``weights.safetensors``.
        device: None = CUDA where there is one, else the CPU.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        settings: SupernetSettings,
        *,
        seed: int,
        directory: Path,
        device: torch.device | str | None = None,
    ) -> None:
        self.space, self.task, self.settings, self.seed = space, task, settings, seed
        self.directory, self.device = Path(directory), pick_device(device)

    def run(self, progress: Progress | None = None, should_stop: Callable[[], bool] | None = None) -> TrainedSupernet:
        """Train, from where an earlier call stopped; steps in total grow when a split shows how many parts there are.

        Raises:
            TrainingInterrupted, PredictorError: as `SupernetTrainer.run`; or there is no gene left to split.
        """
        steps = _Steps(progress, total=self.settings.steps)
        settings = dataclasses.replace(self.settings, sharing=ONE_SHOT)
        trainer = SupernetTrainer(
            self.space, self.task, settings, seed=self.seed, directory=self.directory / _WHOLE, device=self.device
        )
        nodes = [_Node(name=_WHOLE, choices={}, trained=trainer.run(steps, should_stop))]
        steps.finish(nodes[0].trained)
        for _ in range(self.settings.splits):
            limits = [(node, choices) for node in nodes for choices in self._split(node)]
            steps.total += len(limits) * self.settings.split_steps
            nodes = [
                self._train_part(f"{node.name}-{number}", choices, node, steps, should_stop)
                for number, (node, choices) in enumerate(limits)
            ]
        weights = self.directory / "weights.safetensors"
        write_parts(weights, [Part(choices=node.choices, weights=load_file(node.trained.weights)) for node in nodes])
        return TrainedSupernet(
            weights=weights,
            steps=steps.done,
            seconds=sum(trained.seconds for trained in steps.told),
            history=tuple(_joined(steps.told)),
            device=self.device.type,
        )

    def _split(self, node: _Node) -> list[dict[str, tuple[int, ...]]]:
        """The limits of the parts of a part; decided once, as other devices or threads round differently."""
        stored = self.directory / node.name / _SPLIT
        if not stored.exists():
            space = limited(self.space, node.choices)
            supernet = space.supernet(seed=0).to(self.device)
            supernet.load_state_dict(load_file(node.trained.weights))
            with torch_threads(1):
                distances = gradient_distances(
                    supernet, space, self.task, batch_size=self.settings.batch_size, seed=self.seed
                )
            split = choose_split(space, distances, exhaustive=self.settings.sharing == EXHAUSTIVE)
            gene = self.space.genes[self.space.table.find(split.gene)]
            groups = [[gene.index(value) for value in values] for values in split.groups]
            scratch = stored.with_suffix(".writing")
            scratch.write_text(json.dumps({"gene": split.gene, "groups": groups, "distance": split.distance}))
            scratch.replace(stored)
        content = json.loads(stored.read_text())
        return [node.choices | {content["gene"]: tuple(group)} for group in content["groups"]]

    def _train_part(
        self,
        name: str,
        choices: dict[str, tuple[int, ...]],
        parent: _Node,
        steps: _Steps,
        should_stop: Callable[[], bool] | None,
    ) -> _Node:
        settings = dataclasses.replace(
            self.settings,
            sharing=ONE_SHOT,
            steps=self.settings.split_steps,
            learning_rate=self.settings.split_learning_rate,
            initial=RANDOM,
        )
        # All parts of a level see the same batches and draws: less noise between the scores of different parts.
        seed = int(np.random.SeedSequence([self.seed, name.count("-")]).generate_state(1)[0])
        trainer = SupernetTrainer(
            limited(self.space, choices), self.task, settings,
            seed=seed, directory=self.directory / name, device=self.device,
        )  # fmt: skip
        _begin_with(trainer, load_file(parent.trained.weights))
        trained = trainer.run(steps, should_stop)
        steps.finish(trained)
        return _Node(name=name, choices=choices, trained=trained)


def supernet_trainer(
    space: SearchSpace,
    task: Task,
    settings: SupernetSettings,
    *,
    seed: int,
    directory: Path,
    device: torch.device | str | None = None,
) -> SupernetTrainer | FewShotTrainer:
    """The trainer for the way of sharing that the settings name."""
    kind = SupernetTrainer if settings.sharing == ONE_SHOT else FewShotTrainer
    return kind(space, task, settings, seed=seed, directory=directory, device=device)


def _begin_with(trainer: SupernetTrainer, weights: dict[str, Tensor]) -> None:
    """Let a run that has not begun go on from these weights: they become the checkpoint of its step 0."""
    store = CheckpointStore(trainer.directory, trainer.identity)
    if not store.steps():
        store.save(dataclasses.replace(TrainingRun(trainer).state(), weights=weights))


def _joined(told: list[TrainedSupernet]) -> list[dict[str, float]]:
    """All histories, one after the other, with steps counted on."""
    points, before = [], 0
    for trained in told:
        points += [point | {"step": point["step"] + before} for point in trained.history]
        before += trained.steps
    return points
