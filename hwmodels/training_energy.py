"""Energy of a training run, and what a power limit does to it.

A graphics card kept under a power limit lowers its clock until it draws what it may. Time then rises, first hardly at
all, for memory and waiting do not depend on the clock, later steeply, for what is drawn without any work is paid all
the same; so energy has a minimum between the limits. One run at one limit (its anchor) fixes the curve of a workload;
the law that it follows is fitted to published measurements of many workloads::

    power(limit) = softmin(free power, c * limit)
    clock(limit) = ((power(limit) - s) / (free power - s)) ** (1 / g)
    time(limit)  ~ (1 - m) + m / clock(limit),          m = sigmoid(a + b * anchor power / greatest limit)

The clock stays above a floor, `LEAST_CLOCK`. With s a share of the greatest limit, and the softmin that of
order k. The cost of a limit is Zeus's:
``eta * energy + (1 - eta) * greatest limit * time``.

Source: You et al., Zeus, NSDI 2023, https://www.usenix.org/conference/nsdi23/presentation/you (cost, measurements;
https://github.com/ml-energy/zeus, Apache-2.0). The law's form is ours, after dynamic power ~ clock ** g.

Notation: R measured runs, W workloads, L limits asked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError, PredictorError
from .device import Device

__all__ = [
    "POOLED",
    "PUBLISHED",
    "PowerCurve",
    "PowerLaw",
    "TrainingEnergy",
    "anchors_of",
    "estimate_training",
    "fit_law",
]

JOULES_PER_WATT_HOUR: Final = 3600.0
BACKWARD: Final = 3.0
"""MACs of a training step over those of its forward pass: gradients to inputs and to weights cost as much each."""

UTILISATION: Final = 0.4
UTILISATION_STD: Final = 0.5
"""Share of the float32 peak that training ResNet-50 reached on four cards, 0.22 to 0.64; its relative spread."""

LOAD: Final = 0.8
LOAD_STD: Final = 0.15
"""Average power over the greatest while training image and language models, 0.6 to 0.97; its relative spread."""

LEAST_CLOCK: Final = 0.15
"""Of the full clock: cards go no slower, and then draw more than their limit."""

MIN_RUNS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """How one kind of graphics card answers to power limits.

    Attributes:
        max_limit_w: greatest limit.
        min_limit_w: least limit that was measured.
        reach: c, what is drawn at a binding limit over the limit.
        order: k of the softmin.
        static_share: s over the greatest limit.
        exponent: g.
        bound: a of the clock-bound share of time.
        bound_slope: b of the clock-bound share of time.
        time_std: one standard deviation of the relative error of a time away from the anchor.
        energy_std: the same of an energy.
    """

    max_limit_w: float
    min_limit_w: float
    reach: float
    order: float
    static_share: float
    exponent: float
    bound: float
    bound_slope: float
    time_std: float = 0.1
    energy_std: float = 0.1

    def scaled(self, max_limit_w: float, min_limit_w: float) -> PowerLaw:
        """This law for a card of other limits: its shares carry over."""
        return dataclasses.replace(self, max_limit_w=max_limit_w, min_limit_w=min_limit_w)

    def curve(self, *, time_s: float, power_w: float, limit_w: float | None = None) -> PowerCurve:
        """The curve of a workload from one run of it.

        Args:
            time_s: how long the run took (or an epoch, or a step).
            power_w: its average power.
            limit_w: the power limit it ran under; left out = the greatest.

        Raises:
            PredictorError: a value that is not finite and positive, or a limit outside the card's.
        """
        limit = self.max_limit_w if limit_w is None else limit_w
        for name, value in (("time_s", time_s), ("power_w", power_w), ("limit_w", limit)):
            if not (math.isfinite(value) and value > 0):
                raise PredictorError(f"power curve: {name} is {value}; it must be finite and positive.")
        if not 0.5 * self.min_limit_w <= limit <= self.max_limit_w * (1 + 1e-9):
            raise PredictorError(
                f"power curve: the run's limit of {limit:g} W lies outside {self.min_limit_w:g} to "
                f"{self.max_limit_w:g} W; name the limit that the card reported."
            )
        return PowerCurve(law=self, time_anchor_s=time_s, power_anchor_w=power_w, limit_anchor_w=limit)


def _law(*numbers: float) -> PowerLaw:
    """A law from its fields in order, errors included."""
    return PowerLaw(**dict(zip((item.name for item in dataclasses.fields(PowerLaw)), numbers, strict=True)))


PUBLISHED: Final[Mapping[str, PowerLaw]] = MappingProxyType(
    {
        "a40": _law(300, 100, 0.9728, 12.89, 0.3025, 1.302, -2.728, 3.021, 0.1025, 0.1105),
        "p100": _law(250, 125, 0.9678, 4.358, 0.2801, 0.5979, -2.132, -1.423, 0.0393, 0.0410),
        "rtx6000": _law(260, 100, 0.9457, 4.629, 0.3801, 2.249, -3.443, 2.670, 0.1025, 0.0938),
        "v100": _law(250, 100, 0.9648, 3.305, 0.2683, 1.272, -3.002, 1.828, 0.0570, 0.0669),
    }
)
"""Laws of single cards, by name, fitted to Zeus's measurements (PCIe boards; ``benchmarks/cost_network.py zeus``)."""

