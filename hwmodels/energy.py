"""The energy model: what the work costs, plus what waiting costs.

    energy = macs * mac_pj + weight_bytes * weight_byte_pj + activation_bytes * activation_byte_pj
             + idle_power * latency

Two networks of equal latency differ by their work, and a slow network with little work by its idle share: the model is
no copy of latency. Its terms come from the device file, each with its source, or are fitted to measured energies;
weights and activations then cost differently per byte, which is the weighted arithmetic intensity of `traffic`.

Source: Horowitz, Computing's Energy Problem, ISSCC 2014 (per-operation energies); Choi et al., A Roofline Model of
Energy, IPDPS 2013, https://doi.org/10.1109/IPDPS.2013.77 (energy = flops + bytes + constant power x time).

Notation: B candidates, N measured networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.op import Op, total_macs
from ..spaces.space import SearchSpace
from .additive import AdditiveCost
from .calibration import held_out_report
from .cost import CostModel, Prediction
from .device import Device, check_data_type
from .traffic import traffic

__all__ = ["EnergyModel", "EnergyTerms", "fit_terms"]

PICOJOULE_MJ: Final = 1e-9
"""Millijoules per picojoule."""

MIN_MEASURED: Final = 5
STRENGTHS: Final = (1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-4, 1e-6)
"""Ridge strengths tried when terms are fitted, per measured network; the first leaves the file's ratios as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTerms:
    """What one unit of work and of waiting costs on a device, at a data type.

    Attributes:
        mac_pj: one multiply-accumulate, instructions included.
        weight_byte_pj: one byte of weights read.
        activation_byte_pj: one byte of activations read or written.
        idle_power_w: drawn whether or not there is work.
        relative_std: one standard deviation of the relative error.
    """

    mac_pj: float
    weight_byte_pj: float
    activation_byte_pj: float
    idle_power_w: float
    relative_std: float

    @classmethod
    def of(cls, hardware: Device, data_type: str) -> EnergyTerms:
        """The terms of a device's file; raises DeviceError for one it lacks."""
        byte_pj = hardware.require("energy_per_byte_pj")
        return cls(
            mac_pj=hardware.require("energy_per_mac_pj", data_type),
            weight_byte_pj=byte_pj,
            activation_byte_pj=byte_pj,
            idle_power_w=hardware.require("idle_power_w"),
            relative_std=hardware.require("energy_relative_std"),
        )

    @property
    def weight_share(self) -> float:
        """Weight of a byte of weights among both kinds of bytes, the `weight_share` of `traffic.weighted_intensity`."""
        both = self.weight_byte_pj + self.activation_byte_pj
        return self.weight_byte_pj / both if both else 0.5

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """[4] millijoules per MAC, byte of weights, byte of activations and millisecond."""
        per_unit = np.array([self.mac_pj, self.weight_byte_pj, self.activation_byte_pj, 0.0]) * PICOJOULE_MJ
        per_unit[3] = self.idle_power_w  # W x ms = mJ
        return per_unit


class EnergyModel:
    """Energy of a population from work, traffic and latency. A `CostModel`.

    Args:
        hardware: a device with energy terms for the data type.
        latency: predicts latency_ms on that device.
        data_type: what the network computes in; None = the device's own (`Device.data_type`).
        terms: fitted ones, in place of those of the device's file.
        errors: leave-one-out errors of fitted terms, as `fit_terms` gives them.

    Raises:
        DeviceError: the device file lacks an energy term.
        PredictorError: `latency` predicts something else, or for another device.
    """

    quantity = "energy_mj"

    def __init__(
        self,
        hardware: Device,
        latency: CostModel,
        *,
        data_type: str | None = None,
        terms: EnergyTerms | None = None,
        errors: dict[str, float] | None = None,
    ) -> None:
        if latency.quantity != "latency_ms" or latency.device != hardware.name:
            raise PredictorError(
                f"the energy model of {hardware.name} needs latency_ms on {hardware.name}; got "
                f"{latency.quantity} on {latency.device}."
            )
        self.hardware = hardware
        self.latency = latency
        self.device = hardware.name
        self.data_type = check_data_type(data_type or hardware.data_type)
        self.terms = terms or EnergyTerms.of(hardware, self.data_type)
        self._errors = errors or {}
        self._work = AdditiveCost(self._work_of, 3)

    def predict(self, space: SearchSpace, genomes: NDArray[np.int16]) -> Prediction:
        """Estimate energy_mj of every row of `genomes` ([B, G], canonical).

        The standard deviation joins the energy terms' relative uncertainty with the latency's own.
        """
        latency = self.latency.predict(space, genomes)
        mean = self._work.total(space, genomes) @ self.terms.coefficients[:3] + self.terms.idle_power_w * latency.mean
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=np.hypot(self.terms.relative_std * mean, self.terms.idle_power_w * latency.std),
            source="predicted:calibrated-energy" if self._errors else "predicted:energy-model",
            in_range=latency.in_range,
        )

    def calibrated(
        self,
        space: SearchSpace,
        genomes: NDArray[np.int16],
        energy_mj: NDArray[np.float64],
        *,
        idle_included: bool = True,
    ) -> EnergyModel:
        """This model with its terms fitted to measured energies.

        Args:
            space: of the measured networks.
            genomes: [N, G] them, canonical.
            energy_mj: [N] measured, per run.
            idle_included: whether the measurements contain the idle power; if not, neither do the predictions of the
                model that is returned: it predicts what was measured.

        Raises:
            PredictorError: too few measurements, or one that is not finite and positive.
        """
        latency = self.latency.predict(space, genomes).mean
        work = np.concatenate([self._work.total(space, genomes), latency[:, None]], axis=1)
        terms, errors = fit_terms(work, energy_mj, self.terms, idle_included=idle_included)
        return EnergyModel(self.hardware, self.latency, data_type=self.data_type, terms=terms, errors=errors)

    def _work_of(self, ops: tuple[Op, ...]) -> tuple[float, float, float]:
        """MACs, bytes of weights and bytes of activations."""
        moved = traffic(ops, self.data_type)
        return float(total_macs(ops)), float(moved.weight_bytes), float(moved.activation_bytes)

    def report(self) -> dict[str, float]:
        """Leave-one-out errors of a model that was calibrated by `n` measured networks; empty where none was."""
        return dict(self._errors)


