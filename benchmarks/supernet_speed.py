"""What sharing weights costs: time and memory of supernet paths beside the same networks extracted, in the same run.

Time is that of a forward and a backward pass over one batch. Every path is run in the supernet and as the network that
`extract` gives, one after the other, in random order, again and again; a ratio is the median over the repeats, with an
interval from resampling them. A sandwich step runs its paths through the trainer's own step; it is set against the sum
of its paths as networks of their own. On the processor one thread works, and its processor time is counted, which
leaves out what other programs take.

Memory is the peak over a whole training step with SGD and momentum, the second of two, when optimiser state exists; it
is set against that of the extracted network, with the shared weights, gradients and momenta in place of its own.

Two rows set mixtures against paths: the two paths of ProxylessNAS against one of them, a quarter of the channels
(PC-DARTS) against all of them (DARTS).

One JSON line per space. It needs torch, numpy, scipy and scikit-learn; archsmith itself need not be
installed.

    .venv/bin/python benchmarks/supernet_speed.py
    .venv/bin/python benchmarks/supernet_speed.py --quick --only mobilenet/digits vit/autoformer_t
    python benchmarks/supernet_speed.py --device cuda

Aims: largest path <= 1.10 x, mean over random paths <= 1.25 x, sandwich step <= 1.15 x, memory <= 1.15 x; two
paths <= 1.3 x the memory of one, a quarter of the channels <= 0.5 x.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if importlib.util.find_spec("archsmith") is None:
    # Not installed: the repository root is the package, so a link of its name makes it importable.
    _folder = Path(tempfile.mkdtemp(prefix="archsmith-"))
    (_folder / "archsmith").symlink_to(Path(__file__).resolve().parent.parent, target_is_directory=True)
    sys.path.insert(0, str(_folder))

from archsmith import spaces
from archsmith.hwmodels.measure.memory import LiveStorages
from archsmith.predictors.optimization import channels_last
from archsmith.predictors.supernet.path import Path as Route
from archsmith.predictors.supernet.path import Target, random_architectures
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.step import backward
from archsmith.predictors.tasks.task import Samples
from archsmith.spaces.architecture import Architecture
from archsmith.spaces.elastic.mixture import Mixture
from archsmith.spaces.elastic.supernet import Supernet
from archsmith.spaces.space import SearchSpace

Work = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A space, adapted so that a batch of it takes about a second at most.

    Attributes:
        family: of the space.
        preset: of the family.
        options: what adapts it: resolution, sequence lengths, vocabulary.
        cuda: the options on a CUDA device, where there is room for the published sizes.
    """

    family: str
    preset: str
    options: Mapping[str, int]
    cuda: Mapping[str, int]

    @property
    def title(self) -> str:
        """``family/preset``."""
        return f"{self.family}/{self.preset}"

    def space(self, device: torch.device) -> SearchSpace:
        """The adapted space."""
        return spaces.get(self.family, self.preset, **(self.cuda if device.type == "cuda" else self.options))


CASES = (
    Case(family="mobilenet", preset="digits", options={}, cuda={}),
    Case(family="ofa_mobilenetv3", preset="w1.0", options={"resolution": 32}, cuda={}),
    Case(family="resnet", preset="edge64", options={"resolution": 32}, cuda={}),
    Case(family="vit", preset="autoformer_t", options={"resolution": 32}, cuda={}),
    Case(
        family="hat", preset="iwslt",
        options={"source_vocabulary": 100, "target_vocabulary": 100, "source_length": 3, "target_length": 3}, cuda={},
    ),
    Case(family="tdnn", preset="coarse", options={"frames": 10}, cuda={}),
    Case(family="darts", preset="digits", options={}, cuda={"resolution": 32}),
    Case(family="nas_bench_201", preset="digits", options={}, cuda={"resolution": 32}),
)  # fmt: skip
QUICK = ("mobilenet/digits", "nas_bench_201/digits", "vit/autoformer_t")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One supernet with its networks, a batch, and how long to look."""

    title: str
    supernet: Supernet
    routes: tuple[Route, ...]
    networks: tuple[nn.Module, ...]
    batch: Samples
    repeats: int

    def shared(self, route: Route) -> Work:
        """Forward and backward of one path in the supernet."""
        return lambda: self._pass(self.supernet, lambda *inputs: self.supernet(*inputs, route.architecture))

    def alone(self, network: nn.Module) -> Work:
        """Forward and backward of an extracted network."""
        return lambda: self._pass(network, network)

    def sandwich(self) -> None:
        """The trainer's step over all paths, without the optimiser."""
        self.supernet.zero_grad(set_to_none=True)
        backward(self.supernet, self.routes, self.batch, SupernetSettings(label_smoothing=0.0))

    def _pass(self, module: nn.Module, call: Callable[..., Tensor]) -> None:
        module.zero_grad(set_to_none=True)
        told, labels = self.batch.labelled(call(*self.batch.tensors))
        nn.functional.cross_entropy(told, labels).backward()


