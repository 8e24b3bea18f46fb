"""Where the accuracy of a candidate comes from: shared weights, training alone, or a table.

A `Scoring` is opened by the stage that needs it, so that worker processes live no longer than the stage. Everything it
returns is the same for equal proposals; what was evaluated before, by whichever search, is not evaluated again.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from ...predictors.recipe import evaluation_keys
from ...predictors.tables.table import ACCURACY, Table
from ...predictors.tables.table import SOURCE as TABLE_SOURCE
from ...predictors.training import SOURCE as STANDALONE_SOURCE
from ...predictors.training import StandaloneSettings
from ..evaluators import Measured
from ..pool import Pool, open_pool
from ..strategy import Proposals
from .alone import RECIPE_VERSION, TRAINER
from .contracts import ResultStore, StoredResult, identity_of
from .prepare import Setting
from .remember import Remembered
from .train import WEIGHTS

__all__ = [
    "OnScored",
    "Scores",
    "Scoring",
    "StandaloneScoring",
    "SupernetScoring",
    "TableScoring",
    "recipe_identity",
    "scoring_of",
]

SCORER: Final = "archsmith.predictors.supernet.scoring:build_scorer"
SUPERNET_SOURCE: Final = "predicted:supernet"

OnScored = Callable[[int, int], None]
"""Called after every architecture with how many are done and how many there are; what it raises ends the call."""


class Scores(Protocol):
    """One quantity of proposals, and how many evaluations were saved because somebody had made them before."""

    reused: int

    def __call__(self, proposals: Proposals) -> Measured:
        """The quantity of every proposal; failures are rows, not exceptions."""
        ...


class Scoring(Protocol):
    """Opens `Scores` for as long as a stage needs them."""

    @property
    def identity(self) -> str:
        """Of everything that decides a value but the architecture; values of equal identities are comparable."""
        ...

    def open(self, on_scored: OnScored | None = None) -> AbstractContextManager[Mapping[str, Scores]]:
        """Start what evaluates; by label, the quantities that it tells."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetScoring:
    """Validation accuracy with the shared weights of a trained supernet."""

    setting: Setting
    supernet: StoredResult
    store: ResultStore

    @property
    def identity(self) -> str:
        """That of the trained weights."""
        return str(self.supernet.summary["identity"])

    @contextmanager
    def open(self, on_scored: OnScored | None = None) -> Iterator[Mapping[str, Scores]]:
        """Worker processes, each with the supernet loaded."""
        plan = self.setting.plan
        weights = str(self.supernet.directory / WEIGHTS)
        config = self.setting.worker_config | {"weights": weights, "settings": dict(plan.supernet)}
        with open_pool(plan.pool.kind, plan.pool.workers, SCORER, config, address=plan.pool.address) as pool:
            scores = Remembered(
                _through(pool, ACCURACY, SUPERNET_SOURCE, on_scored=on_scored),
                self.setting.space,
                self.store,
                recipe=self.identity,
                seed=plan.seed,
                source=SUPERNET_SOURCE,
            )
            yield {ACCURACY: scores}


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneScoring:
    """Validation accuracy after training alone; a fidelity is the share of the recipe's steps."""

    setting: Setting
    store: ResultStore

    @property
    def identity(self) -> str:
        """That of the recipe."""
        return recipe_identity(self.setting)

    @contextmanager
    def open(self, on_scored: OnScored | None = None) -> Iterator[Mapping[str, Scores]]:
        """Worker processes, each of which trains one candidate at a time."""
        plan = self.setting.plan
        config = self.setting.worker_config | {
            "settings": dict(plan.standalone), "recipe_genes": self.setting.joint
        }  # fmt: skip
        with open_pool(plan.pool.kind, plan.pool.workers, TRAINER, config, address=plan.pool.address) as pool:
            scores = Remembered(
                _through(pool, "valid_accuracy", STANDALONE_SOURCE, on_scored=on_scored, seed=plan.seed),
                self.setting.space,
                self.store,
                recipe=recipe_identity(self.setting),
                seed=plan.seed,
                source=STANDALONE_SOURCE,
                keys=functools.partial(evaluation_keys, self.setting.space),
            )
            yield {ACCURACY: scores}


@dataclass(frozen=True, slots=True)
class TableScoring:
    """Looked up; never remembered, because every row of a benchmark counts as an evaluation of its own."""

    table: Table
    quantities: tuple[str, ...] = (ACCURACY,)

    @property
    def identity(self) -> str:
        """That of the table's name, size and columns."""
        return identity_of(table=self.table.name, rows=len(self.table), columns=sorted(self.table.columns))

    @contextmanager
    def open(self, on_scored: OnScored | None = None) -> Iterator[Mapping[str, Scores]]:
        """Nothing to start."""
        del on_scored  # it is over at once
        yield {label: _TableScores(self.table, label) for label in self.quantities}


class _TableScores:
    def __init__(self, table: Table, label: str) -> None:
        self._table = table
        self._label = label
        self.reused = 0

    def __call__(self, proposals: Proposals) -> Measured:
        values = self._table.values(self._label, proposals.genomes, proposals.fidelity)
        ok = np.isfinite(values)
        errors = () if ok.all() else tuple(None if good else f"not in the table {self._table.name}" for good in ok)
        return Measured(values, np.zeros(len(values)), ok, TABLE_SOURCE, errors)


def scoring_of(setting: Setting, supernet: StoredResult | None, store: ResultStore) -> Scoring:
    """What the plan's evaluator is; `supernet` is the trained one, where it needs one."""
    if setting.plan.evaluator.kind == "standalone":
        return StandaloneScoring(setting=setting, store=store)
    assert supernet is not None
    return SupernetScoring(setting=setting, supernet=supernet, store=store)


def recipe_identity(setting: Setting) -> str:
    """Hash of everything that decides an accuracy after training alone but the architecture and the seed."""
    settings = StandaloneSettings.from_json(setting.plan.standalone)
    return identity_of(task=setting.task.identity, settings=settings.to_json(), version=RECIPE_VERSION)


def _through(
    pool: Pool, answer_name: str, source: str, *, on_scored: OnScored | None, seed: int = 0
) -> Callable[[Proposals], Measured]:
    """A measurer that hands every proposal to the pool."""

    def measure(proposals: Proposals) -> Measured:
        total, done = len(proposals), itertools.count(1)

        def on_done(index: int, answer: Mapping[str, Any]) -> None:
            if on_scored is not None:
                on_scored(next(done), total)

        items = [
            {"genome": genome, "fidelity": fidelity, "seed": seed}
            for genome, fidelity in zip(proposals.genomes.tolist(), proposals.fidelity.tolist(), strict=True)
        ]
        answers = pool.map(items, on_done)
        ok = np.array([answer.get("status") != "failed" for answer in answers], dtype=np.bool_)
        values = np.array([float(answer.get(answer_name, np.nan)) for answer in answers])
        seconds = np.array([float(answer.get("seconds", 0.0)) for answer in answers])
        errors = tuple(
            None if good else str(answer.get("error") or "cause not stated")
            for answer, good in zip(answers, ok, strict=True)
        )
        return Measured(values=values, seconds=seconds, ok=ok, source=source, errors=errors)

    return measure
