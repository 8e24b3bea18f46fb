"""The kernel model: fitted once per device, it predicts the networks of every space from the kernels they are made of.

    latency = empty run + sum over kernels of their cost inside a network

Times alone come from regressors (`kernel_times.py`), so that kernels need not have been measured; what is fused to
one kernel was found by probing (`hwmodels/fusion.py`); what a kernel costs inside a network was learned from some whole
networks of several spaces (`kernel_context.py`). The model compiles itself into a table over the sites of a space, so
that a population costs one gather and one sum.

Source: Zhang et al., nn-Meter, MobiSys 2021, https://doi.org/10.1145/3458864.3467882, which adds kernel times up. That
a kernel costs less inside a network than alone (it is entered once, its layout is kept) is our addition.

Notation: B candidates, K kernels, N networks, F features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from ...hwmodels.calibration import held_out_report
from ...hwmodels.cost import Prediction
from ...hwmodels.fusion import FusionRules
from ...hwmodels.kernels import KernelPool, Kernels
from ...hwmodels.lookup import LookupModel, model_identity
from ...spaces.gene import Population
from ...spaces.space import SearchSpace
from .kernel_context import GROUP_STD, Context, KernelTraits, learn_context
from .kernel_features import kernel_rows
from .kernel_suite import network_kernels
from .kernel_times import KernelRegression, KernelTimes

__all__ = ["KernelModel", "MeasuredNetworks"]

FORMAT: Final = 1

_CONTEXT_ARRAYS: Final = ("pull", "entry_pull", "spread", "left_out", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredNetworks:
    """Whole networks of one space, measured; the last `held_out` are for checking only.

    Attributes:
        space: where they come from.
        genomes: [N, G] canonical.
        latency_ms: [N].
        held_out: how many of them, from the end, no fit sees.
    """

    space: SearchSpace
    genomes: Population
    latency_ms: NDArray[np.float64]
    held_out: int = 0

    def __post_init__(self) -> None:
        self.space.check(self.genomes)
        if len(self.genomes) != len(self.latency_ms) or not 0 <= self.held_out < len(self.genomes):
            raise PredictorError(
                f"measured networks of {self.space.name}: {len(self.genomes)} genomes, {len(self.latency_ms)} "
                f"latencies, {self.held_out} held out; give one latency per genome, and keep one to fit on."
            )
        if wrong := [value for value in self.latency_ms.tolist() if not (np.isfinite(value) and value > 0)]:
            raise PredictorError(
                f"measured networks of {self.space.name}: {len(wrong)} latencies are not finite and positive, the "
                f"first is {wrong[0]}; measure those again, or leave them out."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelModel:
    """Latency of networks on one device from their kernels. A `CostModel`.

    Attributes:
        quantity: ``latency_ms``.
        device: the device's name.
        identity: hash of what it was fitted from.
        rules: what the device fuses.
        regression: times of kernels alone.
        context: what they cost inside networks.
        relative_std: one standard deviation of a network's relative error by identity of the spaces that networks were
            measured in; under ``""`` for spaces where none was, from fits that leave one space out.
        errors: `held_out_report` by identity of the space, and of all together under ``""``.
        details: conditions and counts; JSON-able.
    """

    quantity: str = "latency_ms"
    device: str
    identity: str
    rules: FusionRules
    regression: KernelRegression
    context: Context
    relative_std: dict[str, float]
    errors: dict[str, dict[str, float]]
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        device: str,
        rules: FusionRules,
        regression: KernelRegression,
        networks: Sequence[MeasuredNetworks],
        *,
        empty_ms: float,
        identity: str = "",
        details: dict[str, Any] | None = None,
    ) -> KernelModel:
        """Learn from whole networks what kernels cost inside them.

        Args:
            device: its name.
            rules: what it fuses.
            regression: times of kernels alone.
            networks: of one space or more; every further space helps the spaces in which none is measured.
            empty_ms: time of an empty run on the device.
            identity: hash of what was measured; "" makes one.
            details: what else is worth storing, JSON-able.

        Raises:
            PredictorError: fewer than two networks to fit on.
        """
        data = _Networks(rules, regression, networks, empty_ms)
        if data.fitted.sum() < 2:
            raise PredictorError(
                f"kernel model of {device}: {int(data.fitted.sum())} whole networks to fit on; at least 2 are needed, "
                "better a dozen per space."
            )
        context = data.learn(data.fitted)
        predicted = data.predict(context, np.arange(len(data.names)))
        stds = data.stds(context)
        stated = np.array([stds[name] for name in data.names]) * predicted
        errors = {
            name: held_out_report(predicted[rows], data.latency_ms[rows], stated[rows])
            for name, rows in data.checked().items()
        }
        details = {"spaces": {part.space.identity: part.space.name for part in networks}, **(details or {})}
        return cls(
            device=device,
            identity=identity or f"kernels-{device}",
            rules=rules,
            regression=regression,
            context=context,
            relative_std=stds,
            errors=errors,
            details=details,
        )

    def compile(self, space: SearchSpace) -> LookupModel:
        """The same predictions as a table over the sites of a space, exact and fast.

        Raises:
            SpaceError: the space has no sites.
        """
        kernels = Kernels(space, self.rules)
        times = self.regression.predict(kernels.ops)
        inside = self.context.inside_ms(kernels.ops, times.mean_ms)
        return LookupModel(
            device=self.device,
            space=space.identity,
            identity=model_identity(space, self.device, {"kernels": self.identity}).replace("lookup", "kernels"),
            overhead_ms=self.context.empty_ms,
            table_ms=kernels.spread(inside),
            covered=kernels.spread((~times.in_range).astype(np.float64)) == 0.0,
            relative_std=self._relative_std(space),
            errors=self.errors.get(space.identity, {}),
            extra_std_ms=kernels.spread(self._extra_std_ms(times, inside)),
            method="kernels",
            details={
                "kernels": len(kernels.ops),
                "kernels_in_range": int(times.in_range.sum()),
                "overhead_ms": self.context.empty_ms,
            },
        )

    def predict(self, space: SearchSpace, genomes: Population) -> Prediction:
        """Estimate latency_ms of every row of `genomes` ([B, G], canonical).

        Spaces without sites are split into kernels network by network; for the others, `compile` once is faster.
        """
        if space.sites() is not None:
            return self.compile(space).predict(space, genomes)
        pool = KernelPool()
        places = [[pool.add(kernel) for kernel in network_kernels(space, genome, self.rules)] for genome in genomes]
        times = self.regression.predict(pool.ops)
        inside = self.context.inside_ms(pool.ops, times.mean_ms)
        mean = np.array([self.context.empty_ms + inside[numbers].sum() for numbers in places])
        extra = self._extra_std_ms(times, inside)
        return Prediction(
            quantity=self.quantity,
            mean=mean,
            std=np.hypot(self._relative_std(space) * mean, [extra[numbers].sum() for numbers in places]),
            source="predicted:kernels",
            in_range=np.array([bool(times.in_range[numbers].all()) for numbers in places]),
        )

    def _extra_std_ms(self, times: KernelTimes, inside_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """[K] uncertainty beyond that of the measured kernels, which the networks' own errors hold already."""
        usual = self.regression.errors.get("kernel_median_std", 0.0)
        return np.sqrt(np.maximum(times.relative_std**2 - usual**2, 0.0)) * np.abs(inside_ms)

    def _relative_std(self, space: SearchSpace) -> float:
        return self.relative_std.get(space.identity, self.relative_std[""])

    def report(self) -> dict[str, float]:
        """Errors on held-out networks of all spaces together, and of kernels left out (``kernel_…``)."""
        return {
            **self.regression.errors,
            **self.errors.get("", {}),
            "new_space_relative_rmse": self.relative_std[""],
            "overhead_ms": self.context.empty_ms,
        }

    def save(self, directory: Path) -> None:
        """Write ``kernels.json`` and ``kernels.npz`` into a folder, making it if needed."""
        directory.mkdir(parents=True, exist_ok=True)
        context = self.context
        arrays: dict[str, Any] = {f"context/{name}": getattr(context, name) for name in _CONTEXT_ARRAYS}
        arrays |= {"context/rows": context.traits.rows, "context/groups": context.traits.groups}
        arrays.update(self.regression.arrays())
        np.savez_compressed(directory / "kernels.npz", **arrays)
        content = {
            "format": FORMAT, "quantity": self.quantity, "device": self.device, "identity": self.identity,
            "rules": self.rules.to_json(), "known": self.regression.known, "kernel_errors": self.regression.errors,
            "empty_ms": context.empty_ms, "relative_std": self.relative_std, "errors": self.errors,
            "details": self.details,
        }  # fmt: skip
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=True)
        (directory / "kernels.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> KernelModel:
        """Read what `save` wrote; raises PredictorError for a missing, foreign or newer folder."""
        try:
            content = json.loads((directory / "kernels.json").read_text(encoding="utf-8"))
            with np.load(directory / "kernels.npz", allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, KeyError) as error:
            raise PredictorError(f"{directory}: no readable kernel model ({error}); fit it again.") from error
        if content.pop("format", None) != FORMAT:
            raise PredictorError(f"{directory}: written by another version of archsmith; fit the model again.")
        held = {name[8:]: arrays.pop(name) for name in list(arrays) if name.startswith("context/")}
        regression = KernelRegression.restore(arrays, content.pop("known"), content.pop("kernel_errors"))
        rules = FusionRules.from_json(content.pop("rules"))
        traits = KernelTraits(rows=held.pop("rows"), groups=held.pop("groups"))
        context = Context(empty_ms=content.pop("empty_ms"), traits=traits, **held)
        return cls(**content | {"rules": rules, "regression": regression, "context": context})


class _Networks:
    """Measured networks of several spaces, as counts of one pool of kernels."""

    def __init__(
        self,
        rules: FusionRules,
        regression: KernelRegression,
        networks: Sequence[MeasuredNetworks],
        empty_ms: float,
    ) -> None:
        pool = KernelPool()
        places: list[list[int]] = []
        self.names: list[str] = []
        self.fitted = np.zeros(0, dtype=np.bool_)
        for part in networks:
            places += [[pool.add(k) for k in network_kernels(part.space, genome, rules)] for genome in part.genomes]
            self.names += [part.space.identity] * len(part.genomes)
            kept = len(part.genomes) - part.held_out
            self.fitted = np.concatenate([self.fitted, np.arange(len(part.genomes)) < kept])
        self.counts = np.zeros((len(places), len(pool.ops)))
        for row, numbers in zip(self.counts, places, strict=True):
            row += np.bincount(numbers, minlength=len(pool.ops))
        self.latency_ms = np.concatenate([np.zeros(0), *(part.latency_ms for part in networks)])
        self.empty_ms = empty_ms
        self.kernels = pool.ops
        self.alone_ms = regression.predict(pool.ops).mean_ms
        rows = kernel_rows(pool.ops)
        self.spread = np.maximum(rows.std(axis=0), 1e-9) if len(rows) else np.ones(rows.shape[1])
        self.traits = KernelTraits.of(pool.ops, self.spread)

    def learn(self, chosen: NDArray[np.bool_]) -> Context:
        return learn_context(
            self.alone_ms, self.counts[chosen], self.latency_ms[chosen], traits=self.traits, spread=self.spread,
            empty_ms=self.empty_ms,
        )  # fmt: skip

    def predict(self, context: Context, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        held = np.flatnonzero(self.counts[rows].any(axis=0))
        inside = context.inside_ms([self.kernels[number] for number in held], self.alone_ms[held])
        return self.empty_ms + self.counts[np.ix_(rows, held)] @ inside

    def checked(self) -> dict[str, NDArray[np.int64]]:
        """Positions of the held-out networks by space, and of all of them under ``""``; only where there are some."""
        names, free = np.array(self.names), np.flatnonzero(~self.fitted)
        parts = {name: free[names[free] == name] for name in dict.fromkeys(self.names)}
        return {name: rows for name, rows in ({"": free} | parts).items() if len(rows)}

    def stds(self, context: Context) -> dict[str, float]:
        """Relative errors by space: of networks left out, and under ``""`` of whole spaces left out.

        Measurements that seem disturbed are not counted: they tell about the machine, not about the model.
        """
        names, steady = np.array(self.names), np.zeros(len(self.names), dtype=np.bool_)
        fitted = np.flatnonzero(self.fitted)
        steady[fitted] = context.weights >= 0.1
        left_out = np.zeros(len(self.names))
        left_out[fitted] = context.left_out
        overall = max(context.relative_std, 1e-12)
        out, away = {}, []
        for name in dict.fromkeys(self.names):
            mine = steady & (names == name)
            out[name] = max(_rms(left_out[mine]), 1e-12) if mine.sum() > 1 else overall
            others = self.fitted & (names != name)
            if others.sum() > 1 and mine.any():
                rows = np.flatnonzero(mine)
                away.append(_rms(self.predict(self.learn(others), rows) / self.latency_ms[rows] - 1.0))
        # One space alone cannot tell how others fare: there the prior of the corrections says what to expect.
        return out | {"": _of_few(np.array(away)) if away else max(GROUP_STD, *out.values())}


def _of_few(values: NDArray[np.float64]) -> float:
    """A standard deviation from few errors [n] around 0, wide enough that two of it hold what Student's t says."""
    from scipy import stats

    n = len(values)
    return _rms(values) * math.sqrt(1.0 + 1.0 / n) * float(stats.t.ppf(0.977, n)) / 2.0


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