POOLED: Final = _law(300, 100, 0.9585, 5.455, 0.3508, 2.933, -4.282, 5.110, 0.0999, 0.1006)
"""One law for all four cards together: for cards that nobody measured, by `PowerLaw.scaled`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCurve:
    """Time, power and energy of one workload at any limit. Predictions, but at the anchor.

    >>> curve = POOLED.curve(time_s=100.0, power_w=220.0)
    >>> bool(curve.energy_j(175.0) < curve.energy_j(250.0))
    True
    """

    law: PowerLaw
    time_anchor_s: float
    power_anchor_w: float
    limit_anchor_w: float

    def power_w(self, limits_w: ArrayLike) -> NDArray[np.float64]:
        """Average power at limits [L]."""
        limits = np.asarray(limits_w, dtype=np.float64)
        return self.power_anchor_w * self._relative(limits)[1]

    def time_s(self, limits_w: ArrayLike) -> NDArray[np.float64]:
        """Time at limits [L]."""
        limits = np.asarray(limits_w, dtype=np.float64)
        return self.time_anchor_s * self._relative(limits)[0]

    def energy_j(self, limits_w: ArrayLike) -> NDArray[np.float64]:
        """Energy at limits [L]."""
        return self.time_s(limits_w) * self.power_w(limits_w)

    def cost(self, limits_w: ArrayLike, eta: float = 0.5) -> NDArray[np.float64]:
        """Zeus's cost at limits [L], in joules: eta 1 counts energy alone, 0 time alone."""
        if not 0.0 <= eta <= 1.0:
            raise PredictorError(f"power curve: eta is {eta}; it must be from 0 (time) to 1 (energy).")
        time_s = self.time_s(limits_w)
        return eta * time_s * self.power_w(limits_w) + (1.0 - eta) * self.law.max_limit_w * time_s

    def best_limit_w(self, eta: float = 0.5, limits_w: ArrayLike | None = None) -> float:
        """The limit of least cost, among `limits_w` [L]; left out = every watt that the law covers."""
        if limits_w is None:
            limits = np.arange(math.ceil(self.law.min_limit_w), math.floor(self.law.max_limit_w) + 1.0)
        else:
            limits = np.asarray(limits_w, dtype=np.float64)
        costs = self.cost(limits, eta)
        # Where a limit no longer binds, costs are equal but for rounding: the greatest such limit is the safe one.
        return float(limits[costs <= costs.min() * (1.0 + 1e-6)].max())

    def _relative(self, limits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Time and power at limits [L] over those at the anchor."""
        one = np.ones_like(limits)
        return _relative(
            _parameters(self.law),
            limits / self.law.max_limit_w,
            self.limit_anchor_w / self.law.max_limit_w * one,
            self.power_anchor_w / self.law.max_limit_w * one,
        )


def _parameters(law: PowerLaw) -> NDArray[np.float64]:
    """[6] what `fit_law` fits."""
    return np.array([law.reach, law.order, law.static_share, law.exponent, law.bound, law.bound_slope])


def _relative(
    parameters: NDArray[np.float64],
    limits: NDArray[np.float64],
    anchors: NDArray[np.float64],
    drawn: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The law: time and power [R] at `limits` over those at `anchors`, where `drawn` was drawn; all over max_limit."""
    reach, order, static, exponent, bound, slope = parameters
    # The free power is what the softmin turns into the power drawn at the anchor.
    held = np.minimum(drawn, 0.98 * reach * anchors)
    free = (held**-order - (reach * anchors) ** -order) ** (-1.0 / order)
    share = 1.0 / (1.0 + np.exp(-(bound + slope * drawn)))

    def at(limit: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        power = (free**-order + (reach * limit) ** -order) ** (-1.0 / order)
        # A workload that draws less than the card's usual static power has its own, lower one.
        floor = np.minimum(static, 0.9 * free)
        dynamic = np.maximum((power - floor) / (free - floor), 1e-6)
        clock = np.maximum(dynamic ** (1.0 / exponent), LEAST_CLOCK)
        return (1.0 - share) + share / clock, power

    time, power = at(limits)
    time_anchor, power_anchor = at(anchors)
    return time / time_anchor, power / power_anchor


def fit_law(
    workloads: NDArray[np.int64],
    limits_w: NDArray[np.float64],
    times_s: NDArray[np.float64],
    powers_w: NDArray[np.float64],
    *,
    max_limit_w: float | NDArray[np.float64],
) -> PowerLaw:
    """Fit the law to runs of several workloads, each at several limits.

    Args:
        workloads: [R] number of the workload of each run; each has a run at its greatest limit, its anchor.
        limits_w: [R] power limits.
        times_s: [R] how long each run took.
        powers_w: [R] average power of each run.
        max_limit_w: greatest limit of the card; [R] where runs of several cards are pooled.

    Returns:
        A law with the greatest of these limits, and with its own errors on these runs as uncertainty.

    Raises:
        PredictorError: fewer than `MIN_RUNS` runs away from the anchors, or a value that is not finite and positive.
    """
    from scipy.optimize import least_squares

    for name, values in (("limits_w", limits_w), ("times_s", times_s), ("powers_w", powers_w)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise PredictorError(f"power law: {name} must be finite and positive; leave failed runs out.")
    greatest = np.broadcast_to(np.asarray(max_limit_w, dtype=np.float64), limits_w.shape)
    anchor = anchors_of(workloads, limits_w)
    away = anchor != np.arange(len(anchor))
    if away.sum() < MIN_RUNS:
        raise PredictorError(
            f"power law: got {int(away.sum())} runs below their workload's greatest limit; at least {MIN_RUNS} are "
            "needed. Run more workloads, or at more limits."
        )
    shares = limits_w[away] / greatest[away]
    anchors, drawn = (values[anchor][away] / greatest[away] for values in (limits_w, powers_w))
    slower = np.log(times_s[away] / times_s[anchor][away])
    thriftier = np.log(powers_w[away] / powers_w[anchor][away])

    def errors(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        time, power = _relative(parameters, shares, anchors, drawn)
        return np.concatenate([np.log(time) - slower, np.log(power) - thriftier])

    # Absolute errors beyond 5 %, so that a limit at which a card gives up does not rule the rest.
    solved = least_squares(
        errors, x0=(1.0, 6.0, 0.25, 1.5, 0.0, 1.0), bounds=_BOUNDS, loss="soft_l1", f_scale=0.05, x_scale="jac"
    )
    left = errors(solved.x)
    time_error, power_error = np.split(left, 2)
    names = ("reach", "order", "static_share", "exponent", "bound", "bound_slope")
    return PowerLaw(
        max_limit_w=float(greatest.max()),
        min_limit_w=float(limits_w.min()),
        time_std=float(np.sqrt(np.mean(np.expm1(time_error) ** 2))),
        energy_std=float(np.sqrt(np.mean(np.expm1(time_error + power_error) ** 2))),
        **dict(zip(names, solved.x.tolist(), strict=True)),
    )


_BOUNDS: Final = ((0.7, 1.5, 0.01, 0.5, -8.0, -10.0), (1.3, 40.0, 0.6, 6.0, 8.0, 20.0))


def anchors_of(workloads: NDArray[np.int64], limits_w: NDArray[np.float64]) -> NDArray[np.int64]:
    """[R] for every run, the run of the same workload at the greatest limit."""
    out = np.empty(len(workloads), dtype=np.int64)
    for number in np.unique(workloads):
        mine = np.flatnonzero(workloads == number)
        out[mine] = mine[np.argmax(limits_w[mine])]
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEnergy:
    """What a training run is expected to take. A prediction, never a measurement.

    Attributes:
        time_s: how long.
        power_w: average power.
        relative_std: one standard deviation of the relative error of the energy.
        limit_w: power limit it is meant for; None = the device's own.
        source: how it was estimated.
    """

    time_s: float
    power_w: float
    relative_std: float
    limit_w: float | None
    source: str

    @property
    def energy_wh(self) -> float:
        """Energy in watt-hours, the unit of budgets."""
        return self.time_s * self.power_w / JOULES_PER_WATT_HOUR

    @property
    def std_wh(self) -> float:
        """One standard deviation of the energy's error, in watt-hours."""
        return self.relative_std * self.energy_wh

    def under(self, limit_w: float, law: PowerLaw | None = None) -> TrainingEnergy:
        """The same run under another power limit.

        Args:
            limit_w: the limit asked.
            law: of the card; left out = the pooled one, which takes the run's own power limit for the greatest.

        Raises:
            PredictorError: neither a law nor the run's own limit is known, or the limit lies outside the law's.
        """
        if law is None and self.limit_w is None:
            raise PredictorError("training energy: the run's own power limit is not known; give the card's law.")
        known = law or POOLED.scaled(
            self.limit_w or 0.0, POOLED.min_limit_w / POOLED.max_limit_w * (self.limit_w or 0.0)
        )
        if not known.min_limit_w <= limit_w <= known.max_limit_w:
            raise PredictorError(
                f"training energy: a limit of {limit_w:g} W was asked; the law covers {known.min_limit_w:g} to "
                f"{known.max_limit_w:g} W."
            )
        curve = known.curve(time_s=self.time_s, power_w=self.power_w, limit_w=self.limit_w)
        return TrainingEnergy(
            time_s=float(curve.time_s(limit_w)),
            power_w=float(curve.power_w(limit_w)),
            relative_std=math.hypot(self.relative_std, known.energy_std),
            limit_w=limit_w,
            source="predicted:power-law",
        )


def estimate_training(
    device: Device,
    *,
    macs: float,
    samples: float,
    epochs: float = 1.0,
    data_type: str | None = None,
    utilisation: float = UTILISATION,
) -> TrainingEnergy:
    """A first estimate, before anything ran: work over a share of the peak rate, at most of the greatest power.

    Once a first epoch was measured, `PowerLaw.curve` of it says more.

    Args:
        device: with a peak rate for the data type, and a busy power.
        macs: of one forward pass of one sample.
        samples: in one epoch.
        epochs: how many.
        data_type: of the arithmetic; left out = the device's default.
        utilisation: share of the peak rate that training reaches.

    Raises:
        DeviceError: the device's file lacks a rate or a power.
        ConfigError: a value that is not finite and positive.

    >>> from .catalog import get
    >>> resnet = estimate_training(get("v100"), macs=4.1e9, samples=1.28e6)
    >>> 0.2 < resnet.energy_wh / 1000 < 0.8  # kWh an epoch; measured: 0.22
    True
    """
    for name, value in (("macs", macs), ("samples", samples), ("epochs", epochs), ("utilisation", utilisation)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(name, value, "a finite number above 0")
    rate = device.require("peak_gmacs_per_s", data_type or device.data_type) * 1e9 * min(utilisation, 1.0)
    busy_w = device.require("busy_power_w")
    return TrainingEnergy(
        time_s=BACKWARD * macs * samples * epochs / rate,
        power_w=LOAD * busy_w,
        relative_std=math.hypot(UTILISATION_STD, LOAD_STD),
        limit_w=busy_w if device.kind == "gpu" else None,
        source="predicted:training-roofline",
    )
