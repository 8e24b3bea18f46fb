"""Bayesian optimisation by joint posterior draws, with exact hypervolume improvement and discrete candidates.

Every proposal is what one draw of the posterior would have evaluated: for one objective the draw's best candidate, for
several the candidate that adds most hypervolume in that draw. So a batch is spread without further machinery, and
asking for one at a time or for a hundred both work. Objectives that are known (a latency model's) are not modelled but
used as they are; known constraints filter candidates, unknown ones weigh them by the probability to be met.

Source: Thompson sampling after Hernández-Lobato et al., ICML 2017, https://arxiv.org/abs/1706.01825; hypervolume by
draws after Daulton et al., "Differentiable expected hypervolume improvement", NeurIPS 2020,
https://arxiv.org/abs/2006.05078. Candidates are a pool of genomes, evolved where the space is too large to list.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ...predictors.blas import one_blas_thread
from ..enumeration import every_genome
from ..pareto import nondominated_mask, reference_point
from ..problem import Population, Problem
from ..strategy import Results, StrategyState
from .acquisition import directions, improvement
from .base import BaseStrategy, Candidates
from .belief import Belief, Believer, Evidence
from .repair import repair
from .variation import Variation

__all__ = ["Bayesian", "ModelBased"]

LISTED: Final = 20_000
"""Spaces up to this size are candidates as a whole."""

RAYS: Final = 64
ELITE: Final = 32

BOLDNESS: Final = 3.0
"""By what bold draws stretch deviations from the mean."""


class ModelBased(BaseStrategy):
    """What strategies share that fit a model to all results and look for candidates by it.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: first proposals, spread from small to large networks, before there is a model.
        pool: candidates that the model scores per call.
    """

    def __init__(self, problem: Problem, seed: int, *, initial: int = 10, pool: int = 2000) -> None:
        if initial < 2 or pool < 10:
            raise StrategyError(f"{self.name}: got initial {initial} and pool {pool}; at least 2 and 10 are needed.")
        super().__init__(problem, seed)
        self.initial = initial
        self.pool = pool
        self._believer = Believer(problem)
        self._variation = Variation(problem.space)
        width = len(problem.space.genes)
        self._genomes = np.empty((0, width), dtype=np.int16)
        self._values = np.empty((0, len(problem.objectives)))
        self._violations = np.empty((0, len(problem.constraints)))
        self._numbers = np.empty(0, dtype=np.int64)

    # --- what a model-based strategy adds -------------------------------------------------------------------------

    @abstractmethod
    def _choose(self, n: int, belief: Belief, pool: Population) -> NDArray[np.intp]:
        """At most `n` different rows of `pool` ([B, G], new and feasible as far as is known), the first ones best."""

    # --- proposing ------------------------------------------------------------------------------------------------

    def _candidates(self, n: int) -> Candidates:
        first = n if len(self._genomes) < 2 else min(n, max(0, self.initial - len(self.archive)))
        genomes, parents = self._variation.spread(first, self.rng), np.full(first, -1, dtype=np.int64)
        if first == n:
            return genomes, parents
        with one_blas_thread():
            belief = self._believe()
            pool = self._pool(belief)
            if not len(pool):
                return genomes, parents
            chosen = pool[self._choose(min(n - first, len(pool)), belief, pool)]
        return np.concatenate([genomes, chosen]), np.concatenate([parents, np.full(len(chosen), -1, dtype=np.int64)])

    def _believe(self) -> Belief:
        """The posterior that candidates are chosen by."""
        return self._believer.believe(self.evidence)

    @property
    def evidence(self) -> Evidence:
        """Every successful result."""
        return Evidence(genomes=self._genomes, values=self._values, violations=self._violations)

    @property
    def front(self) -> NDArray[np.float64]:
        """[F, M] non-dominated feasible values."""
        values = self._values[(self._violations <= 0).all(axis=1)]
        return values[nondominated_mask(values)] if len(values) else values

    def _pool(self, belief: Belief) -> Population:
        """New genomes that meet the known constraints: the whole space where it is small, else an evolved sample."""
        if self.space.size <= LISTED:
            return self._sampled(self._new(every_genome(self.space)))
        pool = self._new(np.concatenate([self._offspring(self._elite(), self.pool // 2), self._random(self.pool // 2)]))
        for _ in range(3):  # breed from what the model likes best
            score = self._score(belief.optimistic(pool, 1.0)) * belief.feasibility(pool)
            best = pool[np.argsort(-score, kind="stable")[:ELITE]]
            pool = self._new(np.concatenate([pool, self._offspring(best, self.pool // 4)]))
        return pool

    def _sampled(self, listed: Population) -> Population:
        """All of the list where it is short; else neighbours of the best and a random part."""
        if len(listed) <= self.pool:
            return listed
        near = self._new(np.concatenate([self.space.neighbors(row) for row in self._elite()[:10]]))
        rows = self.rng.choice(len(listed), self.pool, replace=False)
        return self._distinct(np.concatenate([near, listed[rows]]))

    def _elite(self) -> Population:
        """[<= ELITE, G] evaluated genomes with the best values, spread over the front."""
        feasible = np.flatnonzero((self._violations <= 0).all(axis=1))
        rows = feasible if len(feasible) else np.arange(len(self._values))
        values = self._values[rows]
        if values.shape[1] == 1:
            return self._genomes[rows[np.argsort(values[:, 0], kind="stable")[:ELITE]]]
        chosen = np.flatnonzero(nondominated_mask(values))
        if len(chosen) < ELITE:
            rest = np.setdiff1d(np.arange(len(values)), chosen)
            chosen = np.concatenate([chosen, rest[nondominated_mask(values[rest])]]) if len(rest) else chosen
        return self._genomes[rows[self.rng.permutation(chosen)[:ELITE]]]

    def _offspring(self, parents: Population, n: int) -> Population:
        """Children of one or two parents."""
        filled = self._variation.fill(parents, self.rng)
        first, second = self.rng.integers(0, len(parents), (2, n))
        children = filled[first]
        half = n // 2
        children[half:] = self._variation.cross(children[half:], filled[second[half:]], self.rng)
        self._variation.mutate(children, self.rng, 1.0 / len(self.space.genes), slice(0, half))
        return self._variation.finish(children)

    def _random(self, n: int) -> Population:
        return np.concatenate([self.space.sample(n - n // 2, self.rng), self._variation.spread(n // 2, self.rng)])

    def _new(self, genomes: Population) -> Population:
        """Those never proposed that meet the known constraints, each once."""
        if not len(genomes):
            return genomes
        if self._constrained and self.space.size > LISTED:
            genomes, violation = repair(self.problem, genomes, self.rng)
            genomes = genomes[violation <= 0]
        elif self._constrained:
            genomes = genomes[(self.problem.known_violations(genomes) <= 0).all(axis=1)]
        genomes = self._distinct(genomes)
        return genomes[~self.archive.holds(genomes)] if len(genomes) else genomes

    def _distinct(self, genomes: Population) -> Population:
        _, first = np.unique(genomes, axis=0, return_index=True)
        return genomes[np.sort(first)]

    def _score(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B] hypervolume that values [B, M] would add."""
        rays = directions(values.shape[1], RAYS, self.rng)
        return improvement(values, self.front, self._reference(), rays)

    def _reference(self) -> NDArray[np.float64]:
        """[M] beyond everything found so far."""
        feasible = self._values[(self._violations <= 0).all(axis=1)]
        return reference_point(feasible if len(feasible) else self._values)

    # --- learning -------------------------------------------------------------------------------------------------

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        ok = results.ok
        self._genomes = np.concatenate([self._genomes, results.genomes[ok]])
        self._values = np.concatenate([self._values, results.values[ok]])
        self._violations = np.concatenate([self._violations, results.violations[ok]])
        self._numbers = np.concatenate([self._numbers, numbers[ok]])

    def _memory(self) -> StrategyState:
        return StrategyState(
            scalars={"fitted": self._believer.fitted},
            arrays={
                "genomes": self._genomes,
                "values": self._values,
                "violations": self._violations,
                "numbers": self._numbers,
            },
        )

    def _recall(self, state: StrategyState) -> None:
        self._believer = Believer(self.problem)
        self._believer.fitted = int(str(state.scalars["fitted"]))
        self._genomes = np.asarray(state.arrays["genomes"], dtype=np.int16)
        self._values = np.asarray(state.arrays["values"], dtype=np.float64)
        self._violations = np.asarray(state.arrays["violations"], dtype=np.float64)
        self._numbers = np.asarray(state.arrays["numbers"], dtype=np.int64)


