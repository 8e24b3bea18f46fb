"""Latencies of the source devices as functions of the genome, free of measurement noise.

Each source is a ridge over choices and pairs of choices, fitted with heavy-tailed errors: a table of latencies has
outliers, mostly on the slow side. Pairs, ridge strength and form are chosen on held-out rows.

Notation: B rows, D devices, F columns of the design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...spaces.space import SearchSpace
from .transfer_features import Codes, Design, Form, codes_of, forms_of, gene_pairs

__all__ = ["DEGREES_OF_FREEDOM", "Sources", "fit_sources"]

DEGREES_OF_FREEDOM: Final = 4.0
"""Of Student's t, the law of measurement errors throughout: outliers are common and cost little."""

MAX_ROWS: Final = 6000
ROBUST_STEPS: Final = 4
STRENGTHS: Final = (0.3, 3.0, 30.0, 300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Smoothed, standardised latencies of D source devices.

    Attributes:
        design: the columns of the model.
        weights: [F, D] and offset [D]: standardised latency = design @ weights + offset.
        offset: [D].
        noise: [D] scale of the measurement noise relative to the spread of the device's latencies.
        forms: the form each device was found to run.
    """

    design: Design
    weights: NDArray[np.float64]
    offset: NDArray[np.float64]
    noise: NDArray[np.float64]
    forms: tuple[Form, ...]

    def standardised(self, codes: Codes) -> NDArray[np.float64]:
        """[B, D] smoothed latencies, mean 0 and spread 1 over the rows they were fitted on."""
        return self.design.matrix(codes) @ self.weights + self.offset


def fit_sources(
    space: SearchSpace, genomes: NDArray[np.int16], latency_ms: NDArray[np.float64], rng: np.random.Generator
) -> Sources:
    """Smooth `latency_ms` [B, D] over `genomes` [B, G]."""
    rows = rng.permutation(len(genomes))[:MAX_ROWS]
    latency = latency_ms[rows] / latency_ms[rows].std(axis=0)
    forms = forms_of(space, genomes)
    codes = {form: codes_of(space, genomes[rows], form) for form in forms}
    held_out = max(len(rows) // 5, 1)
    best: tuple[float, Design, float] | None = None
    for pairs in gene_pairs(space, codes["as_is"], len(rows)):
        design = Design.of(codes["as_is"], pairs)
        errors = _held_out_errors(design.matrix(codes["as_is"]), latency, held_out)
        strength = min(errors, key=lambda key: float(errors[key].mean()))
        if best is None or float(errors[strength].mean()) < best[0]:
            best = float(errors[strength].mean()), design, strength
    assert best is not None
    _, design, strength = best
    matrices = {form: design.matrix(codes[form]) for form in forms}
    scores = np.stack([_held_out_errors(matrices[form], latency, held_out, (strength,))[strength] for form in forms])
    chosen = tuple(forms[index] for index in scores.argmin(axis=0))
    fits = [_robust(matrices[form], latency[:, device], strength) for device, form in enumerate(chosen)]
    weights, offset = np.stack([fit[0] for fit in fits], axis=1), np.array([fit[1] for fit in fits])
    smooth = matrices["as_is"] @ weights + offset
    mean, spread = smooth.mean(axis=0), np.maximum(smooth.std(axis=0), 1e-9)
    return Sources(
        design=design,
        weights=weights / spread,
        offset=(offset - mean) / spread,
        noise=np.array([fit[2] for fit in fits]),
        forms=chosen,
    )


def _held_out_errors(
    matrix: NDArray[np.float64], latency: NDArray[np.float64], held_out: int, strengths: Sequence[float] = STRENGTHS
) -> dict[float, NDArray[np.float64]]:
    """Mean absolute error of every device [D] on the first rows, by ridge strength."""
    train, test = slice(held_out, None), slice(0, held_out)
    mean, level = matrix[train].mean(axis=0), latency[train].mean(axis=0)
    centred = matrix[train] - mean
    gram, target = centred.T @ centred, centred.T @ (latency[train] - level)
    errors = {}
    for strength in strengths:
        weights = np.linalg.solve(gram + strength * np.eye(len(gram)), target)
        errors[strength] = np.abs((matrix[test] - mean) @ weights + level - latency[test]).mean(axis=0)
    return errors


def _robust(
    matrix: NDArray[np.float64], latency: NDArray[np.float64], strength: float
) -> tuple[NDArray[np.float64], float, float]:
    """Ridge under Student-t errors by expectation-maximisation: weights [F], offset and scale of the errors."""
    trust = np.ones(len(latency))
    weights, offset, scale = np.zeros(matrix.shape[1]), 0.0, 1.0
    for _ in range(ROBUST_STEPS):
        mean, level = trust @ matrix / trust.sum(), float(trust @ latency / trust.sum())
        centred = matrix - mean
        weighted = centred * trust[:, None]
        gram = weighted.T @ centred + strength * np.eye(matrix.shape[1])
        weights = np.linalg.solve(gram, weighted.T @ (latency - level))
        offset = level - float(mean @ weights)
        residuals = latency - matrix @ weights - offset
        variance = max(float((trust * residuals**2).mean()), 1e-12)
        trust = (DEGREES_OF_FREEDOM + 1.0) / (DEGREES_OF_FREEDOM + residuals**2 / variance)
        scale = variance**0.5
    return weights, offset, scale
