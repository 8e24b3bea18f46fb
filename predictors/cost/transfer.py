"""Few-shot transfer: latency on a new device from a handful of measurements and tables of other devices.

    transfer = FewShotTransfer().fit(space, genomes, latency_ms)      # tables of the source devices
    chosen = transfer.suggest(10)                                    # measure these on the new device
    model = transfer.adapt(chosen, measured_ms, device="my-board")   # a CostModel with stated uncertainty

The source devices' latencies are smoothed (`transfer_sources`); with devices that only physics knows
(`transfer_physics`) they make a prior over devices (`transfer_prior`), and the measurements turn it into a mixture of
Gaussian processes for the new device (`transfer_posterior`).

Notation: B source rows, D source devices, N measurements, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import PredictorError
from ...hwmodels.calibration import held_out_report
from ...spaces.space import SearchSpace
from .transfer_features import FORMS, Codes, Encoding, Form, FormCodes, forms_of, in_forms, take
from .transfer_model import TransferModel
from .transfer_physics import hypothetical_latencies, work_by_kind
from .transfer_posterior import Mixture, condition, informative
from .transfer_prior import PARTS, Kernel, alike, hypothetical_weights, learn_variances
from .transfer_sources import Sources, fit_sources

__all__ = ["MIN_MEASUREMENTS", "MIN_ROWS", "FewShotTransfer"]

MIN_MEASUREMENTS: Final = 5
MIN_ROWS: Final = 20
REHEARSALS: Final = 3
"""How many random choices of measurements every source device is rehearsed with."""

REHEARSAL_ROWS: Final = 400
PHYSICS_ROWS: Final = 3000
HYPOTHETICAL: Final = 64
CALIBRATION_RANGE: Final = (0.8, 3.0)
ONE_SD: Final = 0.683
"""Share of errors within one standard deviation, and share of devices for which the stated one shall be enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """What `fit` learnt."""

    space: SearchSpace
    genomes: NDArray[np.int16]
    latency_ms: NDArray[np.float64]
    names: tuple[str, ...]
    codes: FormCodes
    kernel: Kernel
    known_range: NDArray[np.float64]


