"""Latency models on this machine: how well they predict whole networks that no fit saw, and how fast they are.

For every space: kernels and whole networks are measured with ONNX Runtime, a reference kernel interleaved. Then, on 60
networks that no fit saw, two models are held against the measured latency:

- lookup: what stands at each site was measured alone; calibrated on other whole networks of the space.
- kernels: regressors of fused kernels of all spaces together, fitted on a part of them, compiled into a table. Once
  with a few whole networks of the space, once with networks of the other spaces only.

One JSON line per model and space, then one for the speed of a compiled model. Measurements are kept in a folder, and a
second run goes on where the first was stopped. The host should have nothing else to do: about eight minutes.

    .venv/bin/python benchmarks/cost_models.py
    .venv/bin/python benchmarks/cost_models.py --quick
    .venv/bin/python benchmarks/cost_models.py --spaces mobilenet/tiny mobilenet/digits resnet/tiny vit/tiny
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from archsmith import spaces
from archsmith.hwmodels.calibration import held_out_report
from archsmith.hwmodels.kernels import Kernels
from archsmith.hwmodels.lookup import LookupModel
from archsmith.hwmodels.measure.onnx_runtime import OnnxRuntimeTimer
from archsmith.hwmodels.measure.timer import TimerSettings
from archsmith.hwmodels.probing import ProbeLog, Probes, ProbeSettings, probe
from archsmith.predictors.blas import one_blas_thread
from archsmith.predictors.cost.kernel_fitting import KernelSettings, fit_kernels
from archsmith.predictors.cost.kernels import KernelModel, MeasuredNetworks
from archsmith.spaces.space import SearchSpace

SPACES = ("mobilenet/edge64", "resnet/edge64@96", "vit/autoformer_t@128")
"""Families and presets, at a resolution: of at least 64 pixels, and networks of at least a millisecond."""

NETWORKS_FOR_KERNELS = 16
"""Whole networks per space that the kernel model learns from."""


def space_of(name: str) -> SearchSpace:
    """``family/preset`` or ``family/preset@resolution``."""
    path, _, resolution = name.partition("@")
    family, _, preset = path.partition("/")
    options = {"resolution": int(resolution)} if resolution else {}
    return spaces.get(family, preset, **options)


class Progress:
    """One line on the error stream, written over and over, that tells what is measured."""

    def __init__(self, what: str) -> None:
        self._what, self._start, self._last = what, time.monotonic(), 0.0

    def __call__(self, done: int, total: int, message: str) -> None:
        """Tell, at most every two seconds."""
        now = time.monotonic()
        if now - self._last < 2.0 and done < total - 1:
            return
        self._last = now
        spent = round(now - self._start)
        print(f"\r{self._what}: {message}, {done}/{total}, {spent} s\033[K", end="", file=sys.stderr, flush=True)


def tell(**figures: Any) -> None:
    """One JSON line."""
    print("\r\033[K", end="", file=sys.stderr, flush=True)  # the progress line
    short = {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
    print(json.dumps({"benchmark": "cost_models", **short}), flush=True)


def measure(space: SearchSpace, timer: OnnxRuntimeTimer, settings: ProbeSettings, folder: Path) -> Probes:
    """Kernels and whole networks of one space."""
    # One log per space and settings; the timer takes the reference kernel's nominal time over from it.
    name = f"{space.identity}-{settings.calibration_networks}-{settings.held_out_networks}x{settings.visits}"
    log = ProbeLog(folder / f"{name}.jsonl", name, timer)
    return probe(space, Kernels(space), timer, settings, log=log, seed=0, progress=Progress(space.name))


def known(space: SearchSpace, probes: Probes, count: int) -> MeasuredNetworks:
    """The first networks, which are among those that the look-up model is calibrated on; none is held out of them."""
    return MeasuredNetworks(space=space, genomes=probes.genomes[:count], latency_ms=probes.network_ms[:count])


def compare(model: LookupModel, space: SearchSpace, probes: Probes, *, name: str) -> None:
    """Hold a model against the networks that no fit saw."""
    held_out = slice(len(probes.genomes) - probes.held_out, None)
    found = model.predict(space, probes.genomes[held_out])
    measured = probes.network_ms[held_out]
    report = held_out_report(found.mean, measured, found.std)
    over = model.overhead_ms
    tell(
        model=name,
        space=space.identity,
        median_ms=float(np.median(measured)),
        slowest_ms=float(measured.max()),
        **report,
        stated_relative_std=float(np.median(found.std / found.mean)),
        in_range=float(found.in_range.mean()),
        overhead_ms=over,
        # For small networks the per-run overhead is most of the latency; what is left of it is harder.
        within_10_percent_without_overhead=held_out_report(found.mean - over, np.maximum(measured - over, 1e-9))[
            "within_10_percent"
        ],
    )


def speed(model: KernelModel, population: int) -> None:
    """Compile for a space of many sites, and predict a population on one core."""
    space = spaces.get("ofa_mobilenetv3")
    start = time.process_time()
    compiled = model.compile(space)
    compile_s = time.process_time() - start
    genomes = space.sample(population, np.random.default_rng(0))
    best = float("inf")
    with one_blas_thread():  # processor time counts the waiting of further threads, too
        for _ in range(5):
            start = time.process_time()
            compiled.predict(space, genomes)
            best = min(best, time.process_time() - start)
    tell(
        model="kernels, compiled",
        space=space.identity,
        compile_s=compile_s,
        architectures_per_s=round(population / best),
    )


def main() -> None:
    """Measure, fit, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), metavar="FAMILY/PRESET[@RESOLUTION]")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / "archsmith-cost-models")
    parser.add_argument("--seconds", type=float, default=0.12, help="per measurement at most")
    parser.add_argument("--quick", action="store_true", help="fewer networks, shorter measurements")
    arguments = parser.parse_args()
    probes_settings = ProbeSettings(calibration_networks=48, visits=3)
    kernel_settings = KernelSettings(kernels=320)
    if arguments.quick:
        probes_settings = ProbeSettings(kernels=60, calibration_networks=20, held_out_networks=12)
        kernel_settings = KernelSettings(kernels=160, rounds=1, kernels_per_round=20, prior_networks=20)
        arguments.seconds = min(arguments.seconds, 0.05)
    timer = OnnxRuntimeTimer("host", TimerSettings(max_seconds=arguments.seconds))
    folder = arguments.directory / f"{arguments.seconds:g}s"
    chosen = [space_of(name) for name in arguments.spaces]
    probes = [measure(space, timer, probes_settings, folder) for space in chosen]
    for space, found in zip(chosen, probes, strict=True):
        model = LookupModel.fit(space, Kernels(space), found, device="host")
        compare(model, space, found, name="lookup")
    few = [known(space, found, NETWORKS_FOR_KERNELS) for space, found in zip(chosen, probes, strict=True)]
    kernels = fit_kernels(
        timer, kernel_settings, spaces=chosen, networks=few, directory=folder, progress=Progress("kernels")
    )
    tell(model="kernels, alone", space="all", **kernels.regression.errors)
    for space, found in zip(chosen, probes, strict=True):
        compare(kernels.compile(space), space, found, name=f"kernels, {NETWORKS_FOR_KERNELS} networks of the space")
        others = [part for part in few if part.space is not space]
        if others:
            away = KernelModel.fit("host", kernels.rules, kernels.regression, others, empty_ms=kernels.context.empty_ms)
            compare(away.compile(space), space, found, name="kernels, no network of the space")
    speed(kernels, 100_000 if arguments.quick else 1_000_000)


if __name__ == "__main__":
    main()
