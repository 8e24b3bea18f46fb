"""The energy model: what the work costs, plus what waiting costs.

    energy = macs * energy_per_mac + bytes * energy_per_byte + idle_power * latency

Two networks of equal latency differ by their work, and a slow network with little work by its idle share: the model is
no copy of latency. Its terms come from the device file, each with its source; it is a prediction everywhere.

Source: Horowitz, Computing's Energy Problem, ISSCC 2014 (per-operation energies); Choi et al., A Roofline Model of
Energy, IPDPS 2013, https://doi.org/10.1109/IPDPS.2013.77 (energy = flops + bytes + constant power x time).

Notation: B candidates, T configurations of all sites.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.op import Op, total_macs
from ..spaces.space import SearchSpace
from .cost import CostModel, Prediction
from .device import Device

__all__ = ["EnergyModel", "bytes_moved", "fused"]

PICOJOULE_MJ = 1e-9
"""Millijoules per picojoule."""


def fused(ops: tuple[Op, ...]) -> tuple[bool, ...]:
    """Per Op, whether runtimes perform it inside the Op before it: batch norms and activations of a fresh result."""
    written: set[str] = set()
    out = []
    for op in ops:
        out.append(op.kind in ("batch_norm", "activation") and op.inputs[0].name in written)
        written.add(op.output.name)
    return tuple(out)


def bytes_moved(ops: tuple[Op, ...]) -> int:
    """Bytes of activations read and written and of weights read, per sample; fused Ops move none."""
    return sum(
        op.weight_bytes if inside else op.input_bytes + op.output_bytes + op.weight_bytes
        for op, inside in zip(ops, fused(ops), strict=True)
    )


class EnergyModel:
    """Energy of a population from work, traffic and latency. A `CostModel`.

    Args:
        hardware: a device with energy terms for float32.
        latency: predicts latency_ms on that device.

    Raises:
        DeviceError: the device file lacks an energy term.
        PredictorError: `latency` predicts something else, or for another device.
    """

    quantity = "energy_mj"

    def __init__(self, hardware: Device, latency: CostModel) -> None:
        if latency.quantity != "latency_ms" or latency.device != hardware.name:
            raise PredictorError(
                f"the energy model of {hardware.name} needs latency_ms on {hardware.name}; got "
                f"{latency.quantity} on {latency.device}."
            )
        self.hardware = hardware
        self.latency = latency
        self.device = hardware.name
        self._mac_pj = hardware.require("energy_per_mac_pj", "float32")
        self._byte_pj = hardware.require("energy_per_byte_pj")
        self._idle_w = hardware.require("idle_power_w")
        self._relative_std = hardware.require("energy_relative_std")
        self._tables: dict[str, NDArray[np.float64]] = {}

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Estimate energy_mj of every row of `genomes` ([B, G], canonical).

        The standard deviation joins the energy terms' relative uncertainty with the latency's own.
        """
        latency = self.latency.predict(space, genomes)
        # W x ms = mJ
        mean = space.site_index.total(self._work_mj(space), genomes) + self._idle_w * latency.mean
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=np.hypot(self._relative_std * mean, self._idle_w * latency.std),
            source="predicted:energy-model",
            in_range=latency.in_range,
        )

    def _work_mj(self, space: SearchSpace) -> NDArray[np.float64]:
        """[T] energy of the MACs and bytes of every site configuration; made once per space."""
        if space.identity not in self._tables:

            def work_pj(ops: tuple[Op, ...]) -> tuple[float]:
                return (self._mac_pj * total_macs(ops) + self._byte_pj * bytes_moved(ops),)

            self._tables[space.identity] = PICOJOULE_MJ * space.site_index.table(work_pj, 1)[:, 0]
        return self._tables[space.identity]

    def report(self) -> dict[str, float]:
        """Empty: nothing was held out, for nothing was measured."""
        return {}
