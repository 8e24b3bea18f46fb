"""Training one architecture alone, from scratch or from shared weights: the accuracy that a score only predicts."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError, PredictorError
from ..spaces.architecture import Architecture
from ..spaces.space import SearchSpace
from .evaluation import measure_accuracy
from .optimization import OPTIMIZERS, channels_last, learning_rate, make_optimizer, pick_device, set_learning_rate
from .recipe import check_recipe, recipe_of
from .regularisation import AveragedWeights, mixed, noise
from .runtime import thread_count, torch_threads
from .supernet.checkpoint import write_tensors
from .supernet.losses import label_loss
from .supernet.scoring import SupernetScorer, build_space_and_task
from .supernet.settings import SupernetSettings
from .tasks.task import Samples, Task

__all__ = [
    "INITIAL",
    "SOURCE",
    "StandaloneResult",
    "StandaloneSettings",
    "TrainingStopped",
    "build_trainer",
    "source_of",
    "train_standalone",
]

SOURCE: Final = "measured:standalone"
"""Of an accuracy after training from scratch; `source_of` knows the others."""

INITIAL: Final = ("scratch", "supernet")
"""What a network's weights are before it is trained alone."""

Progress = Callable[[int, int, str], None]


class TrainingStopped(Exception):  # noqa: N818  # a request that was honoured, not an error
    """A standalone training was asked to stop; it is short and keeps no checkpoint, so it starts again next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneSettings:
    """How one architecture is trained alone; the defaults suit networks of about a million MACs on small images.

    They were chosen by mean validation accuracy per CPU second, over four networks of the `mobilenet` preset `digits`
    with two seeds each: 200 steps at a peak of 0.4 reach 92.1 %; at 0.2, 90.8 %; at 0.1, 88.0 %; 300 steps at 0.1,
    91.4 %; 240 steps of 48 images at 0.3, 91.8 %; 130 of 96 at 0.2, 87.7 %; 200 of AdamW at 0.005, 78.2 %.

    Attributes:
        steps: optimiser steps; 200 take 4 to 5 s of one core for a median network.
        batch_size: images per step. Smaller ones spend their time on calls, larger ones make too few steps.
        optimizer: ``adamw``, ``rmsprop`` or ``sgd`` (Nesterov momentum 0.9).
        learning_rate: peak; reached after the warm-up, then a half cosine down to 0. So short a training wants it high.
        warmup: share of the steps with a rising learning rate; long, because the peak is high.
        weight_decay: on weights, not on biases and norms.
        label_smoothing: share of the target spread over all classes.
        dropout: chance that a feature read by the last linear layer is dropped.
        drop_path: chance that the last residual branch is dropped, for every sample; earlier ones have less.
        mixup: alpha of Beta(alpha, alpha), of which the share of a sample in its blend with another is drawn; 0 = none.
        ema: whether the result is a running average of the weights (decay 0.9998, less in the first steps).
        initial: ``scratch``, or ``supernet``: the weights that the architecture has in the trained supernet, which
            then need a lower learning rate and fewer steps.
    """

    steps: int = 200
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.4
    warmup: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    dropout: float = 0.0
    drop_path: float = 0.0
    mixup: float = 0.0
    ema: bool = False
    initial: str = "scratch"

    def __post_init__(self) -> None:
        limits = {"steps": (1, None), "batch_size": (2, None), "learning_rate": (1e-9, None), "weight_decay": (0, None)}
        limits |= dict.fromkeys(("warmup", "label_smoothing", "dropout", "drop_path"), (0, 0.999))
        limits |= {"mixup": (0, None)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(
                value, int if name in ("steps", "batch_size") else (int, float)
            ):
                raise ConfigError(f"standalone.{name}", value, "a number")
            if not low <= value <= (math.inf if high is None else high):
                raise ConfigError(f"standalone.{name}", value, f"{low} or more" if high is None else f"{low} to {high}")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError("standalone.optimizer", self.optimizer, ", ".join(OPTIMIZERS))
        if not isinstance(self.ema, bool):
            raise ConfigError("standalone.ema", self.ema, "true or false")
        if self.initial not in INITIAL:
            raise ConfigError("standalone.initial", self.initial, ", ".join(INITIAL))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StandaloneSettings:
        """Settings from a mapping by field name; raises ConfigError for an unknown name."""
        known = sorted(field.name for field in dataclasses.fields(cls))
        for name in values:
            if name not in known:
                raise ConfigError(f"standalone.{name}", values[name], f"settings {', '.join(known)}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """All settings by field name; `from_json` takes them back."""
        return dataclasses.asdict(self)


def source_of(settings: StandaloneSettings) -> str:
    """The source of an accuracy after training by these settings.

    >>> source_of(StandaloneSettings(initial="supernet"))
    'measured:fine_tuned'
    """
    return SOURCE if settings.initial == "scratch" else "measured:fine_tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneResult:
    """A network trained alone.

    Attributes:
        network: on the CPU, in evaluation mode.
        valid_accuracy: in [0, 1].
        test_accuracy: in [0, 1]; None unless it was asked for.
        seconds: wall time of the training.
        steps: optimiser steps.
    """

    network: nn.Module
    valid_accuracy: float
    test_accuracy: float | None
    seconds: float
    steps: int


def train_standalone(
    space: SearchSpace,
    architecture: Architecture,
    task: Task,
    settings: StandaloneSettings,
    *,
    seed: int,
    start: Mapping[str, Tensor] | None = None,
    test: bool = False,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> StandaloneResult:
    """Train `architecture` alone.

    Args:
        space: the architecture's space.
        architecture: what to train.
        task: gives batches and splits.
        settings: the recipe.
        seed: decides initial weights, batches and noise.
        start: the network's `state_dict` to start from; None = weights drawn from the seed.
        test: whether the test split is scored too; only for verification.
        device: None = CUDA where there is one, else the CPU.
        progress: told after every step.
        should_stop: asked before every step.

    Raises:
        TrainingStopped: `should_stop` said so.
        PredictorError: the loss is no number any more.
    """
    target = pick_device(device)
    network = space.network(architecture, seed=seed)
    if start is not None:
        network.load_state_dict(start)
    network.to(target)
    started = time.perf_counter()
    macs = int(space.macs(np.asarray([architecture.genome], dtype=np.int16))[0])
    with torch_threads(thread_count(macs * settings.batch_size, torch.get_num_threads())):
        _Fit(network, task, settings, seed, lambda: space.constrain(network, architecture)).run(progress, should_stop)
    seconds = time.perf_counter() - started
    network = network.cpu().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return StandaloneResult(
        network=network,
        valid_accuracy=measure_accuracy(network, task.split("valid")),
        test_accuracy=measure_accuracy(network, task.test_split()) if test else None,
        seconds=seconds,
        steps=settings.steps,
    )


class _Fit:
    """The training of one network."""

    def __init__(
        self, network: nn.Module, task: Task, settings: StandaloneSettings, seed: int, constrain: Callable[[], None]
    ) -> None:
        self.network, self.task, self.settings, self.seed = network, task, settings, seed
        self.constrain = constrain
        self.device = next(network.parameters()).device
        network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = make_optimizer(network, settings.optimizer, weight_decay=settings.weight_decay)

    def run(self, progress: Progress | None, should_stop: Callable[[], bool] | None) -> None:
        """All steps."""
        settings, network = self.settings, self.network
        average = AveragedWeights(network) if settings.ema else None
        with noise(network, dropout=settings.dropout, drop_path=settings.drop_path, seed=self.seed) as begin:
            for step in range(settings.steps):
                if should_stop is not None and should_stop():
                    raise TrainingStopped(f"standalone training stopped after step {step}")
                begin(step)
                loss = self.advance(step)
                if average is not None:
                    average.update(network)
                if progress is not None:
                    progress(step + 1, settings.steps, f"loss {loss:.3f}")
        if average is not None:
            network.load_state_dict(average.average)
            self.constrain()

    def advance(self, step: int) -> float:
        """One optimiser step; the loss."""
        settings = self.settings
        rate = learning_rate(step, settings.steps, settings.learning_rate, settings.warmup)
        set_learning_rate(self.optimizer, rate)
        batch = self.task.batch(step, settings.batch_size, self.seed, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.loss(batch, step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise PredictorError(
                f"standalone training diverged: the loss is {value} at step {step} with learning rate "
                f"{rate:.3g}; lower standalone.learning_rate (now {settings.learning_rate:g})."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.constrain()
        return value

    def loss(self, batch: Samples, step: int) -> Tensor:
        """Of a batch, or of its samples blended in pairs."""
        smoothing = self.settings.label_smoothing
        if not self.settings.mixup:
            return label_loss(*batch.labelled(self.network(*batch.map_inputs(channels_last).tensors)), smoothing)
        pairs = mixed(batch, self.settings.mixup, self.seed, step)
        logits = self.network(*pairs.samples.map_inputs(channels_last).tensors)
        first, second = (label_loss(logits, samples.labels, smoothing) for samples in (pairs.samples, pairs.others))
        return pairs.share * first + (1 - pairs.share) * second


def build_trainer(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What a pool's worker process builds once and then calls per architecture, on one thread.

    Args:
        config: JSON-able: ``space`` and ``task``, each {name, preset, options}; ``settings``, `StandaloneSettings` by
            field name, may be left out; ``recipe_genes``, whether genes called ``recipe.<setting>`` override them;
            ``supernet``, {weights, settings}, which training that starts from shared weights needs.

    Returns:
        {"genome": [G] ints, "seed": int, "fidelity": share of the steps, "test": bool, "weights_path": path or None} ->
        {"valid_accuracy": float, "test_accuracy": float or None, "seconds": float, "steps": int,
        "weights_path": path or None}; the network's `state_dict` is stored at `weights_path` as safetensors.

    Raises:
        ConfigError: settings that are not allowed, or shared weights asked for where there are none.
    """
    torch.set_num_threads(1)
    space, task = build_space_and_task(config)
    settings = StandaloneSettings.from_json(config.get("settings", {}))
    joint = bool(config.get("recipe_genes", False))
    if joint:
        check_recipe(space, settings)
    shared = _shared_weights(space, task, config) if settings.initial == "supernet" else None

    def train(item: Mapping[str, Any]) -> dict[str, Any]:
        architecture = space.decode(np.asarray(item["genome"], dtype=np.int16))
        recipe = recipe_of(settings, architecture) if joint else settings
        recipe = dataclasses.replace(recipe, steps=max(round(recipe.steps * float(item.get("fidelity", 1.0))), 1))
        result = train_standalone(
            space,
            architecture,
            task,
            recipe,
            seed=int(item.get("seed", 0)),
            start=shared.extract(np.asarray(item["genome"], dtype=np.int16)).state_dict() if shared else None,
            test=bool(item.get("test", False)),
        )
        if path := item.get("weights_path"):
            write_tensors(Path(path), result.network.state_dict())
        return {
            "valid_accuracy": result.valid_accuracy,
            "test_accuracy": result.test_accuracy,
            "seconds": result.seconds,
            "steps": result.steps,
            "weights_path": path or None,
        }

    return train


def _shared_weights(space: SearchSpace, task: Task, config: Mapping[str, Any]) -> SupernetScorer:
    if (supernet := config.get("supernet")) is None:
        raise ConfigError(
            "standalone.initial", "supernet", "scratch, as no supernet was trained", "Or evaluate by a supernet."
        )
    settings = SupernetSettings.from_json(supernet.get("settings", {}))
    return SupernetScorer(space, task, Path(supernet["weights"]), settings)