class FewShotTransfer:
    """Adapts what is known of source devices to a new device. Works from 5 measurements; 10 are a good number.

    Args:
        seed: of what is drawn at random: rows for fitting, and the candidates that `suggest` chooses from.

    >>> from archsmith.spaces.gene import Gene
    >>> from archsmith.spaces.space import GeneSpace
    >>> space = GeneSpace([Gene(f"g{i}", (1, 2, 3)) for i in range(4)], name="toy")
    >>> genomes = space.sample(60, np.random.default_rng(0))
    >>> first, second = 1.0 + genomes.sum(axis=1), 2.0 + genomes[:, 0] * 3.0
    >>> transfer = FewShotTransfer().fit(space, genomes, np.stack([first, second], axis=1))
    >>> chosen = transfer.suggest(6)
    >>> model = transfer.adapt(chosen, 1.0 + 2.0 * chosen.sum(axis=1), device="mine")
    >>> model.predict(space, genomes).mean.shape
    (60,)
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._fit: _Fitted | None = None
        self._rehearsed: dict[int, tuple[float, dict[str, float]]] = {}

    def fit(
        self, space: SearchSpace, genomes: ArrayLike, latency_ms: ArrayLike, names: Sequence[str] | None = None
    ) -> Self:
        """Learn from the source devices.

        Args:
            space: the search space.
            genomes: [B, G] canonical.
            latency_ms: [B, D], or [B] for one device.
            names: [D] of the devices, for messages and details.

        Raises:
            PredictorError: too few rows, shapes that do not fit, a latency that is not finite and positive, or a device
                on which all latencies are equal.
            SpaceError: genomes of another space.
        """
        rows = space.check(np.asarray(genomes, dtype=np.int16))
        table = np.asarray(latency_ms, dtype=np.float64)
        table = table[:, None] if table.ndim == 1 else table
        labels = tuple(names) if names is not None else tuple(f"device {i}" for i in range(table.shape[-1]))
        _check_table(rows, table, labels)
        rng = np.random.default_rng(self.seed)
        sources = fit_sources(space, rows, table, rng)
        codes = in_forms(space, rows, forms_of(space, rows))
        kernel = _prior(space, rows, codes["as_is"], sources, rng)
        level = sources.standardised(codes["as_is"]).mean(axis=1)
        self._fit = _Fitted(
            space=space, genomes=rows, latency_ms=table, names=labels, codes=codes, kernel=kernel,
            known_range=np.array([level.min(), level.max()]),
        )  # fmt: skip
        self._rehearsed = {}
        return self

    def suggest_rows(self, count: int, *, seed: int | None = None) -> NDArray[np.int64]:
        """[count] rows of the fitted genomes to measure on the new device, the most informative first.

        Args:
            count: how many.
            seed: of the candidates that are compared, a random thousand; None = the constructor's.

        Raises:
            PredictorError: not fitted, or more asked than there are distinct architectures.
        """
        fitted = self._fitted()
        distinct = np.sort(np.unique(fitted.genomes, axis=0, return_index=True)[1])
        if not 1 <= count <= len(distinct):
            raise PredictorError(
                f"suggest: asked for {count} architectures; from 1 to {len(distinct)} distinct ones were fitted. Ask "
                "for fewer, or fit more rows."
            )
        codes = take(fitted.codes, distinct)
        seed = self.seed if seed is None else seed
        return distinct[informative(fitted.kernel, codes, count, np.random.default_rng(seed))]

    def suggest(self, count: int, *, seed: int | None = None) -> NDArray[np.int16]:
        """[count, G] genomes to measure on the new device; see `suggest_rows`."""
        return self._fitted().genomes[self.suggest_rows(count, seed=seed)]

    def adapt(self, genomes: ArrayLike, latency_ms: ArrayLike, *, device: str = "new device") -> TransferModel:
        """The model of a new device.

        Args:
            genomes: [N, G] canonical, measured on the new device; suggested ones tell most, any will do.
            latency_ms: [N].
            device: the device's name.

        Raises:
            PredictorError: not fitted, too few distinct architectures, shapes that do not fit, or a latency that is not
                finite and positive.
            SpaceError: genomes of another space.
        """
        fitted = self._fitted()
        measured = fitted.space.check(np.asarray(genomes, dtype=np.int16))
        latency = np.asarray(latency_ms, dtype=np.float64)
        _check_measurements(measured, latency, device)
        codes = in_forms(fitted.space, measured, tuple(fitted.codes))
        mixture = condition(fitted.kernel, codes, latency)
        calibration, errors = self._rehearse(len(measured))
        left_mean, left_std = mixture.left_out
        return TransferModel(
            device=device,
            space=fitted.space.identity,
            kernel=fitted.kernel,
            mixture=mixture,
            forms=tuple(fitted.codes),
            measured=measured,
            known_range=fitted.known_range,
            calibration=calibration,
            errors=held_out_report(left_mean, latency, left_std * calibration) | errors,
            details={
                "measurements": len(measured),
                "sources": list(fitted.names),
                "source_forms": dict(zip(fitted.names, fitted.kernel.sources.forms, strict=True)),
                "variances": dict(zip(PARTS, map(float, fitted.kernel.variances), strict=True)),
                **_summary(mixture, tuple(fitted.codes)),
            },
        )

    def _fitted(self) -> _Fitted:
        if self._fit is None:
            raise PredictorError("few-shot transfer is not fitted; call fit(space, genomes, latency_ms) first.")
        return self._fit

    def _rehearse(self, count: int) -> tuple[float, dict[str, float]]:
        """Treat every source device as new: the factor that makes stated uncertainties true, and the errors made."""
        if count not in self._rehearsed:
            fitted = self._fitted()
            rng = np.random.default_rng([self.seed, count])
            devices = fitted.latency_ms.shape[1]
            runs = [_rehearsal(fitted, d, count, rng) for d in range(devices if devices > 1 else 0)]
            self._rehearsed[count] = _judge([device for device in runs if device])
        return self._rehearsed[count]


Rehearsal = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Predicted, measured and stated standard deviation, [R] each."""


def _rehearsal(fitted: _Fitted, device: int, count: int, rng: np.random.Generator) -> list[Rehearsal]:
    """A source device known only from `count` of its measurements, predicted from the devices that it is unlike.

    A new device may resemble none of the known ones, and what its uncertainty is worth shows only on such.
    """
    kernel = fitted.kernel
    others = np.arange(len(fitted.names)) != device
    unlike = others & ~alike(kernel.locate(fitted.codes["as_is"]).known)[device]
    others = unlike if unlike.any() else others
    sources = replace(
        kernel.sources,
        weights=kernel.sources.weights[:, others],
        offset=kernel.sources.offset[others],
        noise=kernel.sources.noise[others],
        forms=tuple(form for form, kept in zip(kernel.sources.forms, others, strict=True) if kept),
    )
    kernel = replace(kernel, sources=sources)
    runs = []
    for _ in range(REHEARSALS):
        order = rng.permutation(len(fitted.genomes))
        shown, asked = order[:count], order[count : count + REHEARSAL_ROWS]
        if len(asked) < MIN_MEASUREMENTS:
            continue
        seen = take(fitted.codes, shown)
        mixture = condition(kernel, seen, fitted.latency_ms[shown, device])
        mean, std = mixture.predict(kernel, seen, take(fitted.codes, asked))
        runs.append((mean, fitted.latency_ms[asked, device], std))
    return runs


