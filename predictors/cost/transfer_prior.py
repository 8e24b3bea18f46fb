"""The prior over devices: how much of a new device the known ones explain, and what the rest looks like.

A device's standardised latency is a Gaussian process over genomes whose kernel is a sum of five parts: a linear
combination of the known devices' smoothed latencies, one of hypothetical devices', how often each choice is made, each
choice in its place, and pairs of choices. The parts' variances maximise the evidence of the known devices, each
explained by the others: once by all of them, once without those that resemble it, so that a device like no other is
foreseen too. Known devices cannot tell how unlike them a new one is, so hypothetical ones keep a least variance.

Source: empirical Bayes for Gaussian processes, Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT
Press 2006, chapter 5, https://gaussianprocess.org/gpml/.

Notation: D devices, P parts of the kernel, N genomes of an evidence task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from .transfer_features import Codes, Encoding
from .transfer_sources import Sources

__all__ = ["PARTS", "Kernel", "Located", "alike", "hypothetical_weights", "learn_variances"]

PARTS: Final = ("sources", "hypothetical", "counts", "choices", "pairs")

PRIOR_VARIANCES: Final = (1.0, 0.3, 0.2, 0.003, 0.001)
"""Where nothing is known of the parts' variances, and what few devices are shrunk to."""

LEAST_VARIANCES: Final = (1e-5, 0.3, 1e-5, 1e-5, 1e-5)
MOST_VARIANCE: Final = 50.0

SHRINKAGE: Final = 0.3
ROWS: Final = 100
RIDGE: Final = 0.3
MIN_LIVE: Final = 50
MAIN_DIRECTIONS: Final = 8
NUGGET: Final = 0.02
ALIKE: Final = 0.98
"""Devices whose smoothed latencies correlate more than this resemble each other."""