def fit_terms(
    work: NDArray[np.float64], energy_mj: NDArray[np.float64], prior: EnergyTerms, *, idle_included: bool = True
) -> tuple[EnergyTerms, dict[str, float]]:
    """Non-negative terms that explain measured energies, drawn towards those of the device's file.

    The file's terms, multiplied by one common factor, are where the fit starts; how far measurements may pull single
    terms away from there is chosen by leave-one-out error.

    Args:
        work: [N, 4] MACs, bytes of weights, bytes of activations, latency_ms.
        energy_mj: [N] measured, per run.
        prior: the file's terms.
        idle_included: whether the measurements contain the idle power; if not, that of the terms returned is 0.

    Returns:
        The terms, and `held_out_report` of the leave-one-out predictions.

    Raises:
        PredictorError: fewer than `MIN_MEASURED` measurements, or one that is not finite and positive.
    """
    if len(energy_mj) < MIN_MEASURED:
        raise PredictorError(
            f"energy terms: got {len(energy_mj)} measured networks; at least {MIN_MEASURED} are needed. Measure more."
        )
    if not (np.isfinite(energy_mj).all() and (energy_mj > 0).all()):
        raise PredictorError("measured energies must be finite and positive; drop the others and measure again.")
    columns = 4 if idle_included else 3
    # Shares of the measured energy that the prior gives each term: a perfect prior has rows that sum to 1.
    shares = work[:, :columns] * prior.coefficients[:columns] / energy_mj[:, None]
    everyone = np.arange(len(shares))
    left_out = {
        strength: np.array(
            [shares[row] @ _multipliers(shares[everyone != row], strength * (len(shares) - 1)) for row in everyone]
        )
        for strength in STRENGTHS
    }
    best = min(STRENGTHS, key=lambda strength: float(np.square(left_out[strength] - 1.0).mean()))
    multipliers = np.zeros(4)
    multipliers[:columns] = _multipliers(shares, best * len(shares))
    errors = held_out_report(left_out[best] * energy_mj, energy_mj)
    terms = EnergyTerms(
        mac_pj=prior.mac_pj * float(multipliers[0]),
        weight_byte_pj=prior.weight_byte_pj * float(multipliers[1]),
        activation_byte_pj=prior.activation_byte_pj * float(multipliers[2]),
        idle_power_w=prior.idle_power_w * float(multipliers[3]),
        relative_std=errors["relative_rmse"],
    )
    return terms, errors


def _multipliers(shares: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """[C] non-negative factors on the prior's terms, drawn towards the one factor that fits best on its own."""
    from scipy.optimize import nnls

    totals = shares.sum(axis=1)
    common = float(totals.sum() / np.square(totals).sum())  # least squares of common * totals against 1
    # Penalising in units of the common factor and of mean shares keeps the strength free of units.
    weights = np.sqrt(strength) * np.maximum(shares.mean(axis=0), 1e-12)
    design = np.concatenate([shares, np.diag(weights)])
    target = np.concatenate([np.ones(len(shares)), weights * common])
    return nnls(design, target)[0]