class Bayesian(ModelBased):
    """Thompson sampling by joint draws over the most promising candidates.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: first proposals, spread from small to large networks, before there is a model.
        pool: candidates that the model scores per call.
        shortlist: of those, how many the joint draws are over.
        bold: share of proposals that come from draws with deviations three times as large. A model that is too sure of
            itself can hold a search in one region for good: without them one search in a hundred stayed there.
    """

    name = "bayesian"

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        initial: int = 10,
        pool: int = 2000,
        shortlist: int = 512,
        bold: float = 0.2,
    ) -> None:
        super().__init__(problem, seed, initial=initial, pool=pool)
        if shortlist < 2 or not 0.0 <= bold <= 1.0:
            raise StrategyError(
                f"bayesian: got shortlist {shortlist} and bold {bold}; at least 2, and a share from 0 to 1, are needed."
            )
        self.shortlist = shortlist
        self.bold = bold

    def _choose(self, n: int, belief: Belief, pool: Population) -> NDArray[np.intp]:
        bold = int(self.rng.binomial(n, self.bold))
        taken = np.zeros(len(pool), dtype=np.bool_)
        feasible = belief.feasibility(pool)
        chosen = self._drawn(n - bold, belief, pool, feasible=feasible, taken=taken, stretch=1.0)
        return np.array(
            chosen + self._drawn(bold, belief, pool, feasible=feasible, taken=taken, stretch=BOLDNESS), dtype=np.intp
        )

    def _drawn(
        self,
        n: int,
        belief: Belief,
        pool: Population,
        *,
        feasible: NDArray[np.float64],
        taken: NDArray[np.bool_],
        stretch: float,
    ) -> list[int]:
        """Rows of the pool, one per draw; they are marked in `taken`."""
        if not n:
            return []
        front, reference = self.front, self._reference()
        rays = directions(len(reference), RAYS, self.rng)
        promise = self._promise(belief.optimistic(pool, stretch), front, reference, rays) * feasible
        promise[taken] = -np.inf
        rows = np.argsort(-promise, kind="stable")[: min(max(self.shortlist, 2 * n), int((~taken).sum()))]
        weight, chosen = feasible[rows], []
        for draw in belief.draw(pool[rows], n, self.rng, stretch=stretch):
            gain = improvement(draw, front, reference, rays) * weight
            free = ~taken[rows]
            if draw.shape[1] == 1 or not (gain[free] > 0).any():
                gain = self._closeness(draw, reference) * weight
            best = int(rows[np.where(free, gain, -np.inf).argmax()])
            taken[best] = True
            chosen.append(best)
        return chosen

    def _promise(
        self,
        values: NDArray[np.float64],
        front: NDArray[np.float64],
        reference: NDArray[np.float64],
        rays: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """[B] what decides the shortlist, from optimistic values [B, M]."""
        if values.shape[1] == 1:
            return -values[:, 0] + values[:, 0].max()
        gain = improvement(values, front, reference, rays)
        # Where few candidates would add anything, those that come close make up the list.
        return gain + 1e-9 * self._closeness(values, reference)

    @staticmethod
    def _closeness(values: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B] positive, larger for better values."""
        span = np.ptp(values, axis=0)
        scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
        return 1.0 + values.shape[1] - scaled.sum(axis=1)
