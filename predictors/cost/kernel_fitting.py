"""From a device at hand to its kernel model: find what it fuses, measure the suite, learn, measure where it errs.

Everything measured goes into one log at once, so that a fit that was killed, or whose device went away, goes on where
it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...errors import ConfigError
from ...hwmodels.fusion import FusionRules, empty_kernel, find_chains, is_fused
from ...hwmodels.kernels import KernelPool, kernel_key
from ...hwmodels.measure.timer import Timer
from ...hwmodels.probing import ProbeLog, Progress, agree, distinct_networks, measure_all
from ...spaces.op import Op
from ...spaces.space import SearchSpace
from .kernel_features import group_of, kernel_rows
from .kernel_suite import KernelPrior, parts_of, suite_spaces, variant
from .kernel_times import KernelRegression
from .kernels import KernelModel, MeasuredNetworks

__all__ = ["KernelSettings", "fit_kernels", "kernels_identity"]

LARGE_ERROR: Final = 0.10
"""Relative error of a kernel left out above which more is measured around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """How much is measured.

    Attributes:
        kernels: at first, in all groups together.
        rounds: of measuring more where the error is largest.
        kernels_per_round: at most.
        fusion_examples: per chain of Ops.
        networks: whole networks per space that what kernels cost inside networks is learned from.
        held_out_networks: further ones per space, which no fit sees.
        prior_networks: sampled per space to see what kernels there are; not measured.
        visits: how often each whole network is measured at most, far apart in time: twice, and again where no two agree
            (`hwmodels.probing.ProbeSettings`). The median counts.
    """

    kernels: int = 480
    rounds: int = 2
    kernels_per_round: int = 80
    fusion_examples: int = 3
    networks: int = 16
    held_out_networks: int = 8
    prior_networks: int = 60
    visits: int = 1

    def __post_init__(self) -> None:
        least = {"kernels": 20, "rounds": 0, "kernels_per_round": 1, "fusion_examples": 1, "networks": 2,
                 "held_out_networks": 0, "prior_networks": 1, "visits": 1}  # fmt: skip
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"kernels.{name}", getattr(self, name), f"at least {bound}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> KernelSettings:
        """Settings with these fields; raises ConfigError for an unknown name."""
        known = sorted(item.name for item in fields(cls))
        for name, value in values.items():
            if name not in known:
                raise ConfigError(f"kernels.{name}", value, f"settings {', '.join(known)}")
        return cls(**values)


def kernels_identity(
    timer: Timer, settings: KernelSettings | None = None, spaces: Sequence[SearchSpace] | None = None, *, seed: int = 0
) -> str:
    """Hash of everything that decides a fit of `fit_kernels` but the measured times."""
    spaces = suite_spaces() if spaces is None else spaces
    content = {
        "device": timer.device, "conditions": dict(timer.conditions), "settings": asdict(settings or KernelSettings()),
        "spaces": [space.identity for space in spaces], "seed": seed,
    }  # fmt: skip
    return f"kernels-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]}"


