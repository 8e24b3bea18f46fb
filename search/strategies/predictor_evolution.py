"""Predictor-guided evolution in the loop: fit, search on the predictor with NSGA-II, evaluate what it found, fit again.

Source: LINAS, Cummings et al., "A hardware-aware framework for accelerating neural architecture search across
modalities", 2022, https://arxiv.org/abs/2205.10358; FBNetV3's NARS, Dai et al., CVPR 2021,
https://arxiv.org/abs/2006.02049. We deviate in the predictor (a Gaussian process in place of ridge or an MLP) and in
searching its optimistic values, half a standard deviation better than expected, so that the loop does not trust errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import StrategyError
from ..problem import Objective, Population, Problem, Quantity
from ..strategy import Results, TrialStatus
from .bayesian import ModelBased
from .belief import Belief
from .members import Members
from .nsga2 import NSGA2

__all__ = ["PredictorEvolution"]


class PredictorEvolution(ModelBased):
    """Proposes the front that evolution finds on the predictor.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        initial: first proposals, before there is a predictor.
        pool: population of the inner evolution.
        generations: of the inner evolution.
        kappa: standard deviations by which the inner evolution is optimistic.
    """

    name = "predictor_evolution"

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        initial: int = 20,
        pool: int = 200,
        generations: int = 20,
        kappa: float = 0.5,
    ) -> None:
        super().__init__(problem, seed, initial=initial, pool=pool)
        if generations < 1:
            raise StrategyError(f"predictor_evolution: got {generations} generations; at least 1 is needed.")
        self.generations = generations
        self.kappa = kappa

    def _pool(self, belief: Belief) -> Population:
        """The last generations of an evolution on the belief, started from the best evaluated genomes."""
        inner = NSGA2(self._inner_problem(belief), int(self.rng.integers(1 << 62)), population=self.pool)
        elite = self._elite()
        inner.tell(self._predicted(belief, np.concatenate([elite, self._random(self.pool - len(elite))])))
        seen = [elite]
        for _ in range(self.generations):
            genomes = inner.ask(self.pool).genomes
            if not len(genomes):
                break
            inner.tell(self._predicted(belief, genomes))
            seen.append(genomes)
        return self._new(np.concatenate(seen))

    def _choose(self, n: int, belief: Belief, pool: Population) -> NDArray[np.intp]:
        values = belief.optimistic(pool, self.kappa)
        members = Members(
            genomes=pool,
            values=values,
            violation=1.0 - belief.feasibility(pool),
            numbers=np.arange(len(pool)),
        )
        return members.best_first(n)

    def _inner_problem(self, belief: Belief) -> Problem:
        """The same space and known constraints, with every objective known by the belief."""

        def predicted(column: int) -> Quantity:
            return lambda genomes: belief.optimistic(genomes, self.kappa)[:, column]

        objectives = tuple(Objective(name=f"objective_{i}", direction="min") for i in range(self._values.shape[1]))
        known = {item.label: predicted(column) for column, item in enumerate(objectives)}
        constraints = tuple(item for item in self.problem.constraints if item.label in self.problem.known)
        return Problem(
            space=self.space,
            objectives=objectives,
            constraints=constraints,
            known={**self.problem.known, **known},
            equivalence=self.problem.equivalence,
        )

    def _predicted(self, belief: Belief, genomes: Population) -> Results:
        values = belief.optimistic(genomes, self.kappa)
        return Results(
            genomes=genomes,
            values=values,
            violations=np.zeros((len(genomes), 0)),
            fidelity=np.ones(len(genomes)),
            cost_s=np.zeros(len(genomes)),
            status=np.full(len(genomes), TrialStatus.OK, dtype=np.int8),
            sources=("predicted:surrogate",) * values.shape[1],
        )