def _judge(devices: list[list[Rehearsal]]) -> tuple[float, dict[str, float]]:
    """The calibration factor, shrunk to 1 where few devices speak, and the mean errors.

    Each device's factor puts the wanted share of its errors within one standard deviation; the one returned is enough
    for the same share of devices.
    Source: split conformal prediction with whole devices held out; Vovk, Gammerman, Shafer, Algorithmic Learning in a
    Random World, Springer 2005, https://doi.org/10.1007/b106715. We shrink, which it does not.
    """
    if not devices:
        return 1.0, {}
    logs = [
        float(
            np.mean([np.log(max(np.quantile(np.abs(mean - actual) / std, ONE_SD), 1e-3)) for mean, actual, std in runs])
        )
        for runs in devices
    ]
    factor = float(np.exp(np.quantile(logs, ONE_SD) * len(logs) / (len(logs) + 3.0)))
    factor = float(np.clip(factor, *CALIBRATION_RANGE))
    reports = [held_out_report(mean, actual, std * factor) for runs in devices for mean, actual, std in runs]
    return factor, {f"sources_{name}": float(np.mean([report[name] for report in reports])) for name in reports[0]}


def _prior(
    space: SearchSpace, genomes: NDArray[np.int16], codes: Codes, sources: Sources, rng: np.random.Generator
) -> Kernel:
    """The prior over devices, its variances learnt."""
    rows = rng.permutation(len(genomes))[:PHYSICS_ROWS]
    work = work_by_kind(space, genomes[rows])
    hypothetical = np.zeros((sources.design.size + 1, 1))
    if work is not None:
        latency = hypothetical_latencies(work, HYPOTHETICAL, rng)
        forms = in_forms(space, genomes[rows], forms_of(space, genomes[rows])).values()
        live = np.logical_and.reduce([(form == codes[rows]).all(axis=1) for form in forms])
        hypothetical = hypothetical_weights(sources, codes[rows], latency, live)
    kernel = Kernel(
        encoding=Encoding.of(space, codes), sources=sources, hypothetical=hypothetical, variances=np.ones(len(PARTS))
    )
    return replace(kernel, variances=learn_variances(kernel, codes, rng))


def _summary(mixture: Mixture, forms: tuple[Form, ...]) -> dict[str, float]:
    """What the measurements say of the device itself."""
    share = np.bincount(mixture.forms, weights=mixture.weights, minlength=len(FORMS))
    return {
        "relative_noise": float(mixture.weights @ mixture.noises),
        "stray": float(mixture.weights @ mixture.strays),
        **{f"probability_{form}": float(share[FORMS.index(form)]) for form in forms},
    }


def _check_table(genomes: NDArray[np.int16], table: NDArray[np.float64], names: tuple[str, ...]) -> None:
    if table.ndim != 2 or len(table) != len(genomes) or table.shape[1] != len(names) or not names:
        raise PredictorError(
            f"few-shot transfer: got {len(genomes)} genomes, latencies of shape {table.shape} and {len(names)} device "
            "names; latencies must be [genomes, devices] with one name per device."
        )
    if len(genomes) < MIN_ROWS:
        raise PredictorError(
            f"few-shot transfer: got {len(genomes)} genomes measured on the source devices; at least {MIN_ROWS} are "
            "needed. Measure more, or use a roofline model."
        )
    for device, name in enumerate(names):
        wrong = np.flatnonzero(~(np.isfinite(table[:, device]) & (table[:, device] > 0)))
        if len(wrong):
            raise PredictorError(
                f"few-shot transfer: latency of genome {wrong[0]} on {name} is {table[wrong[0], device]}; it must be "
                "finite and positive. Leave that genome or that device out."
            )
        if np.ptp(table[:, device]) == 0.0:
            raise PredictorError(f"few-shot transfer: all latencies on {name} are equal; leave that device out.")


def _check_measurements(genomes: NDArray[np.int16], latency: NDArray[np.float64], device: str) -> None:
    if latency.shape != (len(genomes),):
        raise PredictorError(
            f"adapting to {device}: got {len(genomes)} genomes and latencies of shape {latency.shape}; one latency per "
            "genome is needed."
        )
    distinct = len(np.unique(genomes, axis=0))
    if distinct < MIN_MEASUREMENTS:
        raise PredictorError(
            f"adapting to {device}: got measurements of {distinct} different architectures; at least "
            f"{MIN_MEASUREMENTS} are needed. Measure more of those that suggest() names."
        )
    wrong = np.flatnonzero(~(np.isfinite(latency) & (latency > 0)))
    if len(wrong):
        raise PredictorError(
            f"adapting to {device}: measurement {wrong[0]} is {latency[wrong[0]]}; all must be finite and positive. "
            "Measure that architecture again, or leave it out."
        )
