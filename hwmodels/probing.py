"""Probing: measure the kernels of a space and some whole networks, in random order, into a log that survives a kill.

Notation: N networks, K kernels, G genes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DeviceError
from ..spaces.gene import Population
from ..spaces.op import Op
from ..spaces.space import SearchSpace
from .kernels import Kernels
from .measure.timer import Timer
from .measurement import Measurement

__all__ = [
    "BatchTimer",
    "ProbeLog",
    "ProbeSettings",
    "Probes",
    "Progress",
    "agree",
    "distinct_networks",
    "measure_all",
    "probe",
]

AGREEMENT: Final = 0.03
"""Relative difference up to which two visits of a network agree."""

Progress = Callable[[int, int, str], None]
"""Called with how many steps are done, how many there are, and what was done last."""


@runtime_checkable
class BatchTimer(Timer, Protocol):
    """A timer for which many subjects at once are cheaper than one by one, such as a device behind a network."""

    def measure_many(self, subjects: Sequence[tuple[Op, ...]]) -> Iterable[Measurement]:
        """One measurement per subject, in order, each yielded as soon as it is known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """What is measured.

    Attributes:
        kernels: distinct kernels at most; a random choice of them where the space has more.
        calibration_networks: whole networks that the model is fitted on.
        held_out_networks: other whole networks, which no fit sees.
        visits: how often each network is measured at most, far apart in time: twice, and again where no two agree to
            within `AGREEMENT`. The median counts, so that one disturbed measurement of three does not.
        energy_networks: whole networks whose energy is measured, where the device has a meter; 0 measures none, else
            at least 5 are needed to calibrate an energy model.
    """

    kernels: int = 400
    calibration_networks: int = 150
    held_out_networks: int = 60
    visits: int = 1
    energy_networks: int = 12

    def __post_init__(self) -> None:
        least = {"kernels": 20, "calibration_networks": 12, "held_out_networks": 2, "visits": 1, "energy_networks": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"latency.{name}", getattr(self, name), f"at least {bound}")
        if 0 < self.energy_networks < 5:
            raise ConfigError("latency.energy_networks", self.energy_networks, "0, or at least 5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What was measured: kernels alone, and whole networks; the last `held_out` networks are for checking only.

    Attributes:
        kernel_ms: [K] latency of each kernel run alone, nan where not measured.
        genomes: [N, G] the networks.
        network_ms: [N] their latency.
        held_out: how many of the N, from the end, are held out.
        noisy: how many of all measurements are marked noisy.
    """

    kernel_ms: NDArray[np.float64]
    genomes: Population
    network_ms: NDArray[np.float64]
    held_out: int
    noisy: int


class ProbeLog:
    """One JSON line per measurement, appended and flushed at once, so that a killed probe goes on where it stopped.

    Args:
        path: the file, or None to keep nothing.
        identity: what is measured and how; a log of another identity is refused.
        timer: its state (the nominal time of the reference kernel) is stored, and restored into it from an old log.

    Raises:
        DeviceError: the file belongs to another identity, cannot be written, or a line in the middle is broken.
    """

    def __init__(self, path: Path | None, identity: str, timer: Timer) -> None:
        self._path = path
        self._records: dict[str, Mapping[str, Any]] = {}
        if path is None:
            return
        lines = self._read(path) if path.exists() else []
        if lines:
            if lines[0].get("identity") != identity:
                raise DeviceError(
                    f"{path}: belongs to {lines[0].get('identity')!r}, not to {identity!r}; delete it or choose "
                    "another folder."
                )
            timer.restore(lines[0]["timer"])
            self._records = {line["key"]: line for line in lines[1:]}
        else:
            self._append({"identity": identity, "timer": timer.state()})

    @staticmethod
    def _read(path: Path) -> list[dict[str, Any]]:
        """The complete lines; a last line torn by a kill is cut off the file."""
        data = path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        if len(complete) < len(data):
            path.write_bytes(complete)
        try:
            return [json.loads(line) for line in complete.splitlines()]
        except ValueError as error:
            raise DeviceError(f"{path}: a line is no JSON ({error}); delete the file to measure again.") from error

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The record of `key`, or None."""
        return self._records.get(key)

    def add(self, key: str, measurement: Measurement) -> Mapping[str, Any]:
        """Store a measurement."""
        record = {
            "key": key,
            "value": measurement.value,
            "iqr": measurement.iqr,
            "repeats": measurement.repeats,
            "noisy": measurement.noisy,
        }
        self._records[key] = record
        self._append(record)
        return record

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
        except OSError as error:
            raise DeviceError(
                f"{self._path}: cannot be written ({error.strerror}); free space or choose another folder. What is "
                "already there is kept and will not be measured again."
            ) from error


def probe(
    space: SearchSpace,
    kernels: Kernels,
    timer: Timer,
    settings: ProbeSettings,
    *,
    log: ProbeLog,
    seed: int,
    progress: Progress | None = None,
) -> Probes:
    """Measure kernels and networks in one random order, so that a drift of the machine meets all alike.

    A measurement marked noisy is taken once more at the end, and the steadier one counts.

    Args:
        space: where networks come from, uniformly, each key once.
        kernels: the space's kernels.
        timer: measures latency_ms.
        settings: how many of each.
        log: where finished measurements are kept; those it already holds are not repeated.
        seed: of the choice and the order.
        progress: told after every measurement.

    Raises:
        DeviceError: the space has too few networks.
    """
    rng = np.random.default_rng(seed)
    chosen = _most_used(kernels, space, settings.kernels, rng)
    genomes = distinct_networks(space, settings.calibration_networks + settings.held_out_networks, rng)
    subjects: dict[str, Callable[[], tuple[Op, ...]]] = {}
    for number in chosen:
        subjects[kernels.keys[number]] = lambda number=number: kernels.ops[number]
    network_keys = []
    for genome in genomes:
        architecture = space.decode(genome)
        network_keys.append(architecture.key)
        subjects[architecture.key] = lambda architecture=architecture: space.ops(architecture)
    records = _visit(subjects, network_keys, timer, visits=settings.visits, rng=rng, log=log, progress=progress)
    kernel_ms = np.full(len(kernels.ops), np.nan)
    for number in chosen:
        kernel_ms[number] = records[kernels.keys[number]]["value"]
    return Probes(
        kernel_ms=kernel_ms,
        genomes=genomes,
        network_ms=np.array([float(np.median(_values(records, key))) for key in network_keys]),
        held_out=settings.held_out_networks,
        noisy=sum(bool(record["noisy"]) for record in records.values()),
    )


def _visit(
    subjects: Mapping[str, Callable[[], tuple[Op, ...]]],
    network_keys: Sequence[str],
    timer: Timer,
    *,
    visits: int,
    rng: np.random.Generator,
    log: ProbeLog,
    progress: Progress | None,
) -> dict[str, Mapping[str, Any]]:
    """Records of all subjects, and of further visits of networks under ``key#2``, ``key#3``, …."""
    records: dict[str, Mapping[str, Any]] = {}
    names = [*subjects, *(f"{key}#2" for key in network_keys if visits > 1)]
    for visit in range(3, max(visits, 2) + 2):
        order = [names[position] for position in rng.permutation(len(names))]
        again = {name: subjects[name.partition("#")[0]] for name in names}
        records |= measure_all(order, again, timer, log=log, progress=progress)
        names = [f"{key}#{visit}" for key in network_keys if not agree(_values(records, key))]
    return records


def _values(records: Mapping[str, Mapping[str, Any]], key: str) -> list[float]:
    """What a network's visits gave so far."""
    names = [key]
    while f"{key}#{len(names) + 1}" in records:
        names.append(f"{key}#{len(names) + 1}")
    return [float(records[name]["value"]) for name in names]


def agree(values: Sequence[float]) -> bool:
    """Whether two of the values lie close together."""
    ordered = sorted(values)
    return any(above <= below * (1.0 + AGREEMENT) for below, above in itertools.pairwise(ordered))


def _most_used(kernels: Kernels, space: SearchSpace, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[count] kernels to measure, drawn without repetition in proportion to how many random networks hold them.

    Stem and head stand in every network: where they were left to an estimate, every prediction would rest on it.
    """
    use = kernels.counts(space.sample(4096, rng)).mean(axis=0) + 1e-9
    # Efraimidis and Spirakis 2006: the largest log(u) / weight are such a draw.
    return np.argsort(-np.log(rng.random(len(use))) / use)[:count]


def measure_all(
    order: Sequence[str],
    subjects: Mapping[str, Callable[[], tuple[Op, ...]]],
    timer: Timer,
    *,
    log: ProbeLog,
    progress: Progress | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Measure subjects in this order, those that the log holds already excepted.

    A measurement marked noisy is taken once more at the end, and the steadier one counts.

    Args:
        order: names of the subjects.
        subjects: by name, the Ops to measure; called when their turn has come.
        timer: measures latency_ms.
        log: where finished measurements are kept.
        progress: told after every measurement.

    Returns:
        The log's record of every name.
    """
    records = {key: record for key in order if (record := log.get(key)) is not None}
    missing = [key for key in order if key not in records]
    done = len(records)
    for key, measurement in zip(missing, _measured(missing, subjects, timer), strict=True):
        records[key] = log.add(key, measurement)
        done += 1
        if progress is not None:
            progress(done, len(order), "measured kernels and networks")
    noisy = [key for key in missing if records[key]["noisy"]]
    for number, (key, again) in enumerate(zip(noisy, _measured(noisy, subjects, timer), strict=True), start=1):
        if again.iqr / again.value < records[key]["iqr"] / records[key]["value"]:
            records[key] = log.add(key, again)
        if progress is not None:
            progress(len(order), len(order), f"measured again {number} of {len(noisy)} that were noisy")
    return records


def _measured(
    keys: Sequence[str], subjects: Mapping[str, Callable[[], tuple[Op, ...]]], timer: Timer
) -> Iterable[Measurement]:
    if isinstance(timer, BatchTimer):
        return timer.measure_many([subjects[key]() for key in keys]) if keys else ()
    return (timer.measure(subjects[key]()) for key in keys)


def distinct_networks(space: SearchSpace, n: int, rng: np.random.Generator) -> Population:
    """[n, G] canonical genomes with different keys, drawn uniformly.

    Raises:
        DeviceError: the space has too few networks.
    """
    genomes = space.sample(4 * n + 64, rng)
    _, first = np.unique(space.keys(genomes), axis=0, return_index=True)
    if len(first) < n:
        raise DeviceError(
            f"space {space.name!r} gave {len(first)} different networks out of {len(genomes)} draws; {n} are needed. "
            "Lower calibration_networks or held_out_networks."
        )
    return genomes[np.sort(first)[:n]]