def fit_kernels(
    timer: Timer,
    settings: KernelSettings | None = None,
    *,
    spaces: Sequence[SearchSpace] | None = None,
    networks: Sequence[MeasuredNetworks] = (),
    directory: Path | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> KernelModel:
    """Measure the kernel suite on a device and fit its kernel model, which serves every space.

    About a thousand measurements, two to three minutes on an undisturbed core.

    Args:
        timer: measures on the device, which it names.
        settings: how much is measured.
        spaces: whose kernels and networks are measured; None = the suite. Name your own space too, and its predictions
            gain most.
        networks: whole networks that were measured before; their spaces are not measured again.
        directory: where finished measurements are kept, so that a killed fit resumes; None keeps nothing.
        progress: called as ``progress(done, total, message)`` after every measurement; the total is of the round.
        seed: of all choices.

    Raises:
        DeviceError: the device cannot be measured; what was measured so far stays in `directory`.
        PredictorError: the spaces hold too few kernels or networks.
    """
    settings = settings or KernelSettings()
    spaces = suite_spaces() if spaces is None else tuple(spaces)
    identity = kernels_identity(timer, settings, spaces, seed=seed)
    log = ProbeLog(directory / f"{identity}.jsonl" if directory is not None else None, identity, timer)
    bench = _Bench(timer, log, progress, np.random.default_rng(seed))
    rules = _probe_fusion(bench, spaces, settings)
    prior = KernelPrior(spaces, rules, networks=settings.prior_networks, rng=bench.rng)
    chosen = prior.choose(settings.kernels, bench.rng)
    given = {part.space.identity for part in networks}
    drawn = [_Drawn(space, settings, bench.rng) for space in spaces if space.identity not in given]
    whole = [ops for part in drawn for ops in part.ops]
    bench.measure("kernels and networks", [*(prior.kernels[number] for number in chosen), *whole])
    regression = _adapt(bench, prior, chosen, settings)
    bench.measure_again(whole, settings.visits)
    parts = [*networks, *(part.measured(bench) for part in drawn)]
    details = {
        "conditions": {**timer.conditions, **timer.state()}, "measurements": bench.measurements, "noisy": bench.noisy,
        "settings": asdict(settings),
    }  # fmt: skip
    empty_ms = bench.ms(empty_kernel())
    return KernelModel.fit(
        timer.device, rules, regression, parts, empty_ms=empty_ms, identity=identity, details=details
    )


class _Bench:
    """A timer with its log, and what it measured by kernel."""

    def __init__(self, timer: Timer, log: ProbeLog, progress: Progress | None, rng: np.random.Generator) -> None:
        self.rng = rng
        self.noisy = 0
        self._times_ms: dict[str, list[float]] = {}
        self._timer, self._log, self._progress = timer, log, progress

    @property
    def measurements(self) -> int:
        """How many were made."""
        return sum(map(len, self._times_ms.values()))

    def measure(self, what: str, subjects: Sequence[tuple[Op, ...]], *, visit: int = 1) -> None:
        """Measure what was visited less often, in random order, so that a drift of the machine meets all alike."""
        waiting = {
            f"{key}#{visit}" if visit > 1 else key: ops
            for ops in subjects
            if len(self._times_ms.get(key := kernel_key(ops), ())) < visit
        }
        order = [list(waiting)[position] for position in self.rng.permutation(len(waiting))]
        records = measure_all(
            order,
            {name: lambda ops=ops: ops for name, ops in waiting.items()},
            self._timer,
            log=self._log,
            progress=self._progress and (lambda done, total, _: self._tell(done, total, what)),
        )
        for name, record in records.items():
            self._times_ms.setdefault(name.partition("#")[0], []).append(float(record["value"]))
        self.noisy += sum(bool(record["noisy"]) for record in records.values())

    def measure_again(self, networks: Sequence[tuple[Op, ...]], visits: int) -> None:
        """Visit whole networks for the second time, and again those whose visits do not agree."""
        waiting = list(networks)
        for visit in range(2, visits + 1):
            self.measure(f"networks, visit {visit}", waiting, visit=visit)
            waiting = [ops for ops in waiting if not agree(self._times_ms[kernel_key(ops)])]

    def _tell(self, done: int, total: int, what: str) -> None:
        assert self._progress is not None
        self._progress(done, total, f"measured {what}")

    def ms(self, ops: tuple[Op, ...]) -> float:
        """The median of what was measured."""
        return float(np.median(self._times_ms[kernel_key(ops)]))


def _probe_fusion(bench: _Bench, spaces: Sequence[SearchSpace], settings: KernelSettings) -> FusionRules:
    """Find the chains that the device performs as one kernel, growing them by one Op at a time."""
    parts = [
        ops
        for space in spaces
        for genome in space.sample(settings.prior_networks, bench.rng)[:8]
        for ops in parts_of(space, genome)
    ]
    rules, tried = FusionRules(chains=frozenset()), set()
    bench.measure("an empty run", [empty_kernel()])
    empty_ms = bench.ms(empty_kernel())
    while True:
        waiting = {chain: found for chain, found in find_chains(parts, rules).items() if chain not in tried}
        if not waiting:
            return rules
        # The largest examples: their times stand out of the noise.
        examples = {
            chain: sorted(found, key=lambda ops: -max(op.output_bytes for op in ops))[: settings.fusion_examples]
            for chain, found in sorted(waiting.items())
        }
        bench.measure(
            "Ops together and apart",
            [part for found in examples.values() for ops in found for part in (ops, ops[:-1], ops[-1:])],
        )
        fused = {
            chain
            for chain, found in examples.items()
            if is_fused(*([bench.ms(ops[part]) for ops in found] for part in _PARTS), empty_ms)
        }
        tried |= set(waiting)
        rules = FusionRules(chains=rules.chains | fused)


_PARTS: Final = (slice(None), slice(-1), slice(-1, None))
"""Of a chain: all of it, all but the last Op, the last Op."""


class _Drawn:
    """Whole networks of one space to be measured."""

    def __init__(self, space: SearchSpace, settings: KernelSettings, rng: np.random.Generator) -> None:
        self._space, self._held_out = space, settings.held_out_networks
        self._genomes = distinct_networks(space, settings.networks + settings.held_out_networks, rng)
        self.ops = [space.ops(space.decode(genome)) for genome in self._genomes]

    def measured(self, bench: _Bench) -> MeasuredNetworks:
        latency_ms = np.array([bench.ms(ops) for ops in self.ops])
        return MeasuredNetworks(
            space=self._space, genomes=self._genomes, latency_ms=latency_ms, held_out=self._held_out
        )


def _adapt(bench: _Bench, prior: KernelPrior, chosen: Sequence[int], settings: KernelSettings) -> KernelRegression:
    """Fit the kernels' times, and again with more of them around the largest errors."""
    pool, taken = KernelPool(), set(chosen)
    for number in chosen:
        pool.add(prior.kernels[number])
    regression = _fitted(bench, pool)
    for repetition in range(settings.rounds):
        wrong = _worst(pool, regression)[: settings.kernels_per_round // 2]
        if not wrong:
            break
        more = [kernel for wronged in wrong for kernel in _relatives(wronged, bench, prior, taken)]
        what = f"kernels where the error is largest, round {repetition + 1}"
        bench.measure(what, more)
        # The measurement itself may have been disturbed.
        bench.measure(what, wrong, visit=repetition + 2)
        for kernel in more:
            pool.add(kernel)
        regression = _fitted(bench, pool)
    return regression


def _fitted(bench: _Bench, pool: KernelPool) -> KernelRegression:
    return KernelRegression(pool.ops, np.array([bench.ms(kernel) for kernel in pool.ops]), rng=bench.rng)


def _worst(pool: KernelPool, regression: KernelRegression) -> list[tuple[Op, ...]]:
    """The kernels whose error is large when they are left out, the largest first; groups too small to tell lead."""
    error = np.abs(np.nan_to_num(regression.left_out, nan=np.inf))
    return [pool.ops[number] for number in np.argsort(-error, kind="stable") if error[number] > LARGE_ERROR]


def _relatives(kernel: tuple[Op, ...], bench: _Bench, prior: KernelPrior, taken: set[int]) -> list[tuple[Op, ...]]:
    """The nearest kernel of the prior that was not taken yet, and a variant."""
    near = prior.nearest(kernel_rows([kernel])[0], group_of(kernel), taken, 1)
    taken.update(near)
    other = variant(kernel, bench.rng)
    return [prior.kernels[number] for number in near] + ([other] if other is not None else [])