def prepare(case: Case, *, device: torch.device, paths: int, batch: int, repeats: int) -> Bench:
    """The supernet of a case with its largest, its smallest and some random paths, all in training mode."""
    space = case.space(device)
    supernet = space.supernet(seed=0).to(device).train()
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the trainer does
    drawn = random_architectures(space, paths, np.random.default_rng(0))
    picked = (space.decode(space.largest()), space.decode(space.smallest()), *drawn)
    networks = tuple(network_of(supernet, architecture) for architecture in picked)
    routes = tuple(
        Route(architecture, Target.TEACHER if number else Target.LABELS) for number, architecture in enumerate(picked)
    )
    inputs = tuple(channels_last(tensor.to(device)) for tensor in space.example_inputs(batch))
    with torch.no_grad():
        logits = networks[0](*inputs)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(logits.shape[-1], logits.shape[:-1], generator=generator).to(device)
    return Bench(
        title=case.title, supernet=supernet, routes=routes, networks=networks,
        batch=Samples(inputs[0], labels, inputs[1:]), repeats=repeats,
    )  # fmt: skip


def network_of(supernet: Supernet, architecture: Architecture) -> nn.Module:
    """The extracted network, laid out in memory as a plain training would."""
    return supernet.extract(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def seconds(work: Work, device: torch.device) -> float:
    """Of one run: processor time on the processor, wall time on a CUDA device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        return time.perf_counter() - started
    started = time.process_time()
    work()
    return time.process_time() - started


def interleaved(works: list[Work], repeats: int, device: torch.device) -> NDArray[np.float64]:
    """[repeats, W] seconds of every work, in a new random order per repeat, after a run that does not count."""
    rng = np.random.default_rng(0)
    for work in works:
        work()
    taken = np.empty((repeats, len(works)))
    for repeat in range(repeats):
        for number in rng.permutation(len(works)):
            taken[repeat, number] = seconds(works[number], device)
    return taken


def ratio(figure: Callable[[NDArray[np.int64]], float], repeats: int) -> dict[str, float | list[float]]:
    """A figure of all repeats, and the interval that 95 % of 1000 resamples of the repeats give.

    Args:
        figure: takes rows of the repeats.
        repeats: how many there are.
    """
    rng = np.random.default_rng(1)
    found = [figure(rng.integers(repeats, size=repeats)) for _ in range(1000)]
    low, high = np.percentile(found, (2.5, 97.5))
    return {"times": round(figure(np.arange(repeats)), 3), "interval": [round(float(low), 3), round(float(high), 3)]}


def speed(bench: Bench, device: torch.device) -> dict[str, Any]:
    """Ratios of the largest path, of the random paths and of a sandwich step."""
    count, repeats = len(bench.routes), bench.repeats
    works = [bench.shared(route) for route in bench.routes] + [bench.alone(network) for network in bench.networks]
    taken = interleaved([*works, bench.sandwich], repeats, device)
    shared, alone, sandwich = taken[:, :count], taken[:, count:-1], taken[:, -1]

    def paths(numbers: slice) -> Callable[[NDArray[np.int64]], float]:
        return lambda rows: float(np.median(shared[rows, numbers] / alone[rows, numbers], axis=0).mean())

    return {
        "largest": ratio(paths(slice(0, 1)), repeats),
        "random": ratio(paths(slice(2, None)), repeats),
        "smallest": ratio(paths(slice(1, 2)), repeats),
        "sandwich": ratio(lambda rows: float(np.median(sandwich[rows] / alone[rows].sum(axis=1))), repeats),
        "largest_alone_ms": round(1000 * float(np.median(alone[:, 0])), 2),
        "smallest_alone_ms": round(1000 * float(np.median(alone[:, 1])), 2),
    }


# --- memory -------------------------------------------------------------------------------------------------------


def step_memory(module: nn.Module, run: Work, device: torch.device) -> tuple[int, int]:
    """Peak bytes of a training step with SGD and momentum, and those that weights and momenta take of them.

    Args:
        module: whose weights are trained.
        run: forward and backward; gradients are gone before it.
        device: where both are.
    """
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, foreach=False)
    for parameter in module.parameters():  # momenta of all weights, also of those that this path leaves alone
        parameter.grad = torch.zeros_like(parameter)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        run()
        optimizer.step()

    optimizer.step()
    step()
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    held = [*module.parameters(), *module.buffers(), *momenta]
    optimizer.zero_grad(set_to_none=True)
    own = sum(tensor.nbytes for tensor in held)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before + own, own
    with LiveStorages() as storages:
        for tensor in held:
            storages.see(tensor)
        step()
    return storages.peak_bytes, own


def path_memory(bench: Bench, device: torch.device) -> dict[str, Any]:
    """Worst and mean ratio of a path's peak to plain training with the shared weights, gradients and momenta."""
    ratios = []
    gradients = sum(parameter.nbytes for parameter in bench.supernet.parameters())
    for route, network in zip(bench.routes, bench.networks, strict=True):
        plain, own = step_memory(network, bench.alone(network), device)
        peak, shared = step_memory(bench.supernet, bench.shared(route), device)
        ratios.append(peak / (plain - own + shared + gradients))
    return {"worst": round(max(ratios), 3), "mean": round(float(np.mean(ratios)), 3)}


def two_path_memory(batch: int, device: torch.device) -> dict[str, Any]:
    """ProxylessNAS: a step whose places run two candidates, one gated off, to a step of the single path that is on."""
    space = spaces.get("proxylessnas", "imagenet" if device.type == "cuda" else "digits")
    supernet = space.supernet(seed=0).to(device).train()
    inputs = tuple(tensor.to(device) for tensor in space.example_inputs(batch))
    ratios = []
    for genome in space.sample(3, np.random.default_rng(0)):
        architecture, gates = space.decode(genome), binary_gates(space, genome)
        runs = [functools.partial(supernet, *inputs, chosen) for chosen in (gates, architecture)]
        two, one = (step_memory(supernet, functools.partial(_mean_backward, run), device)[0] for run in runs)
        ratios.append(two / one)
    return {"space": f"{space.name}/{space.preset}", "batch": batch, "two_path_memory": round(max(ratios), 3)}


def binary_gates(space: SearchSpace, genome: NDArray[np.int16]) -> Mixture:
    """At every place the genome's candidate with gate 1, and another, drawn, with gate 0; both gates learn."""
    chosen, rng = space.choices_of(genome), np.random.default_rng(0)
    weights, active = {}, {}
    for place in space.mixed_places() or ():
        first = chosen[place.name]
        assert first is not None
        second = int(rng.choice([index for index in range(len(place.choices)) if index != first]))
        weights[place.name] = torch.eye(len(place.choices))[first].requires_grad_()
        active[place.name] = (first, second)
    return Mixture(weights=weights, active=active)


def partial_memory(batch: int, device: torch.device, parts: int = 4) -> dict[str, Any]:
    """PC-DARTS: a step with one in `parts` channels through the candidates, to a step of DARTS."""
    space = spaces.get("darts", "search" if device.type == "cuda" else "digits")
    places = space.mixed_places() or ()
    weights = {place.name: torch.full((len(place.choices),), 0.1, requires_grad=True) for place in places}
    edges = {node: torch.ones(count, requires_grad=True) for node, count in Counter(p.node for p in places).items()}
    inputs = tuple(tensor.to(device) for tensor in space.example_inputs(batch))
    peaks = {}
    for partial, mixture in ((1, Mixture(weights=weights)), (parts, Mixture(weights=weights, edges=edges))):
        supernet = space.supernet(seed=0, partial=partial).to(device).train()
        run = functools.partial(_mean_backward, functools.partial(supernet, *inputs, mixture))
        peaks[partial], _ = step_memory(supernet, run, device)
    figure = round(peaks[parts] / peaks[1], 3)
    return {"space": f"{space.name}/{space.preset}", "batch": batch, "partial": parts, "partial_memory": figure}


def _mean_backward(run: Callable[[], Tensor]) -> None:
    run().square().mean().backward()


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="*", help="cases, as family/preset; default all")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--paths", type=int, default=4, help="random paths")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three cases, fewer paths and repeats")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    names = given.only or (QUICK if given.quick else [case.title for case in CASES])
    for case in CASES:
        if case.title not in names:
            continue
        bench = prepare(
            case, device=device, paths=2 if given.quick else given.paths, batch=given.batch,
            repeats=5 if given.quick else given.repeats,
        )  # fmt: skip
        line = {"benchmark": "supernet_speed", "space": case.title, "batch": given.batch} | speed(bench, device)
        line["memory"] = path_memory(bench, device)
        print(json.dumps(line), flush=True)
    if not given.only:
        for memory in (two_path_memory, partial_memory):
            print(json.dumps({"benchmark": "supernet_speed"} | memory(given.batch, device)), flush=True)


if __name__ == "__main__":
    main()
