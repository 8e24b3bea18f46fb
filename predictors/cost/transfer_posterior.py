"""What a few measurements say about a new device: a mixture of Gaussian processes with heavy-tailed errors.

The mixture runs over what no prior can know of the device: which form of a network it runs, how far it strays from
combinations of known devices, and how noisy its measurements are. Each member is weighted by how well it predicts every
measurement from the others.

Source: Student-t errors by expectation-maximisation, Lange, Little, Taylor, JASA 84(408), 1989,
https://doi.org/10.1080/01621459.1989.10478852; leave-one-out predictions of a Gaussian process, Rasmussen and Williams
2006, equations 5.10 to 5.12.

Notation: N measurements, B candidates, P parts of the kernel, M members of the mixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .transfer_features import FORMS, Form, FormCodes
from .transfer_prior import Kernel
from .transfer_sources import DEGREES_OF_FREEDOM

__all__ = ["Mixture", "condition", "informative"]

STRAYS: Final = np.array([0.01, 0.1, 1.0])
"""Factors on the variance of all parts but the known devices': how much of its own a device has. Equally likely."""

NOISES: Final = np.array([0.01, 0.03, 0.06, 0.1, 0.17, 0.3, 0.5, 0.8])
"""Scales of the measurement noise, relative to the spread of the measured latencies."""

USUAL_NOISE: Final = 0.2
NOISE_LOG_STD: Final = 0.6
"""Noise is log-normal around the usual one. Known devices do not shift it: quiet ones say nothing of a phone."""

FORM_PRIOR: Final[Mapping[Form, float]] = {"as_is": 1.4, "exported": 0.6, "pruned": 0.3}
"""Devices' worth of belief in each form, before the known devices are counted."""

LEVEL_VARIANCE: Final = 25.0
STEPS: Final = 6
KEPT_WEIGHT: Final = 0.995
DESIGN_NOISE: Final = 0.3
DESIGN_FORMS: Final = frozenset[Form]({"as_is", "exported"})
""""pruned" is left out: telling it apart takes degenerate networks, which tell little of any other device."""

CANDIDATES: Final = 1000
REFERENCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A conditioned mixture, on standardised latencies.

    Attributes:
        center: median and scale of the measured latencies, in ms.
        scale: see `center`.
        forms: [M] number of the member's form in `FORMS`.
        strays: [M] the member's factor on the parts beyond the known devices.
        noises: [M] scale of its noise.
        weights: [M] posterior probabilities, summing to 1.
        duals: [M, N] inverse covariance times measured latencies.
        inverses: [M, N, N] inverse covariances of the measurements.
        left_out: [2, N] mean and standard deviation of every measurement predicted from the others, in ms.
    """

    center: float
    scale: float
    forms: NDArray[np.int64]
    strays: NDArray[np.float64]
    noises: NDArray[np.float64]
    weights: NDArray[np.float64]
    duals: NDArray[np.float64]
    inverses: NDArray[np.float64]
    left_out: NDArray[np.float64]

    def predict(
        self, kernel: Kernel, measured: FormCodes, asked: FormCodes
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [B] and standard deviation [B] of a new measurement, in ms."""
        first = next(iter(asked.values()))
        mean, second = np.zeros(len(first)), np.zeros(len(first))
        for number in np.unique(self.forms):
            form = FORMS[number]
            located = kernel.locate(asked[form])
            parts, own = kernel.parts(located, kernel.locate(measured[form])), kernel.own(located)
            for member in np.flatnonzero(self.forms == number):
                factors = kernel.factors(self.strays[member])
                cross = np.tensordot(factors, parts, 1) + LEVEL_VARIANCE
                value = cross @ self.duals[member]
                spread = factors @ own + LEVEL_VARIANCE - ((cross @ self.inverses[member]) * cross).sum(axis=1)
                weight = self.weights[member]
                mean += weight * value
                second += weight * (value**2 + np.maximum(spread, 0.0) + self.noises[member] ** 2)
        return self.center + self.scale * mean, self.scale * np.sqrt(np.maximum(second - mean**2, 1e-12))


def condition(kernel: Kernel, measured: FormCodes, latency_ms: NDArray[np.float64]) -> Mixture:
    """The mixture given measurements [N] of genomes whose codes, by form, are [N, G]."""
    center, scale = float(np.median(latency_ms)), float(latency_ms.std())
    scale = scale if scale > 1e-9 * abs(center) else abs(center)
    target = (latency_ms - center) / scale
    numbers, strays, noises, logs, covariances = _members(kernel, measured)
    inverses, duals, fits, left_out, spreads = _fit_heavy_tailed(covariances, noises, target)
    weights = np.exp(logs + fits - (logs + fits).max())
    weights /= weights.sum()
    left_mean, left_second = weights @ left_out, weights @ (left_out**2 + spreads)
    order = np.argsort(-weights)
    kept = order[: int(np.searchsorted(np.cumsum(weights[order]), KEPT_WEIGHT)) + 1]
    return Mixture(
        center=center,
        scale=scale,
        forms=numbers[kept],
        strays=strays[kept],
        noises=noises[kept],
        weights=weights[kept] / weights[kept].sum(),
        duals=duals[kept],
        inverses=inverses[kept],
        left_out=np.stack([center + scale * left_mean, scale * np.sqrt(left_second - left_mean**2)]),
    )


