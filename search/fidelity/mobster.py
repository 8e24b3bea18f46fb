"""MOBSTER: asynchronous successive halving whose new candidates come from a Gaussian process over genome and fidelity.

One process sees the results of all rungs and expects its own mean of those that are still running, so that cheap
evaluations teach it where to look and a batch does not propose the same idea many times. Candidates are chosen by what
they promise at the highest rung with enough results to say.

Source: Klein, Tiao, Lienart, Archambeau, Seeger, "Model-based Asynchronous Hyperparameter and Neural Architecture
Search", 2020, https://arxiv.org/abs/2003.10865. We deviate in the covariance, which adds a main effect of genes and of
fidelity to a product of both where the publication multiplies with a decay, and in joint posterior draws (hypervolume
improvement where there are several objectives) instead of expected improvement.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...predictors.features import Features, kernel_blocks
from ...predictors.regressors.covariance import Block
from ..problem import Population, Problem
from ..strategies.base import BaseStrategy, Candidates
from ..strategies.bayesian import Bayesian
from ..strategies.belief import Belief, Believer, Evidence
from ..strategy import Results, StrategyState
from .asha import ASHA
from .rungs import Rungs, Stage

__all__ = ["MOBSTER"]

ENOUGH: Final = 3
"""Results that a rung needs for candidates to be chosen by it."""


class MOBSTER(ASHA):
    """Asynchronous successive halving with model-based candidates.

    Args:
        problem: what is searched.
        seed: decides every proposal, together with what is told.
        eta: one in so many candidates goes on to the next rung, where the effort is so many times higher.
        rungs: how many; the lowest is at a fidelity of ``eta ** (1 - rungs)``.
        initial: first candidates, spread from small to large networks, before there is a model.
        pool: candidates that the model scores per call.
        shortlist: of those, how many the joint draws are over.
    """

    name = "mobster"

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        eta: int = 3,
        rungs: int = 4,
        initial: int = 10,
        pool: int = 1000,
        shortlist: int = 256,
    ) -> None:
        self._options = {"initial": initial, "pool": pool, "shortlist": shortlist}
        super().__init__(problem, seed, eta=eta, rungs=rungs)

    def _proposer(self, problem: Problem, seed: int) -> BaseStrategy:
        return _AcrossRungs(problem, seed, self.rungs, **self._options)


class _AcrossRungs(Bayesian):
    """Bayesian optimisation whose evidence is everything that the rungs hold."""

    name = "mobster_proposer"

    def __init__(self, problem: Problem, seed: int, table: Rungs, **options: int) -> None:
        super().__init__(problem, seed, **options)
        self._table = table
        self._features = _WithRung(Features(problem.space), len(table.fidelities))
        self._believer = self._new_believer()

    def _new_believer(self) -> Believer:
        return Believer(self.problem, self._features, self._features.blocks)

    def _candidates(self, n: int) -> Candidates:
        ok = self._table.stage == Stage.OK
        enough = np.flatnonzero(ok.sum(axis=0) >= ENOUGH)
        self._rung = int(enough[-1]) if len(enough) else 0
        at = np.flatnonzero(ok[:, self._rung])
        self._genomes = self._table.genomes[at]  # what improvement is measured against
        self._values = self._table.values[at, self._rung]
        self._violations = self._table.violations[at, self._rung]
        return super()._candidates(n)

    def _believe(self) -> Belief:
        belief = self._believer.believe(self.evidence)
        ids, rung = np.nonzero(self._table.stage == Stage.PENDING)
        pending = np.column_stack([self._table.genomes[ids], rung.astype(np.int16)])
        return belief.with_pending(pending).encoded_by(lambda genomes: self._features.at(genomes, self._rung))

    @property
    def evidence(self) -> Evidence:
        """Every successful result of every rung in the order told; the last column of a genome is the rung."""
        table = self._table
        ids, rung = np.nonzero(table.stage == Stage.OK)
        order = np.argsort(table.numbers[ids, rung], kind="stable")
        ids, rung = ids[order], rung[order]
        return Evidence(
            genomes=np.column_stack([table.genomes[ids], rung.astype(np.int16)]),
            values=table.values[ids, rung],
            violations=table.violations[ids, rung],
        )

    def _learn(self, results: Results, numbers: NDArray[np.int64]) -> None:
        """Nothing: the rungs remember."""

    def _memory(self) -> StrategyState:
        return StrategyState(scalars={"fitted": self._believer.fitted})

    def _recall(self, state: StrategyState) -> None:
        self._believer = self._new_believer()
        self._believer.fitted = int(str(state.scalars["fitted"]))


class _WithRung:
    """Features of genomes with their rung as one more column; the rungs are evenly spaced from 0 to 1."""

    def __init__(self, features: Features, rungs: int) -> None:
        self._features = features
        self._top = max(rungs - 1, 1)
        first = features.encodings[0]
        last = len(features.names)
        own = features.columns(first.kind)
        groups = (*first.groups, max(first.groups, default=-1) + 1)
        self.blocks = (
            *kernel_blocks(features),
            Block(name="fidelity", columns=(last,), shape="matern52"),
            Block(name="genes by fidelity", columns=(*own, last), groups=groups),
        )

    def __call__(self, rows: Population) -> NDArray[np.float64]:
        """[B, F + 1] of rows [B, G + 1], a genome and its rung."""
        return np.column_stack([self._features(np.ascontiguousarray(rows[:, :-1])), rows[:, -1] / self._top])

    def at(self, genomes: Population, rung: int) -> NDArray[np.float64]:
        """[B, F + 1] of genomes [B, G], all of them at one rung."""
        return np.column_stack([self._features(genomes), np.full(len(genomes), rung / self._top)])
