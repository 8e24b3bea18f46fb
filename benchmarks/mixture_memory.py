"""What mixtures cost in memory: binary gates beside a single path, and partial channels beside the whole mixture.

Peak memory of one training step (forward, loss, backward, weights and gradients included), the second of two. Binary
gates run two candidates per place, one with weight 1 and one with 0 (ProxylessNAS); the single path is the first of
them alone, in the same supernet. The mixture of DARTS runs all candidates of every edge; with partial channels, a
quarter of each node's channels passes through them (PC-DARTS, with edge factors).

One JSON line per space and batch. It needs torch, numpy, scipy and scikit-learn; archsmith itself need not be
installed.

    .venv/bin/python benchmarks/mixture_memory.py
    python benchmarks/mixture_memory.py --device cuda

Aims: gates <= 1.3 x a single path; a quarter of the channels <= 0.5 x the whole mixture.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
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
from archsmith.hwmodels.measure.memory import LiveStorages
from archsmith.spaces.elastic.mixture import NONE, Mixture
from archsmith.spaces.space import SearchSpace

GATED = {
    "cpu": (("proxylessnas", "digits", 12, 64), ("proxylessnas", "imagenet", 64, 8), ("fbnet", "imagenet", 64, 8)),
    "cuda": (("proxylessnas", "imagenet", 224, 64), ("fbnet", "imagenet", 224, 64)),
}
"""Family, preset, side of the image and batch."""

CELLS = {
    "cpu": (("darts", "digits", 12, 64), ("nas_bench_201", "digits", 12, 64)),
    "cuda": (("darts", "search", 32, 64), ("nas_bench_201", "cifar10", 32, 64)),
}


def peak_bytes(module: nn.Module, run: Callable[[], Tensor], device: torch.device) -> int:
    """Peak memory of a step whose loss `run` gives, with the module's weights and gradients."""

    def step() -> None:
        run().backward()
        module.zero_grad(set_to_none=True)

    step()
    held = [*module.parameters(), *module.buffers()]
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before + sum(tensor.nbytes for tensor in held)
    with LiveStorages() as storages:
        for tensor in held:
            storages.see(tensor)
        step()
    return storages.peak_bytes


def gate_ratios(space: SearchSpace, batch: int, device: torch.device, paths: int) -> Iterator[float]:
    """Peak of two candidates per place to that of one, for random paths."""
    rng = np.random.default_rng(0)
    supernet = space.supernet(seed=0).to(device)
    x = space.example_inputs(batch)[0].to(device)
    for genome in space.sample(paths, rng):
        architecture, weights, active = space.decode(genome), {}, {}
        for place in space.mixed_places() or ():
            first = space.choices_of(genome)[place.name]
            assert first is not None
            others = [index for index in range(len(place.choices)) if index != first]
            gates = torch.eye(len(place.choices), device=device)[first]
            weights[place.name] = gates.requires_grad_()
            active[place.name] = (first, int(rng.choice(others)))
        gated = Mixture(weights=weights, active=active)
        alone = peak_bytes(supernet, lambda a=architecture: supernet(x, a).square().mean(), device)
        yield peak_bytes(supernet, lambda m=gated: supernet(x, m).square().mean(), device) / alone


def mixture_bytes(space: SearchSpace, batch: int, device: torch.device, partial: int) -> int:
    """Peak of a mixture of all candidates."""
    places = space.mixed_places() or ()
    supernet = space.supernet(seed=0, partial=partial).to(device)  # type: ignore[call-arg]  # an option of cell spaces
    x = space.example_inputs(batch)[0].to(device)

    def even(count: int) -> Tensor:
        return torch.full((count,), 1 / count, device=device, requires_grad=True)

    edges = Counter(place.node for place in places) if partial > 1 else {}
    mixture = Mixture(
        weights={place.name: even(len(place.choices)) for place in places},
        edges={node: even(count) for node, count in edges.items()},
    )
    assert all(NONE in place.choices for place in places)
    return peak_bytes(supernet, lambda: supernet(x, mixture).square().mean(), device)


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--paths", type=int, default=5, help="random paths per space")
    parser.add_argument("--partial", type=int, default=4, help="K; 1/K of the channels pass through the mixture")
    parser.add_argument("--quick", action="store_true", help="the first space of each kind, two paths")
    given = parser.parse_args()
    device = torch.device(given.device)
    count = 1 if given.quick else None
    for name, preset, resolution, batch in GATED[given.device][:count]:
        space = spaces.get(name, preset, resolution=resolution)
        ratios = list(gate_ratios(space, batch, device, 2 if given.quick else given.paths))
        line = {"space": f"{name}/{preset}", "resolution": resolution, "batch": batch}
        line |= {"gates_worst": round(max(ratios), 3), "gates_mean": round(float(np.mean(ratios)), 3)}
        print(json.dumps({"benchmark": "mixture_memory"} | line), flush=True)
    for name, preset, resolution, batch in CELLS[given.device][:count]:
        space = spaces.get(name, preset, resolution=resolution)
        whole, part = (mixture_bytes(space, batch, device, partial) for partial in (1, given.partial))
        line = {"space": f"{name}/{preset}", "resolution": resolution, "batch": batch, "partial": given.partial}
        line |= {"whole_mb": round(whole / 1e6, 1), "ratio": round(part / whole, 3)}
        print(json.dumps({"benchmark": "mixture_memory"} | line), flush=True)


if __name__ == "__main__":
    main()