SPREAD_DOF: Final = 10.0
"""How firmly a device's latencies keep to the scale of the kernel: degrees of freedom of its inverse-gamma prior."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Genomes as the kernel sees them.

    Attributes:
        codes: [B, G].
        known: [B, D] standardised latencies on the source devices.
        imagined: [B, H] latencies along the main directions of hypothetical devices.
        counts: [B, C] how often each choice is made.
    """

    codes: Codes
    known: NDArray[np.float64]
    imagined: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The parts of the covariance between genomes, each of variance 1 on average over the reference population.

    Attributes:
        encoding: similarities between genomes.
        sources: the known devices.
        hypothetical: [F + 1, H] weights of the design's columns, and offset, of the hypothetical devices' latencies.
        variances: [P] of the parts, as learnt.
    """

    encoding: Encoding
    sources: Sources
    hypothetical: NDArray[np.float64]
    variances: NDArray[np.float64]

    def locate(self, codes: Codes) -> Located:
        """Codes [B, G] as `parts` takes them."""
        matrix = self.sources.design.matrix(codes)
        return Located(
            codes=codes,
            known=matrix @ self.sources.weights + self.sources.offset,
            imagined=matrix @ self.hypothetical[:-1] + self.hypothetical[-1],
            counts=self.encoding.counts(codes),
        )

    def parts(self, left: Located, right: Located) -> NDArray[np.float64]:
        """[P, A, B] covariances of unit variance."""
        known = left.known @ right.known.T / left.known.shape[1]
        imagined, counts = left.imagined @ right.imagined.T, left.counts @ right.counts.T
        return np.stack([known, imagined, counts, *self.encoding.similarity(left.codes, right.codes)])

    def own(self, at: Located) -> NDArray[np.float64]:
        """[P, B] variance of every genome under every part."""
        known, imagined = (at.known**2).mean(axis=1), (at.imagined**2).sum(axis=1)
        return np.stack([known, imagined, (at.counts**2).sum(axis=1), *self.encoding.own(at.codes)])

    def factors(self, stray: float) -> NDArray[np.float64]:
        """[P] variances of a device with `stray` times the usual variance beyond the known devices."""
        return self.variances * np.r_[1.0, np.full(len(PARTS) - 1, stray)]


def hypothetical_weights(
    sources: Sources, codes: Codes, latency: NDArray[np.float64], live: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """[F + 1, H'] weights, and offset, of H hypothetical devices in the design, reduced to their main directions.

    Args:
        sources: their design is used.
        codes: [B, G].
        latency: [B, H] on the hypothetical devices.
        live: [B] rows in which every part is executed: others tell nothing of what a dead part costs.
    """
    matrix = sources.design.matrix(codes)
    rows = live if live.sum() >= MIN_LIVE else np.ones(len(codes), dtype=np.bool_)
    centred = matrix[rows] - matrix[rows].mean(axis=0)
    gram = centred.T @ centred + RIDGE * np.eye(matrix.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (latency[rows] - latency[rows].mean(axis=0)))
    values = (matrix - matrix.mean(axis=0)) @ weights
    weights = weights / np.maximum(values.std(axis=0), 1e-9)
    values = values / np.maximum(values.std(axis=0), 1e-9)
    _, directions = np.linalg.eigh(values.T @ values)
    weights = weights @ directions[:, -MAIN_DIRECTIONS:] / np.sqrt(latency.shape[1])
    return np.concatenate([weights, -(matrix.mean(axis=0) @ weights)[None]])


def learn_variances(kernel: Kernel, codes: Codes, rng: np.random.Generator) -> NDArray[np.float64]:
    """[P] variances that make the known devices most likely, each given the others; the prior's where there is one.

    Args:
        kernel: encoding and sources; its variances are not used.
        codes: [B, G] of the genomes that the sources were fitted on.
        rng: draws the rows of the tasks.
    """
    start = np.log(PRIOR_VARIANCES)
    tasks = _tasks(kernel, codes, rng)
    if not tasks:
        return np.exp(start)

    def loss(log_variances: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = 0.0, np.zeros(len(PARTS))
        for parts, target in tasks:
            one, gradient = _evidence(log_variances, parts, target)
            value, slope = value - one / len(tasks), slope - gradient / len(tasks)
        away = log_variances - start
        return value + SHRINKAGE * float(away @ away), slope + 2.0 * SHRINKAGE * away

    bounds = [(float(np.log(least)), float(np.log(MOST_VARIANCE))) for least in LEAST_VARIANCES]
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return np.exp(found.x)


def alike(known: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[D, D] which devices resemble each other, by their latencies [N, D]."""
    return np.atleast_2d(np.corrcoef(known.T)) > ALIKE


def _tasks(
    kernel: Kernel, codes: Codes, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Every device given the others, and given only those unlike it: parts [P, N, N] and its latencies [N]."""
    located = kernel.locate(codes)
    count = located.known.shape[1]
    if count < 2:
        return []
    resembling = alike(located.known)
    tasks = []
    for device in range(count):
        others = np.arange(count) != device
        unlike = others & ~resembling[device]
        for kept in [others] if (unlike == others).all() else [others, unlike]:
            if not kept.any():
                continue
            rows = rng.permutation(len(codes))[:ROWS]
            given = Located(
                codes=codes[rows],
                known=located.known[rows][:, kept],
                imagined=located.imagined[rows],
                counts=located.counts[rows],
            )
            tasks.append((kernel.parts(given, given), located.known[rows, device]))
    return tasks


def _evidence(
    log_variances: NDArray[np.float64], parts: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Log evidence of one task and its gradient; the level is integrated out, the scale under its prior.

    Source: Rasmussen and Williams 2006, equations 2.45 and 5.9; a Student-t process, Shah, Wilson, Ghahramani, AISTATS
    2014, https://arxiv.org/abs/1402.4306.
    """
    variances, count = np.exp(log_variances), len(target)
    covariance = np.tensordot(variances, parts, 1) + NUGGET**2 * np.eye(count)
    lower = np.linalg.cholesky(covariance)
    inverse: NDArray[np.float64] = linalg.cho_solve((lower, True), np.eye(count)).real
    ones = inverse.sum(axis=1)
    projected = inverse - np.outer(ones, ones) / ones.sum()
    weights = projected @ target
    freedom, quadratic = count - 1 + SPREAD_DOF, float(target @ weights) + SPREAD_DOF
    value = -0.5 * freedom * np.log(quadratic) - np.log(np.diag(lower)).sum() - 0.5 * np.log(ones.sum())
    inner = 0.5 * (freedom / quadratic * np.outer(weights, weights) - projected)
    gradient = variances * (parts * inner).sum(axis=(1, 2))
    return float(value), gradient
