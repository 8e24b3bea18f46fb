"""Cost models on a CUDA device: repeatability of measured latency, error of the look-up model, energy beside latency.

Runs on a bare image: it needs torch, numpy, scipy and scikit-learn, and nvidia-ml-py for energy; archsmith itself need
not be installed. For each space: a look-up model is fitted to kernels and networks measured on the device, and checked
on networks that no fit has seen; some of these are measured again and again, in between the others, and the spread of
their values is the repeatability; others run for seconds each while the energy meter looks on, and the energy model's
terms are fitted to that and checked by leaving one out. One JSON line per figure, then a table.

    python benchmarks/gpu_cost.py
    python benchmarks/gpu_cost.py --quick --device cpu     # the same steps on the processor, to try them out

Claims: every network repeats within 3 % of its median; at least 90 % of unseen networks within 10 % of their latency.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

if importlib.util.find_spec("archsmith") is None:
    # Not installed: the repository root is the package, so a link of its name makes it importable.
    _folder = Path(tempfile.mkdtemp(prefix="archsmith-"))
    (_folder / "archsmith").symlink_to(Path(__file__).resolve().parent.parent, target_is_directory=True)
    sys.path.insert(0, str(_folder))

from archsmith import spaces
from archsmith.errors import DeviceError
from archsmith.hwmodels.device import Device
from archsmith.hwmodels.energy import EnergyModel, EnergyTerms
from archsmith.hwmodels.latency import LatencySettings, fit_latency
from archsmith.hwmodels.lookup import LookupModel
from archsmith.hwmodels.measure.energy import EnergyMeter, Unavailable, idle_power_w, measure_run_energy, open_meter
from archsmith.hwmodels.measure.memory import measure_memory
from archsmith.hwmodels.measure.nvml import open_gpu_meter
from archsmith.hwmodels.measure.timer import RunnerTimer, TimerSettings
from archsmith.hwmodels.measure.torch_timer import TorchCpuTimer, TorchCudaTimer
from archsmith.hwmodels.memory import memory_use
from archsmith.hwmodels.probing import ProbeSettings
from archsmith.spaces.space import SearchSpace

SPACES = (("mobilenet", "edge64"), ("resnet", "edge64"), ("vit", "autoformer_t"))
QUICK_SPACES = (("mobilenet", "tiny"),)
PROBES = ProbeSettings(kernels=250, calibration_networks=100, held_out_networks=60)
QUICK_PROBES = ProbeSettings(kernels=60, calibration_networks=24, held_out_networks=12)
REPEATED, TIMES = 10, 6
METERED = 12
PRIOR = EnergyTerms(mac_pj=15.7, weight_byte_pj=31.2, activation_byte_pj=31.2, idle_power_w=1.0, relative_std=0.5)
"""Where the fit of energy terms starts: those of `configs/devices/h200.yaml` for float32. Idle power is subtracted."""

MIN_RELATIVE, WITHIN = 0.03, 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured with, and how long for."""

    device: Device
    timer: RunnerTimer
    place: str
    meter: EnergyMeter | Unavailable
    probes: ProbeSettings
    meter_seconds: float


def say(figure: str, **values: object) -> dict[str, object]:
    """Print one JSON line and give it back."""
    line = {"benchmark": "gpu_cost", "figure": figure, **values}
    print(json.dumps(line), flush=True)
    return line


def open_bench(place: str, *, index: int, data_type: str, quick: bool, launch: str) -> Bench:
    """The device at hand, with its timer and energy meter."""
    seconds = 0.1 if quick else 0.2
    settings = TimerSettings(data_type=data_type, max_repeats=2000, max_seconds=seconds, min_repeats=64, batch_runs=16)
    if place == "cpu":
        device = Device(name="cpu", title="this processor", kind="cpu")
        return Bench(
            device=device, timer=TorchCpuTimer("cpu", settings), place="cpu", meter=open_meter(),
            probes=QUICK_PROBES if quick else PROBES, meter_seconds=0.5 if quick else 2.0,
        )  # fmt: skip
    assert launch in ("graph", "eager")
    timer = TorchCudaTimer(f"cuda{index}", settings, index=index, launch=launch)
    device = Device(name=f"cuda{index}", title=torch.cuda.get_device_name(index), kind="gpu")
    return Bench(
        device=device, timer=timer, place=f"cuda:{index}", meter=open_gpu_meter(index),
        probes=QUICK_PROBES if quick else PROBES, meter_seconds=2.0,
    )  # fmt: skip


def model_error(space: SearchSpace, bench: Bench) -> tuple[LookupModel, dict[str, object]]:
    """Fit the look-up model on this device; its error on networks that no fit has seen."""
    start = time.perf_counter()
    model = fit_latency(space, bench.device, LatencySettings(probes=bench.probes), timer=bench.timer)
    report = model.report()
    line = say(
        "model",
        space=space.name,
        preset=space.preset,
        within_10_percent=report["within_10_percent"],
        within_5_percent=report["within_5_percent"],
        mape=report["mape"],
        spearman=report["spearman"],
        networks=report["n"],
        overhead_ms=report["overhead_ms"],
        noisy_measurements=report["noisy_measurements"],
        seconds=round(time.perf_counter() - start, 1),
    )
    return model, line


