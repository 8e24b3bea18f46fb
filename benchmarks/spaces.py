"""Search spaces on one core: architectures per second sampled and canonicalised, costed and keyed; supernet memory.

One JSON line per family, for its first preset. Rates are per second of processor time, each the best of three runs;
building tables is timed apart. Supernet memory is how far the peak of the process rises while a supernet is built,
over the bytes of its own weights and buffers, in a fresh process for each.

    .venv/bin/python benchmarks/spaces.py --quick
    .venv/bin/python benchmarks/spaces.py ofa_mobilenetv3 vit --population 200000
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from archsmith import spaces
from archsmith.spaces.catalog import FAMILIES

LARGEST_SUPERNET_BYTES = 2_000_000_000
"""Supernets above this are not built."""


def rate(work: Callable[[], object], n: int) -> int:
    """Architectures per second of processor time, the best of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return round(n / max(best, 1e-9))


def measure(name: str, population: int) -> dict[str, object]:
    """The figures of one family."""
    space = spaces.get(name)
    start = time.process_time()
    genomes = space.sample(population, np.random.default_rng(0))
    space.macs(genomes[:1])
    space.keys(genomes[:1])
    tables_s = time.process_time() - start
    rng = np.random.default_rng(1)
    return {
        "benchmark": "spaces",
        "space": name,
        "preset": space.preset,
        "genes": len(space.genes),
        "population": population,
        "sampled_and_canonical_per_s": rate(lambda: space.canonical(space.sample(population, rng)), population),
        "macs_per_s": rate(lambda: space.macs(genomes), population),
        "params_per_s": rate(lambda: space.params(genomes), population),
        "keys_per_s": rate(lambda: space.keys(genomes), population),
        "tables_s": round(tables_s, 2),
        "supernet": supernet_memory(name) if FAMILIES[name].supernet else None,
    }


def supernet_memory(name: str) -> dict[str, object] | None:
    """Bytes of a supernet's own tensors and how far building it raises the peak, measured in a fresh process."""
    command = [sys.executable, __file__, "--supernet", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"building the supernet of {name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def build_supernet(name: str) -> dict[str, object] | None:
    """Build the supernet of a family here; None where it is larger than this benchmark builds."""
    import torch

    space = spaces.get(name)
    torch.zeros(1).normal_()  # what torch sets up on first use is nobody's supernet
    spaces.get("mobilenet", "tiny").supernet(seed=0)
    largest = 4 * int(space.params(space.largest()[None])[0])
    if largest > LARGEST_SUPERNET_BYTES:
        return None
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew, at what is in use
    before = _peak_bytes()
    supernet = space.supernet(seed=0)
    after = _peak_bytes()
    own = sum(t.numel() * t.element_size() for t in (*supernet.parameters(), *supernet.buffers()))
    return {"own_bytes": own, "peak_rise_bytes": after - before, "times": round((after - before) / own, 3)}


def _peak_bytes() -> int:
    """Peak resident memory since it was last reset (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    """Print one JSON line per family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="families; default all")
    parser.add_argument("--population", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the population")
    parser.add_argument("--supernet", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.supernet:
        print(json.dumps(build_supernet(options.supernet)))
        return
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    population = options.population // 10 if options.quick else options.population
    with threadpool_limits(1):
        for name in options.names or spaces.names():
            print(json.dumps(measure(name, population) | {"threads": 1, "machine": machine}), flush=True)


if __name__ == "__main__":
    main()
