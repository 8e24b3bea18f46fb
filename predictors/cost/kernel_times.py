"""Times of kernels run alone, for kernels that were never measured: one regressor per group, with its uncertainty.

Notation: K kernels, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from ...hwmodels.kernels import kernel_key
from ...spaces.op import Op
from .kernel_features import FEATURES, group_of, kernel_rows
from .kernel_regression import LogProcess

__all__ = ["KernelRegression", "KernelTimes"]

OWN_REGRESSOR: Final = 8
"""Measured kernels that a group needs for a regressor of its own; smaller ones share one fitted on kernels of all."""

SHARED: Final = "shared"
SHARED_ROWS: Final = 300
WIDEST_STD: Final = 0.3
"""Relative; an estimate less certain than this counts as out of range."""

_SIZES: Final = slice(0, FEATURES.index("groups") + 1)
"""The features that are logarithms of sizes; the rest are the padding of tiles, and flags."""

_MARGIN: Final = np.log(1.25)
"""How far beyond the measured sizes still counts as in range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTimes:
    """Estimates of K kernels run alone.

    Attributes:
        mean_ms: [K] time.
        relative_std: [K] one standard deviation of its relative error.
        in_range: [K] bool, False where nothing like it was measured.
    """

    mean_ms: NDArray[np.float64]
    relative_std: NDArray[np.float64]
    in_range: NDArray[np.bool_]


class KernelRegression:
    """Log times of kernels by group.

    Args:
        kernels: what was measured.
        times_ms: [K] how long each took, alone.
        rng: of the rows that the shared regressor is fitted on.

    Attributes:
        known: the measured times by `kernel_key`.
        left_out: [K] relative error at each kernel when the fit does not see it, nan in groups too small for a
            regressor of their own.
        errors: what they amount to; see `KernelModel.report`.

    Raises:
        PredictorError: a time that is not finite and positive, or fewer than `OWN_REGRESSOR` kernels.
    """

    def __init__(
        self, kernels: Sequence[tuple[Op, ...]], times_ms: NDArray[np.float64], *, rng: np.random.Generator
    ) -> None:
        if len(kernels) < OWN_REGRESSOR or len(kernels) != len(times_ms):
            raise PredictorError(
                f"kernel model: got {len(kernels)} kernels and {len(times_ms)} times; one time each of at least "
                f"{OWN_REGRESSOR} kernels is needed. Measure more."
            )
        if wrong := [time for time in times_ms.tolist() if not (np.isfinite(time) and time > 0)]:
            raise PredictorError(
                f"kernel model: {len(wrong)} kernel times are not finite and positive, the first is {wrong[0]}; "
                "measure those again, or leave them out."
            )
        rows, groups = kernel_rows(kernels), np.array([group_of(kernel) for kernel in kernels])
        logs = np.log(times_ms)
        self.known = {kernel_key(kernel): time for kernel, time in zip(kernels, times_ms.tolist(), strict=True)}
        self.bounds: dict[str, NDArray[np.float64]] = {}
        self.processes: dict[str, LogProcess] = {}
        self.left_out = np.full(len(kernels), np.nan)
        stated = np.full(len(kernels), np.nan)
        for name in np.unique(groups).tolist():
            members = groups == name
            self.bounds[name] = np.stack([rows[members].min(axis=0), rows[members].max(axis=0)])
            if members.sum() >= OWN_REGRESSOR:
                process = LogProcess()
                process.fit(rows[members], logs[members])
                self.processes[name] = process
                missed, stated[members] = process.leave_one_out()
                # log measured - log predicted = missed
                self.left_out[members] = np.expm1(-missed)
        self.processes[SHARED] = LogProcess()
        some = rng.permutation(len(rows))[:SHARED_ROWS]
        self.processes[SHARED].fit(rows[some], logs[some])
        self.errors = _leave_one_out_report(self.left_out, stated)

    def predict(self, kernels: Sequence[tuple[Op, ...]]) -> KernelTimes:
        """Times of kernels run alone; a kernel that was measured keeps its measured time."""
        rows, groups = kernel_rows(kernels), np.array([group_of(kernel) for kernel in kernels])
        mean, std = np.empty(len(kernels)), np.empty(len(kernels))
        in_range = np.zeros(len(kernels), dtype=np.bool_)
        for name in np.unique(groups).tolist():
            members = np.flatnonzero(groups == name)
            process = self.processes.get(name, self.processes[SHARED])
            mean[members], std[members] = process.predict(rows[members])
            if name in self.bounds:
                low, high = self.bounds[name][:, _SIZES]
                sizes = rows[members, _SIZES]
                inside = ((sizes >= low - _MARGIN) & (sizes <= high + _MARGIN)).all(axis=1)
                in_range[members] = inside & (std[members] <= WIDEST_STD)
        times = np.exp(mean)
        for number, kernel in enumerate(kernels):
            if (known := self.known.get(kernel_key(kernel))) is not None:
                times[number], in_range[number] = known, True
        return KernelTimes(mean_ms=times, relative_std=std, in_range=in_range)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The regressors and bounds as named arrays."""
        out = {f"bounds/{name}": values for name, values in self.bounds.items()}
        for name, process in self.processes.items():
            out |= {f"process/{name}/{key}": value for key, value in process.state().items()}
        return out

    @classmethod
    def restore(
        cls, arrays: Mapping[str, NDArray[np.float64]], known: Mapping[str, float], errors: Mapping[str, float]
    ) -> KernelRegression:
        """What `arrays`, `known` and `errors` were; raises PredictorError for features of another version."""
        regression = cls.__new__(cls)
        regression.known, regression.errors = dict(known), dict(errors)
        regression.left_out = np.zeros(0)  # of no use but for measuring more
        regression.bounds = {name[7:]: value for name, value in arrays.items() if name.startswith("bounds/")}
        if any(value.shape != (2, len(FEATURES)) for value in regression.bounds.values()):
            raise PredictorError("kernel model: fitted on other features than this version's; fit it again.")
        states: dict[str, dict[str, Any]] = {}
        for name, value in arrays.items():
            if name.startswith("process/"):
                _, group, key = name.split("/")
                states.setdefault(group, {})[key] = value
        regression.processes = {name: LogProcess.restore(state) for name, state in states.items()}
        return regression


def _leave_one_out_report(left_out: NDArray[np.float64], stated: NDArray[np.float64]) -> dict[str, float]:
    """Relative errors of kernels left out, and how often they lie within the standard deviations that were stated."""
    tested = np.isfinite(left_out)
    relative, std = left_out[tested], stated[tested]
    if not len(relative):
        return {"kernels_measured": float(len(left_out))}
    return {
        "kernel_within_5_percent": float(np.mean(np.abs(relative) <= 0.05)),
        "kernel_within_10_percent": float(np.mean(np.abs(relative) <= 0.10)),
        "kernel_relative_rmse": float(np.sqrt(np.mean(relative**2))),
        "kernel_coverage_1sd": float(np.mean(np.abs(np.log1p(relative)) <= std)),
        "kernel_coverage_2sd": float(np.mean(np.abs(np.log1p(relative)) <= 2 * std)),
        "kernel_median_std": float(np.median(std)),
        "kernels_measured": float(len(left_out)),
    }
