"""What the pipeline is told (the plan) and what it tells the world (recorder, result store).

A pipeline never knows the database: the service hands it a recorder and a result store backed by tables, a script hands
it ones in memory and in a folder. Both see the same calls in the same order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.device import Device
from ...hwmodels.measure.timer import Timer, TimerSettings
from ...spaces.space import SearchSpace
from ..budget import Budget
from ..pool import PoolKind
from ..problem import Constraint, Objective
from ..strategy import Results, StrategyState
from ..study import Recorder as StudyRecorder

__all__ = [
    "Checkpoint",
    "DeviceLab",
    "EvaluationSpec",
    "Interrupted",
    "ModuleSpec",
    "Observation",
    "Plan",
    "PoolSpec",
    "Recorder",
    "ResultStore",
    "Stage",
    "StoredResult",
    "VerifiedMember",
    "identity_of",
]


class Stage(StrEnum):
    """The stages of a search, in order."""

    PREPARE = "prepare"
    TRAIN = "train"
    MODEL = "model"
    SEARCH = "search"
    VERIFY = "verify"
    EXPORT = "export"


class Interrupted(Exception):  # noqa: N818  # a request that was honoured, not an error
    """The recorder asked to stop; everything needed to continue has been stored.

    Args:
        reason: what the recorder's `should_stop` answered, e.g. ``pause`` or ``cancel``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSpec:
    """A catalog entry by name, with its options: a space, a task, a strategy. JSON-able for worker processes."""

    name: str
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The JSON form that worker processes receive."""
        return {"name": self.name, "preset": self.preset, "options": dict(self.options)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Where candidates are evaluated: `serial`, `local` processes or `ray` actors."""

    kind: PoolKind = "local"
    workers: int = 2
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """Where the accuracy of a candidate comes from.

    Attributes:
        kind: `supernet` (shared weights), `standalone` (every candidate trained alone), or `table` (looked up).
        path: of the table.
        columns: quantity -> name of the table's column, where they differ.
    """

    kind: Literal["supernet", "standalone", "table"] = "supernet"
    path: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A complete, validated search: everything that decides what the pipeline does.

    Attributes:
        space: search space by catalog name, preset and options.
        task: data set and loss by catalog name and options; None where accuracy is looked up in a table.
        devices: names of the devices that objectives and constraints may refer to.
        objectives: at least one; `accuracy` comes from the evaluator, the others are known before evaluation.
        constraints: hard limits, enforced inside the search.
        strategy: proposer by catalog name and options.
        budget: ends the search stage: trials, minutes or watt-hours, whichever comes first.
        supernet, standalone, cost_model: settings of those stages, by field name; defaults where left out.
        gradient: settings of gradient-based search, which then takes the place of supernet training; None = none.
        members: how many front members `verify` retrains and measures, at least 5.
        audit: how many random architectures are retrained to compare the supernet's ranking with.
        exported: how many of the verified members become model files, in the order chosen; None = all.
        batch: how many proposals are evaluated between two checkpoints.
        seed: decides everything but measurements.
        pool: where candidates are evaluated; changes no result.
        evaluator: where the accuracy of a candidate comes from.
    """

    space: ModuleSpec
    task: ModuleSpec | None
    devices: Sequence[str]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    strategy: ModuleSpec
    budget: Budget
    supernet: Mapping[str, Any] = field(default_factory=dict)
    standalone: Mapping[str, Any] = field(default_factory=dict)
    cost_model: Mapping[str, Any] = field(default_factory=dict)
    gradient: Mapping[str, Any] | None = None
    members: int = 5
    audit: int = 10
    exported: int | None = None
    batch: int = 16
    seed: int = 0
    pool: PoolSpec = field(default_factory=PoolSpec)
    evaluator: EvaluationSpec = field(default_factory=EvaluationSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where the search stage stands.

    Attributes:
        results: everything recorded so far, in order.
        state: the strategy's memory after consuming exactly those results.
        seconds: spent by the search stage so far.
        watt_hours: spent by the search stage so far.
        reference: [M] the reference point, or None while it is not fixed.
    """

    results: Results
    state: StrategyState
    seconds: float
    watt_hours: float
    reference: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One value of a verified member: measured or predicted, as its source says."""

    quantity: str
    device: str | None
    value: float
    spread: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedMember:
    """A front member after retraining and measuring.

    Attributes:
        number: its trial.
        values: [M] minimised: measured where an instrument exists, else the model's value.
        observations: every value with spread and source.
        files: exported files by role; empty before export.
        feasible: whether the verified values satisfy every constraint.
    """

    number: int
    values: tuple[float, ...]
    observations: tuple[Observation, ...]
    files: Mapping[str, Path] = field(default_factory=dict)
    feasible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A stage's output kept under its identity: a folder of files and a JSON summary."""

    directory: Path
    summary: Mapping[str, object]