def repeatability(space: SearchSpace, bench: Bench) -> dict[str, object]:
    """Measure some networks several times, each time prepared anew and in another order; how far they stray."""
    rng = np.random.default_rng(7)
    genomes = space.sample(REPEATED, rng)
    values = np.empty((TIMES, REPEATED))
    for visit in range(TIMES):
        for number in rng.permutation(REPEATED):
            ops = space.ops(space.decode(genomes[number]))
            values[visit, number] = bench.timer.measure(ops).value
    strays = np.abs(values / np.median(values, axis=0) - 1.0)
    return say(
        "repeatability",
        space=space.name,
        preset=space.preset,
        networks=REPEATED,
        visits=TIMES,
        latency_ms=[round(float(value), 5) for value in np.median(values, axis=0)],
        within_3_percent=float((strays <= MIN_RELATIVE).mean()),
        median_stray=float(np.median(strays)),
        worst_stray=float(strays.max()),
    )


def energy(space: SearchSpace, bench: Bench, model: LookupModel) -> dict[str, object]:
    """Energy per run with idle power subtracted, and how well fitted terms predict a network left out of the fit."""
    if isinstance(bench.meter, Unavailable):
        return say("energy", space=space.name, preset=space.preset, unavailable=bench.meter.reason)
    idle_w = idle_power_w(bench.meter, seconds=bench.meter_seconds)
    genomes = space.sample(METERED, np.random.default_rng(9))
    measured = []
    for genome in genomes:
        run = bench.timer.prepare(space.ops(space.decode(genome)))
        found = measure_run_energy(
            run, bench.meter, device=bench.device.name, idle_w=idle_w, seconds=bench.meter_seconds
        )
        measured.append(found.value)
    values = np.array(measured)
    start = EnergyModel(bench.device, model, data_type=bench.timer.settings.data_type, terms=PRIOR)
    report = start.calibrated(space, genomes, values, idle_included=False).report()
    latency_ms = model.predict(space, genomes).mean
    return say(
        "energy",
        space=space.name,
        preset=space.preset,
        instrument=bench.meter.instrument,
        idle_power_w=round(idle_w, 2),
        energy_mj=[round(float(value), 4) for value in values],
        power_above_idle_w=round(float(np.median(values / latency_ms)), 1),  # mJ / ms = W
        left_out_mape=report["mape"],
        left_out_spearman=report["spearman"],
    )


def memory(space: SearchSpace, bench: Bench) -> dict[str, object]:
    """Peak memory by measurement over that by model."""
    data_type = bench.timer.settings.data_type
    ratios = []
    for genome in space.sample(4, np.random.default_rng(11)):
        ops = space.ops(space.decode(genome))
        found = measure_memory(ops, device=bench.device.name, place=bench.place, data_type=data_type)
        ratios.append(round(found.value / memory_use(ops, data_type).total_bytes, 3))
    return say("memory", space=space.name, preset=space.preset, measured_over_modelled=ratios)


def main() -> None:
    """Run everything and end with what was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what is measured")
    parser.add_argument("--index", type=int, default=0, help="which CUDA device")
    parser.add_argument("--data-type", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument(
        "--launch", choices=("graph", "eager"), default="graph", help="CUDA graphs, or kernel by kernel"
    )
    parser.add_argument("--quick", action="store_true", help="one tiny space, few networks")
    given = parser.parse_args()
    try:
        bench = open_bench(
            given.device, index=given.index, data_type=given.data_type, quick=given.quick, launch=given.launch
        )
    except DeviceError as error:
        sys.exit(f"gpu_cost: {error}")
    say("conditions", **bench.timer.conditions, **bench.timer.clocks(), **bench.timer.state())
    rows = []
    for name, preset in QUICK_SPACES if given.quick else SPACES:
        space = spaces.get(name, preset)
        model, error = model_error(space, bench)
        spread = repeatability(space, bench)
        energy(space, bench, model)
        memory(space, bench)
        rows.append((f"{name}/{preset}", error["within_10_percent"], error["mape"], spread["worst_stray"]))
    print(f"\n{'space':24} {'within 10 %':>12} {'MAPE':>8} {'worst stray':>12}")
    for row in rows:
        print(f"{row[0]:24} {row[1]:12.1%} {row[2]:8.2%} {row[3]:12.2%}")
    what = "CUDA device" if given.device == "cuda" else "processor, which claims nothing about a GPU"
    print(f"\nMeasured on: {bench.device.title} ({what}). Aims: within 10 % >= 90 %, worst stray <= 3 %.")


if __name__ == "__main__":
    main()
