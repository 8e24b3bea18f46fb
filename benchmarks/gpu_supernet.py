"""Supernet training on a CUDA device: images per second of the sandwich rule beside the largest network trained alone.

Runs on a bare image: it needs torch, numpy, scipy and scikit-learn; archsmith itself need not be installed. Images are
synthetic and stay on the device, products are bfloat16, tensors channels-last. Steps of both trainings are timed in
turn, each from zeroed gradients to the optimiser's step; the supernet's step is the trainer's own, with its check that
the loss is a number. Sandwich training passes every image through several paths, so its images per second are those of
the plain training times what the MACs predict: MACs of the largest network over those of all paths of the step. What is
reached of that is the figure.

Compilation (``torch.compile``) is tried where it can pay. A plain training runs one graph; a sandwich step runs new
random paths each time, each a graph of its own that would take longer to compile than to run, so only its largest and
smallest paths, which never change, are compiled (``--compile``). Plain training then is compiled too.

One JSON line per figure. Not the whole trainer: no task, no checkpoints, no history.

    python benchmarks/gpu_supernet.py
    python benchmarks/gpu_supernet.py --compile
    python benchmarks/gpu_supernet.py --quick --device cpu     # the same steps on the processor, to try them out

Aim: at least 0.9 of what the MACs predict.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

if importlib.util.find_spec("archsmith") is None:
    # Not installed: the repository root is the package, so a link of its name makes it importable.
    _folder = Path(tempfile.mkdtemp(prefix="archsmith-"))
    (_folder / "archsmith").symlink_to(Path(__file__).resolve().parent.parent, target_is_directory=True)
    sys.path.insert(0, str(_folder))

from archsmith import spaces
from archsmith.predictors.optimization import make_optimizer, set_learning_rate
from archsmith.predictors.supernet.samplers import Sandwich
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.step import backward
from archsmith.predictors.tasks.task import Samples
from archsmith.spaces.architecture import Architecture
from archsmith.spaces.elastic.supernet import Supernet
from archsmith.spaces.space import SearchSpace

RATE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is trained, on which images, and how long."""

    space: SearchSpace
    device: torch.device
    batch: Samples
    steps: int
    random_paths: int
    compiled: bool
    reduced: bool

    def autocast(self) -> AbstractContextManager[object]:
        """Bfloat16 products, where they are asked for."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.reduced else nullcontext()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class PartlyCompiled(nn.Module):
    """A supernet whose paths that never change are compiled; others run as they are.

    Args:
        supernet: the shared weights.
        constant: the paths that come again in every step.
    """

    def __init__(self, supernet: Supernet, constant: tuple[Architecture, ...]) -> None:
        super().__init__()
        self.supernet = supernet
        self._compiled = {item.key: torch.compile(_bound(supernet, item)) for item in constant}

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """As the supernet."""
        run = self._compiled.get(architecture.key)
        return self.supernet(x, architecture) if run is None else run(x)


def _bound(supernet: Supernet, architecture: Architecture) -> Callable[[Tensor], Tensor]:
    return lambda x: supernet(x, architecture)


def say(figure: str, **values: object) -> None:
    """Print one JSON line."""
    print(json.dumps({"benchmark": "gpu_supernet", "figure": figure, **values}), flush=True)


def sandwich(bench: Bench) -> tuple[Callable[[int], None], Sandwich]:
    """A step of supernet training by number, and the paths it draws."""
    space = bench.space
    supernet = space.supernet(seed=0).to(bench.device).train()
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the trainer does
    settings = SupernetSettings(random_paths=bench.random_paths, batch_size=len(bench.batch))
    sampler = Sandwich(space, random_paths=bench.random_paths, seed=0)
    constant = (space.decode(space.largest()), space.decode(space.smallest()))
    called = PartlyCompiled(supernet, constant) if bench.compiled else supernet
    optimizer = make_optimizer(supernet, settings.optimizer, weight_decay=settings.weight_decay)
    set_learning_rate(optimizer, RATE)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        with bench.autocast():
            losses, _ = backward(called, sampler.paths(number), bench.batch, settings)  # type: ignore[arg-type]  # runs paths
        _finish(supernet, optimizer, torch.stack(losses).mean(), settings)

    return step, sampler


def plain(bench: Bench) -> Callable[[int], None]:
    """A step of training the largest network alone, with the same loss, optimiser and checks."""
    supernet = bench.space.supernet(seed=0)
    network = supernet.extract(bench.space.decode(bench.space.largest())).to(bench.device).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = SupernetSettings()
    optimizer = make_optimizer(network, settings.optimizer, weight_decay=settings.weight_decay)
    set_learning_rate(optimizer, RATE)
    called = torch.compile(network) if bench.compiled else network

    def step(_: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        with bench.autocast():
            logits = called(bench.batch.inputs)
            loss = nn.functional.cross_entropy(
                logits.float(), bench.batch.labels, label_smoothing=settings.label_smoothing
            )
        loss.backward()
        _finish(network, optimizer, loss.detach(), settings)

    return step


def _finish(module: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, settings: SupernetSettings) -> None:
    assert math.isfinite(float(loss)), "the loss is no number"
    nn.utils.clip_grad_norm_(module.parameters(), settings.max_grad_norm)
    optimizer.step()


def measure(bench: Bench, warm: int) -> None:
    """Time both trainings in turn, and say what is reached of what the MACs predict."""
    step, sampler = sandwich(bench)
    alone = plain(bench)
    for number in range(warm):
        step(number)
        alone(number)
    taken = np.empty((bench.steps, 2))
    shares = np.empty(bench.steps)
    for number in range(bench.steps):
        shares[number] = predicted(bench.space, sampler, warm + number)
        for column, run in enumerate((step, alone)):
            bench.synchronize()
            started = time.perf_counter()
            run(warm + number)
            bench.synchronize()
            taken[number, column] = time.perf_counter() - started
    images = len(bench.batch)
    # Paths differ from step to step: what is reached is the mean of what the MACs allow over the mean of what it took.
    ratio, expected = taken[:, 1].mean() / taken[:, 0].mean(), 1 / (1 / shares).mean()
    rng = np.random.default_rng(0)
    rows = rng.integers(bench.steps, size=(1000, bench.steps))
    drawn = taken[rows, 1].mean(axis=1) / taken[rows, 0].mean(axis=1) * (1 / shares)[rows].mean(axis=1)
    say(
        "throughput",
        space=f"{bench.space.name}/{bench.space.preset}",
        input_shape=list(bench.batch.inputs.shape),
        bfloat16=bench.reduced,
        compiled=bench.compiled,
        steps=bench.steps,
        paths=bench.random_paths + 2,
        sandwich_images_per_s=round(images / taken[:, 0].mean(), 1),
        sandwich_path_images_per_s=round(images * (bench.random_paths + 2) / taken[:, 0].mean(), 1),
        largest_alone_images_per_s=round(images / taken[:, 1].mean(), 1),
        ratio=round(float(ratio), 4),
        ratio_by_macs=round(float(expected), 4),
        reached=round(float(ratio / expected), 3),
        interval=[round(float(value), 3) for value in np.percentile(drawn, (2.5, 97.5))],
    )


def predicted(space: SearchSpace, sampler: Sandwich, number: int) -> float:
    """MACs of the largest network over those of all paths of a step."""
    genomes = np.array([space.encode(path.architecture) for path in sampler.paths(number)])
    macs = space.macs(genomes)
    return float(macs[0] / macs.sum())


def _batch(space: SearchSpace, count: int, device: torch.device) -> Samples:
    (inputs,) = space.example_inputs(count)
    classes = space.ops(space.decode(space.largest()))[-1].output.shape[-1]
    labels = torch.randint(classes, (count,), generator=torch.Generator().manual_seed(1))
    return Samples(inputs.to(device).contiguous(memory_format=torch.channels_last), labels.to(device))


def main() -> None:
    """Say where this runs, then measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--random-paths", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--compile", action="store_true", help="compile the paths that never change")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 products")
    parser.add_argument("--quick", action="store_true", help="a tiny space and few steps")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_supernet: torch sees no CUDA device; add --device cpu --quick to try the steps out.")
    device = torch.device(given.device)
    title = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor: claims nothing about a GPU"
    say("conditions", device=title, torch=torch.__version__, cuda=torch.version.cuda, threads=torch.get_num_threads())
    space = (
        spaces.get("ofa_mobilenetv3", "tiny")
        if given.quick
        else spaces.get("ofa_mobilenetv3", "w1.0", resolution=given.resolution)
    )
    bench = Bench(
        space=space, device=device, batch=_batch(space, 16 if given.quick else given.batch, device),
        steps=3 if given.quick else given.steps, random_paths=given.random_paths, compiled=given.compile,
        reduced=not given.float32,
    )  # fmt: skip
    measure(bench, warm=1 if given.quick else 8)


if __name__ == "__main__":
    main()