class ResultStore(Protocol):
    """Keeps what stages produce, by kind and identity, so that equal inputs are never computed twice."""

    def find(self, kind: str, identity: str) -> StoredResult | None:
        """The stored result, or None."""
        ...

    def keep(self, kind: str, identity: str, directory: Path, summary: Mapping[str, object]) -> StoredResult:
        """Store the files of `directory` with their summary; all or nothing."""
        ...

    def evaluated(self, recipe: str, seed: int, keys: Sequence[str], *, fidelity: float = 1.0) -> Mapping[str, float]:
        """By architecture key, what this recipe, seed and fidelity gave before; unknown keys are left out."""
        ...

    def keep_evaluated(self, recipe: str, seed: int, values: Mapping[str, float], *, fidelity: float = 1.0) -> None:
        """Remember values by architecture key; the first one of a key stays."""
        ...

    def scratch(self, kind: str, identity: str) -> Path:
        """A folder for checkpoints of unfinished work, the same one after a kill and a restart."""
        ...


class DeviceLab(Protocol):
    """Devices other than this machine: those that users registered, and those whose agents measure for us."""

    def device(self, name: str) -> Device | None:
        """A registered device, or None where only the catalog may know it."""
        ...

    def fitted(self, name: str, space: SearchSpace | None, data_type: str = "float32") -> str | None:
        """Identity of the stored latency model that was fitted to this device's measurements, or None.

        Args:
            name: of the device.
            space: a search space, or None for the device's kernel model, which serves all.
            data_type: what its networks compute in.
        """
        ...

    def timer(self, name: str, settings: TimerSettings, waiting: Callable[[str], None]) -> Timer | None:
        """Measures latency through the device's agent; None where no agent of it was ever heard of.

        Args:
            name: of the device.
            settings: how precisely.
            waiting: told again and again what is waited for, in words; what it raises ends the wait. A measurement
                whose device stays silent for too long raises DeviceError; what it has measured is kept.
        """
        ...


class Recorder(StudyRecorder, Protocol):
    """What the pipeline tells the world, and what the world may ask of it; the study's recorder and more.

    The recorder of a search that continues returns from `checkpoint` what an earlier run recorded.
    """

    def stage(self, stage: Stage, *, reused: bool = False) -> None:
        """A stage begins; `reused` where its stored result was found and nothing needs doing."""
        ...

    def progress(self, done: float, total: float, message: str) -> None:
        """Progress of the current stage, in the stage's own units."""
        ...

    def checkpoint(self) -> Checkpoint | None:
        """Where the search stage was interrupted, or None for a fresh one."""
        ...

    def spend(self, seconds: float, watt_hours: float) -> None:
        """What the search stage has spent so far; stored with the next results."""
        ...

    def reference(self, reference: NDArray[np.float64]) -> None:
        """The reference point [M] of every hypervolume of this search, minimised; fixed once."""
        ...

    def verified(self, members: Sequence[VerifiedMember]) -> None:
        """Front members that were retrained and measured, exported files included; replaces what was told before."""
        ...

    def report(self, report: Mapping[str, object]) -> None:
        """The search's report as far as it is known; replaces what was told before."""
        ...


def identity_of(**parts: object) -> str:
    """A short stable hash of JSON-able inputs: equal inputs, equal identity.

    >>> identity_of(space="a", steps=3) == identity_of(steps=3, space="a")
    True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
