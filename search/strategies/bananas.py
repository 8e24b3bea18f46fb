"""BANANAS: an ensemble of networks on the path encoding, independent Thompson sampling, mutants of the best.

Source: White, Neiswanger, Savani, "BANANAS: Bayesian optimization with neural architectures for neural architecture
search", AAAI 2021, https://arxiv.org/abs/1910.11858. We deviate in the members (two wide layers on the Gaussian
likelihood, all trained at once, in place of ten narrow ones on absolute errors), in spaces without paths, whose genes
are encoded, and for several objectives, of which each draw is ranked by constraint-domination.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ...predictors.encodings import available, encoding
from ...predictors.regressors.deep_ensemble import DeepEnsemble, DeepEnsembleSettings
from ..problem import Population, Problem
from ..strategy import Results, StrategyState
from .base import BaseStrategy, Candidates
from .members import Members

__all__ = ["BANANAS"]

ENCODINGS = ("path", "genes")
"""The first of them that a space has is used."""


class BANANAS(BaseStrategy):
    """Mutants of the best, chosen by independent draws from what an ensemble predicts of them.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: uniform samples before there is an ensemble.
        pool: candidates per genome that is asked for.
        best: how many evaluated genomes are mutated.
        refit: new results after which the ensemble is trained anew; more where there are many results.
        members: networks of the ensemble.
        steps: training steps of the ensemble.
    """

    name = "bananas"

    def __init__(
        self, problem: Problem, seed: int, *, initial: int = 10, pool: int = 100, best: int = 10, refit: int = 10,
        members: int = 5, steps: int = 200,
    ) -> None:  # fmt: skip
        if initial < DeepEnsemble.least or min(pool, best, refit, members, steps) < 1:
            raise StrategyError(
                f"bananas: got initial {initial}, pool {pool}, best {best}, refit {refit}, members {members} and steps "
                f"{steps}; initial must be at least {DeepEnsemble.least} and the others at least 1."
            )
        super().__init__(problem, seed)
        self.initial, self.pool, self.best, self.refit = initial, pool, best, refit
        self._settings = DeepEnsembleSettings(members=members, steps=steps)
        kinds = available(problem.space, ENCODINGS)
        self._encoding = encoding(problem.space, next(kind for kind in ENCODINGS if kind in kinds)) if kinds else None
        self.members = Members.none(problem)
        self._fitted = (0, 0)  # results of the last training, and its seed
        self._ensembles: list[DeepEnsemble | None] | None = None
        self._violated: DeepEnsemble | None = None

    # --- proposing ------------------------------------------------------------------------------------------------

    def _candidates(self, n: int) -> Candidates:
        if self._encoding is None or len(self.members) < DeepEnsemble.least:
            return self._uniform(n)
        first = min(n, max(0, self.initial - len(self.archive)))
        genomes, parents = self._uniform(first)
        if first == n:
            return genomes, parents
        self._train()
        near, origins = self._mutants(n - first)
        chosen = self._draw(near).best_first(n - first)
        return np.concatenate([genomes, near[chosen]]), np.concatenate([parents, origins[chosen]])

    def _mutants(self, n: int) -> Candidates:
        """Different new mutants of the best, some of them uniform samples where there are too few."""
        elite = self.members.best_first(self.best)
        origin = elite[self.rng.integers(0, len(elite), max(self.pool, min(10 * n, 2000)))]
        genomes = self.space.mutate(self.members.genomes[origin], self.rng)
        numbers = self.members.numbers[origin]
        _, rows = np.unique(genomes, axis=0, return_index=True)
        rows = np.sort(rows)
        rows = rows[~self.archive.holds(genomes[rows])]
        if len(rows) >= n:
            return genomes[rows], numbers[rows]
        more, none = self._uniform(n)
        return np.concatenate([genomes[rows], more]), np.concatenate([numbers[rows], none])

    def _draw(self, genomes: Population) -> Members:
        """What one independent draw per genome says of it."""
        assert self._encoding is not None
        assert self._ensembles is not None
        x = self._encoding(genomes)
        values = np.empty((len(genomes), len(self.problem.objectives)))
        for column, (objective, ensemble) in enumerate(zip(self.problem.objectives, self._ensembles, strict=True)):
            if ensemble is None:
                values[:, column] = objective.sign * self.problem.known[objective.label](genomes)
            else:
                mean, std = ensemble.predict(x)
                values[:, column] = self.rng.normal(mean, std)
        violation = np.zeros(len(genomes))
        if self._violated is not None:
            violation = np.maximum(self._violated.predict(x)[0] - 0.5, 0.0)
        return Members(genomes=genomes, values=values, violation=violation, numbers=np.arange(len(genomes)))

    def _train(self) -> None:
        """Train where enough results are new; a restored strategy trains as the stopped one did."""
        rows, seed = self._fitted
        if not rows or len(self.members) - rows >= max(self.refit, rows // 10):
            rows, seed = self._fitted = (len(self.members), int(self.rng.integers(1 << 31)))
            self._ensembles = None
        if self._ensembles is not None:
            return
        assert self._encoding is not None
        x = self._encoding(self.members.genomes[:rows])
        self._ensembles = [
            None if objective.label in self.problem.known else self._fit(x, self.members.values[:rows, column], seed)
            for column, objective in enumerate(self.problem.objectives)
        ]
        violated = (self.members.violation[:rows] > 0).astype(np.float64)
        self._violated = self._fit(x, violated, seed) if np.ptp(violated) > 0 else None

    def _fit(self, x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> DeepEnsemble:
        settings = self._settings
        ensemble = DeepEnsemble(DeepEnsembleSettings(members=settings.members, steps=settings.steps, seed=seed))
        ensemble.fit(x, y)
        return ensemble

    # --- learning -------------------------------------------------------------------------------------------------

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        self.members = Members.join([self.members, Members.successful(results, numbers)])

    def _memory(self) -> StrategyState:
        rows, seed = self._fitted
        return StrategyState(
            scalars={"trained_on": rows, "trained_seed": seed}, arrays=dict(self.members.arrays("members"))
        )

    def _recall(self, state: StrategyState) -> None:
        self.members = Members.from_arrays("members", state.arrays)
        self._fitted = (int(str(state.scalars["trained_on"])), int(str(state.scalars["trained_seed"])))
        self._ensembles = self._violated = None
