"""Plausible searches for the dashboard's tests, written through the store's own API.

Architectures, parameters and MACs are real ones of the digits space; accuracy, latency and energy are made up from them
with noise, in the ranges that the digits job shows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsmith import spaces
from archsmith.search.pareto import nondominated_mask
from archsmith.search.strategy import StrategyState, TrialStatus
from archsmith.service.store.records import (
    Lease,
    MetricRecord,
    NewSearch,
    SearchRecord,
    StrategyCheckpoint,
    TrialBatch,
    VerifiedMember,
)
from archsmith.service.store.store import Store
from archsmith.spaces.digest import hex_digest

OBJECTIVES = (
    {"name": "accuracy", "direction": "max", "device": None},
    {"name": "latency_ms", "direction": "min", "device": "host"},
    {"name": "energy_mj", "direction": "min", "device": "host"},
)
PARAMS_LIMIT = 200_000
SOURCES = ("predicted:supernet", "predicted:lookup", "predicted:roofline")
REFERENCE = (-0.80, 0.30, 0.50)
BUDGET = 400
FAILURE = "WorkerDied: two workers were lost on this item; the last one was killed by SIGKILL"
FILES = {
    "architecture.json": "application/json",
    "weights.safetensors": "application/octet-stream",
    "model.onnx": "application/octet-stream",
    "model.pt2": "application/octet-stream",
}


def new_search(name: str = "digits") -> NewSearch:
    """The digits job, resolved."""
    return NewSearch(
        name=name,
        config={
            "name": name,
            "space": {"name": "mobilenet", "preset": "digits"},
            "task": {"name": "digits_shifted"},
            "devices": ["host"],
            "objectives": [dict(one) for one in OBJECTIVES],
            "constraints": [{"name": "params", "operator": "<=", "bound": PARAMS_LIMIT}],
            "strategy": {"name": "nsga2", "options": {}},
            "budget": {"trials": BUDGET, "minutes": 3.0},
            "verify": {"members": 5, "audit": 10},
            "seed": 0,
        },
        space={"name": "mobilenet", "preset": "digits"},
        objectives=OBJECTIVES,
        constraints=({"name": "params", "operator": "<=", "bound": PARAMS_LIMIT, "device": None},),
    )


@dataclass
class Trials:
    """Draws batches of trials that improve over time as a search's do; one generator, so a seed gives one search."""

    seed: int = 0
    drawn: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.space = spaces.get("mobilenet", "digits")

    def batch(self, count: int, *, failed: int = 0) -> TrialBatch:
        """The next `count` trials, the last `failed` of which failed."""
        genomes = self.space.sample(count, self.rng)
        params, macs = self.space.params(genomes), self.space.macs(genomes)
        progress = 1 - np.exp(-(self.drawn + np.arange(count)) / 120)
        self.drawn += count
        values = synthetic_values(params, macs, progress, self.rng)
        status = np.full(count, TrialStatus.OK, dtype=np.int8)
        if failed:
            status[-failed:] = TrialStatus.FAILED
            values[-failed:] = np.nan
        return TrialBatch(
            genomes=genomes,
            keys=tuple(hex_digest(key) for key in self.space.keys(genomes)),
            values=values,
            violations=np.maximum(params[:, None] / PARAMS_LIMIT - 1, 0.0),
            fidelity=np.ones(count),
            cost_s=self.rng.gamma(4, 0.03, count),
            status=status,
            sources=SOURCES,
            params=params,
            macs=macs,
            errors=tuple(FAILURE if one else None for one in status) if failed else None,
            choices=tuple(dict(self.space.decode(row).choices) for row in genomes),
        )