def _members(
    kernel: Kernel, measured: FormCodes
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Every combination of form, straying and noise: their values, log prior probabilities and covariances."""
    total = sum(FORM_PRIOR[form] + kernel.sources.forms.count(form) for form in measured)
    numbers, strays, noises, logs, covariances = [], [], [], [], []
    for form, codes in measured.items():
        located = kernel.locate(codes)
        parts = kernel.parts(located, located)
        share = (FORM_PRIOR[form] + kernel.sources.forms.count(form)) / total
        for stray in STRAYS:
            covariance = np.tensordot(kernel.factors(stray), parts, 1) + LEVEL_VARIANCE
            for level in NOISES:
                numbers.append(FORMS.index(form))
                strays.append(stray)
                noises.append(level)
                logs.append(np.log(share) - 0.5 * (np.log(level / USUAL_NOISE) / NOISE_LOG_STD) ** 2)
                covariances.append(covariance)
    return np.array(numbers), np.array(strays), np.array(noises), np.array(logs), np.stack(covariances)


def _fit_heavy_tailed(
    covariances: NDArray[np.float64], noises: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Inverses [M, N, N], duals [M, N], log leave-one-out densities [M], means [M, N] and variances [M, N]."""
    freedom, variances = DEGREES_OF_FREEDOM, noises[:, None] ** 2
    errors = np.repeat(variances, len(target), axis=1)
    inverses = _inverses(covariances, errors)
    for _ in range(STEPS):
        duals, precisions = inverses @ target, np.diagonal(inverses, axis1=1, axis2=2)
        expected = (errors * duals) ** 2 + errors - errors**2 * precisions
        errors = variances * (freedom + expected / variances) / (freedom + 1.0)
        inverses = _inverses(covariances, errors)
    duals, precisions = inverses @ target, np.diagonal(inverses, axis1=1, axis2=2)
    missed = duals / precisions
    spread = np.maximum(1.0 / precisions - errors, 0.0) + variances
    fits = (-0.5 * (freedom + 1.0) * np.log1p(missed**2 / (freedom * spread)) - 0.5 * np.log(spread)).sum(axis=1)
    return inverses, duals, fits, target - missed, spread


def _inverses(covariances: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """[M, N, N] inverses of the covariances plus diagonal errors [M, N]."""
    return np.linalg.inv(covariances + errors[:, :, None] * np.eye(errors.shape[1])).astype(np.float64)


def informative(kernel: Kernel, codes: FormCodes, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[count] rows of `codes` whose measurement, taken together, leaves the least variance over the others.

    Greedy, over a random sample of the rows; the sample and so the choice depend on `rng`.
    Source: Cohn, Neural Network Exploration Using Optimal Experiment Design, 1996 (integrated variance).
    """
    size = len(next(iter(codes.values())))
    rows = rng.permutation(size)[: max(CANDIDATES, count)]
    others = rng.permutation(size)[:REFERENCE]
    total = sum(FORM_PRIOR[form] + kernel.sources.forms.count(form) for form in codes if form in DESIGN_FORMS)
    covariance = np.full((len(rows), len(rows)), LEVEL_VARIANCE)
    cross = np.full((len(rows), len(others)), LEVEL_VARIANCE)
    for form, all_codes in codes.items():
        if form not in DESIGN_FORMS:
            continue
        share = (FORM_PRIOR[form] + kernel.sources.forms.count(form)) / total
        left, right = kernel.locate(all_codes[rows]), kernel.locate(all_codes[others])
        covariance += share * np.tensordot(kernel.variances, kernel.parts(left, left), 1)
        cross += share * np.tensordot(kernel.variances, kernel.parts(left, right), 1)
    chosen: list[int] = []
    for _ in range(count):
        gain = (cross**2).sum(axis=1) / (np.diag(covariance) + DESIGN_NOISE**2)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        root = np.sqrt(covariance[best, best] + DESIGN_NOISE**2)
        column, row = covariance[:, best] / root, cross[best] / root
        cross = cross - np.outer(column, row)
        covariance = covariance - np.outer(column, column)
    return rows[chosen]
