"""What a model-based strategy believes of genomes: one Gaussian process per quantity that must be evaluated.

Objectives that the problem knows are taken as they are. Parameters are fitted when the number of results has grown by a
quarter; in between, new results only enter the posterior. Both depend on nothing but the results told and `fitted`, so
that a restored strategy believes exactly what the stopped one did.

Notation: N results, B genomes, M objectives, C constraints, R draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...predictors.features import Features, kernel_blocks
from ...predictors.regressors.covariance import Block
from ...predictors.regressors.gp import GaussianProcess
from ..problem import Population, Problem

__all__ = ["Belief", "Believer", "Evidence"]

GROWTH: Final = 1.25
"""Parameters are fitted anew when the results are so many times those of the last fit."""

MOST_ROWS: Final = 600
"""Most results that a posterior is conditioned on at a fit: its cost grows with their cube."""

Array = NDArray[np.float64]
Encode = Callable[[Population], Array]
"""[B, G] rows to [B, F] features of the models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Successful results in the order told: genomes [N, G], minimised values [N, M], violations [N, C]."""

    genomes: Population
    values: Array
    violations: Array

    def __len__(self) -> int:
        return len(self.genomes)

    def rows(self, index: NDArray[np.intp]) -> Evidence:
        """Some of them."""
        return Evidence(genomes=self.genomes[index], values=self.values[index], violations=self.violations[index])


class Belief:
    """Posterior of every objective and of meeting the constraints, given some evidence."""

    def __init__(
        self,
        problem: Problem,
        features: Encode,
        objectives: list[GaussianProcess | None],
        constraints: list[GaussianProcess],
    ) -> None:
        self._problem = problem
        self._features = features
        self._objectives = objectives
        self._constraints = constraints

    def optimistic(self, genomes: Population, kappa: float) -> Array:
        """[B, M] values `kappa` standard deviations better than expected."""
        out = self._known(genomes)
        x = self._features(genomes)
        for column, model in enumerate(self._objectives):
            if model is not None:
                mean, std = model.predict_latent(x)
                out[:, column] = model.to_targets(mean - kappa * std)
        return out

    def expected(self, genomes: Population) -> Array:
        """[B, M] medians."""
        return self.optimistic(genomes, 0.0)

    def draw(self, genomes: Population, count: int, rng: np.random.Generator, *, stretch: float = 1.0) -> Array:
        """[R, B, M] joint draws of what the values may be, their deviations from the mean times `stretch`."""
        known = self._known(genomes)
        out = np.repeat(known[None], count, axis=0)
        x = self._features(genomes)
        for column, model in enumerate(self._objectives):
            if model is not None:
                posterior = model.posterior(x)
                drawn = posterior.mean + stretch * (posterior.sample(count, rng) - posterior.mean)
                out[:, :, column] = model.to_targets(drawn)
        return out

    def feasibility(self, genomes: Population) -> Array:
        """[B] probability that the constraints which must be evaluated are met."""
        out = np.ones(len(genomes))
        if self._constraints:
            x = self._features(genomes)
            for model in self._constraints:
                out *= 1.0 - model.predict(x)[0].clip(0.0, 1.0)
        return out

    def with_pending(self, genomes: Population) -> Belief:
        """A belief that takes its own expectation for the results of genomes [P, G] that are being evaluated."""
        if not len(genomes):
            return self
        x = self._features(genomes)
        objectives = [None if model is None else model.with_pending(x) for model in self._objectives]
        return Belief(self._problem, self._features, objectives, [model.with_pending(x) for model in self._constraints])

    def encoded_by(self, features: Encode) -> Belief:
        """The same models, asked through other `features`, for instance with a column fixed."""
        return Belief(self._problem, features, self._objectives, self._constraints)

    def _known(self, genomes: Population) -> Array:
        """[B, M] minimised values of the objectives that need no evaluation, NaN for the others."""
        out = np.full((len(genomes), len(self._objectives)), np.nan)
        for column, objective in enumerate(self._problem.objectives):
            if self._objectives[column] is None:
                out[:, column] = objective.sign * self._problem.known[objective.label](genomes)
        return out


class Believer:
    """Turns evidence into a belief.

    Args:
        problem: what is searched.
        features: rows of the evidence to features of the models, and `blocks` the covariance over those; None = the
            space's own.

    Attributes:
        fitted: results at the last fit of parameters; part of a strategy's state.
    """

    def __init__(self, problem: Problem, features: Encode | None = None, blocks: Sequence[Block] | None = None) -> None:
        self._problem = problem
        own = Features(problem.space)
        self._features: Encode = features or own
        self._blocks = kernel_blocks(own) if blocks is None else tuple(blocks)
        self._unknown = [objective.label not in problem.known for objective in problem.objectives]
        self._open = [i for i, item in enumerate(problem.constraints) if item.label not in problem.known]
        self.fitted = 0
        self._base: tuple[int, list[GaussianProcess | None], list[GaussianProcess]] | None = None

    def believe(self, evidence: Evidence) -> Belief:
        """The posterior; needs at least two results."""
        if len(evidence) >= GROWTH * self.fitted:
            self.fitted = len(evidence)
        if self._base is None or self._base[0] != self.fitted:
            self._base = (self.fitted, *self._fit(evidence))
        _, objectives, constraints = self._base
        if len(evidence) > self.fitted:
            objectives, constraints = self._extended(evidence, objectives, constraints)
        return Belief(self._problem, self._features, objectives, constraints)

    def _fit(self, evidence: Evidence) -> tuple[list[GaussianProcess | None], list[GaussianProcess]]:
        first = evidence.rows(np.arange(self.fitted))
        x_all = self._features(first.genomes)
        rows = _spread_rows(first.values)
        x = x_all[rows]
        objectives = [
            self._model(x, first.values[rows, column]) if unknown else None
            for column, unknown in enumerate(self._unknown)
        ]
        violated = [(column, (first.violations[rows, column] > 0).astype(np.float64)) for column in self._open]
        self._modelled = [column for column, indicator in violated if np.ptp(indicator) > 0]
        constraints = [self._model(x, indicator) for _, indicator in violated if np.ptp(indicator) > 0]
        return objectives, constraints

    def _extended(
        self, evidence: Evidence, objectives: list[GaussianProcess | None], constraints: list[GaussianProcess]
    ) -> tuple[list[GaussianProcess | None], list[GaussianProcess]]:
        new = evidence.rows(np.arange(self.fitted, len(evidence)))
        x = self._features(new.genomes)
        return (
            [
                None if model is None else model.with_rows(x, new.values[:, column])
                for column, model in enumerate(objectives)
            ],
            [
                model.with_rows(x, (new.violations[:, column] > 0).astype(np.float64))
                for column, model in zip(self._modelled, constraints, strict=True)
            ],
        )

    def _model(self, x: Array, y: Array) -> GaussianProcess:
        model = GaussianProcess(self._blocks)
        model.fit(x, y)
        return model


def _spread_rows(values: Array) -> NDArray[np.intp]:
    """Which results a fit sees where there are too many: the best half of them, and the others evenly in time."""
    count = len(values)
    if count <= MOST_ROWS:
        return np.arange(count)
    span = np.ptp(values, axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
    best = np.argsort(scaled.min(axis=1) + scaled.mean(axis=1), kind="stable")[: MOST_ROWS // 2]
    rest = np.setdiff1d(np.arange(count), best)
    even = rest[np.linspace(0, len(rest) - 1, MOST_ROWS - len(best)).round().astype(np.intp)]
    return np.sort(np.concatenate([best, even]))