def synthetic_values(
    params: NDArray[np.int64], macs: NDArray[np.int64], progress: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """[B, 3] minimised accuracy, latency and energy of architectures with these sizes."""
    count = len(params)
    accuracy = 0.948 - 0.055 * np.exp(-params / 45_000) - rng.gamma(1.6, 0.011, count) * (1.15 - progress)
    latency_ms = 0.018 + macs * 7.5e-8 * rng.normal(1, 0.06, count) + params * 1.1e-7 * rng.uniform(0.6, 1.4, count)
    energy_mj = 0.012 + macs * 5.2e-8 + params * 4.1e-7 * rng.uniform(0.8, 1.2, count)
    return np.stack([-accuracy, latency_ms, energy_mj], axis=1)


def checkpoint() -> StrategyCheckpoint:
    """A strategy's memory, as small as the store takes it."""
    return StrategyCheckpoint(state=StrategyState(scalars={"generation": 1}), seconds=12.0, watt_hours=0.1)


def start(store: Store, name: str = "digits", worker: str = "worker-1") -> tuple[SearchRecord, Lease]:
    """Create a search, claim it, and take it to the search stage."""
    search = store.create_search(new_search(name))
    lease = store.claim(worker, job_id=search.id)
    assert lease is not None
    for stage, total, unit in (("prepare", 1, "checked"), ("train", 600, "steps"), ("model", 240, "measurements")):
        store.set_stage(lease, stage)
        store.set_progress(lease, stage, total, total, unit)
    store.set_stage(lease, "search")
    store.set_reference(lease, REFERENCE)
    return search, lease


def record(store: Store, lease: Lease, trials: Trials, count: int, *, step: int = 16, failed: int = 0) -> None:
    """Record trials in batches as the study does, with progress."""
    for done in range(0, count, step):
        size = min(step, count - done)
        failing = failed if done == 0 else 0
        store.record_trials(lease, trials.batch(size, failed=failing), checkpoint())
        if failing:
            store.record_event(lease, "evaluations_failed", {"reason": FAILURE, "count": failing})
    store.set_progress(lease, "search", trials.drawn, BUDGET, f"{trials.drawn} of {BUDGET} trials")


def verify(store: Store, search: SearchRecord, lease: Lease, *, members: int = 6, seed: int = 7) -> None:
    """Measure members spread over the front, keep their files, and write the report."""
    rng = np.random.default_rng(seed)
    store.set_stage(lease, "verify")
    front = store.front(search.id)
    order = np.argsort(front.values[:, 1])
    chosen = order[np.unique(np.linspace(0, len(order) - 1, members).round().astype(int))]
    rows = []
    for index in chosen:
        number, values = int(front.numbers[index]), front.values[index]
        rows.append(_verified(number, values, rng))
    with_files = [
        VerifiedMember(
            trial_number=one.trial_number,
            values=one.values,
            metrics=one.metrics,
            artifacts=_files(store, one.trial_number),
        )
        for one in rows
    ]
    store.record_verification(lease, with_files)
    store.record_report(lease, report(front.values[chosen], rows))


def _verified(number: int, values: NDArray[np.float64], rng: np.random.Generator) -> VerifiedMember:
    accuracy = float(-values[0] + rng.normal(0.006, 0.003))
    latency_ms = float(values[1] * rng.normal(1.03, 0.03))
    energy_mj = float(values[2])
    return VerifiedMember(
        trial_number=number,
        values=(-accuracy, latency_ms, energy_mj),
        metrics=(
            MetricRecord(quantity="accuracy", device=None, value=accuracy, spread=None, source="measured:standalone"),
            MetricRecord(
                quantity="latency_ms",
                device="host",
                value=latency_ms,
                spread=latency_ms * 0.04,
                source="measured:onnxruntime",
            ),
            MetricRecord(
                quantity="energy_mj",
                device="host",
                value=energy_mj,
                spread=energy_mj * 0.5,
                source="predicted:roofline",
            ),
        ),
    )


def _files(store: Store, number: int) -> dict[str, str]:
    found = {}
    for name, media_type in FILES.items():
        content = hashlib.sha256(f"{number} {name}".encode()).digest() * (40 if name.endswith("json") else 4_000)
        found[name] = store.add_artifact(content, name=name, media_type=media_type).id
    return found


def report(believed: NDArray[np.float64], members: list[VerifiedMember]) -> dict[str, object]:
    """A report as the verify stage writes it."""
    labels = ("accuracy", "latency_ms@host", "energy_mj@host")
    signs = (-1.0, 1.0, 1.0)
    return {
        "cost_models": {
            "latency_ms@host": {
                "kendall_tau": 0.968, "within_10_percent": 0.94, "rmse": 0.0038, "relative_rmse": 0.047, "n": 36,
            },
            "energy_mj@host": {},
        },
        "ranking": {"tau": 0.64, "low": 0.29, "high": 0.91, "n": 10, "verdict": "agrees"},
        "random": {
            "hypervolume": {"ratio": 1.18, "low": 1.09, "high": 1.31, "evaluations": BUDGET, "verdict": "better"},
            "accuracy": {"percent": 1.24, "low": -0.11, "high": 2.43, "verdict": "cannot tell"},
        },
        "members": [
            {
                "number": member.trial_number,
                "believed": {
                    name: sign * float(value) for name, sign, value in zip(labels, signs, row, strict=True)
                },
                "verified": {
                    metric.quantity + (f"@{metric.device}" if metric.device else ""): {
                        "value": metric.value, "spread": metric.spread, "source": metric.source,
                    }
                    for metric in member.metrics
                },
            }
            for row, member in zip(believed, members, strict=True)
        ],
    }  # fmt: skip


def finished_search(store: Store, name: str = "digits") -> SearchRecord:
    """A search that went through every stage."""
    search, lease = start(store, name)
    record(store, lease, Trials(), BUDGET, failed=3)
    verify(store, search, lease)
    store.set_stage(lease, "export")
    store.set_progress(lease, "export", 6, 6, "6 of 6 members exported")
    store.finish(lease)
    return store.search(search.id)


def running_search(store: Store, name: str = "digits, running") -> tuple[SearchRecord, Lease, Trials]:
    """A search in its search stage with 160 trials."""
    search, lease = start(store, name)
    trials = Trials(seed=1)
    record(store, lease, trials, 160, failed=1)
    return search, lease, trials


def true_front(store: Store, search: SearchRecord) -> set[int]:
    """Numbers of the feasible non-dominated trials, recomputed from all of them."""
    points = store.points(search.id)
    rows = np.flatnonzero(points.feasible & np.isfinite(points.values).all(axis=1))
    return set(points.numbers[rows[nondominated_mask(points.values[rows])]].tolist())
