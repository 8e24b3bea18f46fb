"""Measured energies of some networks of a space, and the energy model that they calibrate.

They are taken on the device that the latency model is measured on, and travel in that model's details. Idle power is
subtracted where they are measured, so that a calibrated model predicts energy above idle, which is also what a front's
members are measured by.

Notation: N networks, G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError, PredictorError
from ..spaces.gene import Population
from ..spaces.op import Op
from ..spaces.space import SearchSpace
from .energy import MIN_MEASURED, EnergyModel
from .measure.energy import EnergyMeter, measure_energy
from .measure.timer import RunnerTimer
from .measurement import Measurement
from .probing import ProbeLog, distinct_networks

__all__ = ["EnergyProbes", "EnergySource", "Metered", "collect_energies", "energy_probes"]

SEED: Final = 7
"""Added to the seed of a probe, so that its networks are not those that latency is fitted on."""


@runtime_checkable
class EnergySource(Protocol):
    """Measures the energy of networks on one device.

    Attributes:
        energy_instrument: what its measurements name as their source.
    """

    energy_instrument: str

    def energies(self, subjects: Sequence[tuple[Op, ...]]) -> Iterator[Measurement | None]:
        """energy_mj of one run of each, in order; None where the device cannot tell.

        What a device elsewhere shall measure is asked for at once, what this machine shall when its turn has come.
        """
        ...


class Metered:
    """A timer beside a meter of the same device. An `EnergySource`.

    Args:
        timer: prepares and runs networks.
        meter: of the device that runs them: RAPL for a processor, NVML for a GPU.
        seconds: of runs per network; half as long again for the idle power.
    """

    def __init__(self, timer: RunnerTimer, meter: EnergyMeter, *, seconds: float = 1.0) -> None:
        self.energy_instrument = meter.instrument
        self._timer, self._meter, self._seconds = timer, meter, seconds

    def energies(self, subjects: Sequence[tuple[Op, ...]]) -> Iterator[Measurement | None]:
        """See `EnergySource`; None where other work on the machine hides the network's."""
        for ops in subjects:
            try:
                yield measure_energy(self._timer, ops, self._meter, seconds=self._seconds)
            except DeviceError:
                yield None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyProbes:
    """Networks of one space with their measured energy above idle.

    Attributes:
        genomes: [N, G] canonical.
        energy_mj: [N] per run.
        source: ``measured:<instrument>``.
    """

    genomes: Population
    energy_mj: NDArray[np.float64]
    source: str

    def to_json(self) -> dict[str, Any]:
        """For a model's details."""
        return {"genomes": self.genomes.tolist(), "energy_mj": self.energy_mj.tolist(), "source": self.source}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        genomes = np.array(content["genomes"], dtype=np.int16)
        return cls(genomes=genomes, energy_mj=np.array(content["energy_mj"]), source=str(content["source"]))

    def calibrate(self, model: EnergyModel, space: SearchSpace) -> EnergyModel:
        """The energy model with its terms fitted to these networks."""
        return model.calibrated(space, self.genomes, self.energy_mj, idle_included=False)


def collect_energies(
    space: SearchSpace, source: EnergySource, count: int, *, seed: int, log: ProbeLog, told: Callable[[int], None]
) -> Callable[[], EnergyProbes | None]:
    """Ask for the energy of `count` random networks, and return what waits for it.

    Args:
        space: where the networks come from.
        source: measures them.
        count: how many.
        seed: of the choice.
        log: where finished measurements are kept; those it already holds are not repeated.
        told: told how many are measured, after each.

    Returns:
        A function that gives the probes, None where the device could tell the energy of too few.
    """
    try:
        genomes = distinct_networks(space, count, np.random.default_rng(seed + SEED))
    except DeviceError:  # a space of few networks
        return lambda: None
    names = [f"energy:{space.decode(genome).key}" for genome in genomes]
    missing = [row for row, name in enumerate(names) if log.get(name) is None]
    asked = source.energies([space.ops(space.decode(genomes[row])) for row in missing])

    def wait() -> EnergyProbes | None:
        for done, (row, found) in enumerate(zip(missing, asked, strict=True), start=1):
            if found is not None:
                log.add(names[row], found)
            told(done)
        kept = {row: record["value"] for row, name in enumerate(names) if (record := log.get(name)) is not None}
        if len(kept) < MIN_MEASURED:
            return None
        return EnergyProbes(
            genomes=genomes[list(kept)],
            energy_mj=np.array(list(kept.values())),
            source=f"measured:{source.energy_instrument}",
        )

    return wait


def energy_probes(details: Mapping[str, Any]) -> EnergyProbes | None:
    """What a latency model's details hold; None where its device told no energies."""
    content = details.get("energy")
    if content is None:
        return None
    try:
        return EnergyProbes.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise PredictorError(
            f"measured energies of a latency model: broken ({error!r}); fit the model again."
        ) from error
