"""A search over a benchmark table: the same search stage, with nothing to train, to measure or to export.

Costs are known before evaluation and accuracy is looked up per trial, so that strategies compare as on live networks.
`verify` reads the test column, which no search sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import spaces
from ...errors import ConfigError
from ...predictors.ranking import agreement
from ...predictors.tables.formats import read_table
from ...predictors.tables.table import ACCURACY, SOURCE, TEST_ACCURACY, Table
from ..evaluators import CompositeEvaluator
from ..pareto import nondominated_mask
from ..problem import Population, Quantity
from ..protocol import compare_fronts
from ..strategies import catalog as strategies
from ..strategy import Proposals
from .contracts import Observation, Plan, Recorder, Stage, VerifiedMember
from .explore import Exploration, columns_of, explore
from .prepare import FREE_QUANTITIES, SearchSetting, free_quantities
from .scoring import TableScoring
from .select import random_feasible, spread_members
from .verify import plain
from .warm_start import EarlierSearch

__all__ = ["TableCosts", "open_table", "queried", "run_on_table"]


@dataclass(frozen=True, slots=True)
class TableCosts:
    """What a table tells of an architecture before it is evaluated: counts, and everything of a device."""

    table: Table

    @property
    def known(self) -> dict[str, Quantity]:
        """By label; counts that the table does not have are those of the space."""
        known = free_quantities(self.table.space)
        for name in self.table.columns:
            if "@" in name or name in FREE_QUANTITIES:
                known[name] = self._looked_up(name)
        return known

    def source(self, quantity: str) -> str:
        """Measured where the table has it."""
        return SOURCE if quantity in self.table.columns else "predicted:exact-count"

    def _looked_up(self, name: str) -> Quantity:
        return lambda genomes: self.table.values(name, genomes)


def open_table(plan: Plan) -> tuple[SearchSetting, Table]:
    """The plan's space and table, checked against its objectives and constraints.

    Raises:
        ConfigError: no path, an unreadable table, or a quantity that it does not have.
    """
    if plan.evaluator.path is None:
        raise ConfigError("evaluator.path", None, "the path of the table")
    space = spaces.get(plan.space.name, plan.space.preset, **plan.space.options)
    table = read_table(Path(plan.evaluator.path), space, plan.evaluator.columns)
    allowed = sorted({*table.columns, *FREE_QUANTITIES} - {TEST_ACCURACY})
    for place, items in (("objectives", plan.objectives), ("constraints", plan.constraints)):
        for index, item in enumerate(items):
            if item.label not in allowed:
                raise ConfigError(f"{place}[{index}]", item.label, ", ".join(allowed))
    if strategies.multi_fidelity(plan.strategy.name) and not any(
        len(table.columns[name].fidelities) > 1 for name in queried(table)
    ):
        raise ConfigError(
            "strategy.name",
            plan.strategy.name,
            "a strategy that evaluates with full effort only",
            f"The table {table.name} has no values at a part of the effort.",
        )
    return SearchSetting(plan=plan, space=space), table


def queried(table: Table) -> tuple[str, ...]:
    """The quantities of a table that cost an evaluation."""
    known = TableCosts(table).known
    return tuple(name for name in table.columns if name not in known and name != TEST_ACCURACY)


def run_on_table(plan: Plan, recorder: Recorder, earlier_searches: Sequence[EarlierSearch] = ()) -> dict[str, object]:
    """Search a table and verify the front on its test column.

    Raises:
        Interrupted: the recorder asked to stop; running it again continues.
        ConfigError: the table does not fit the plan.
    """
    recorder.stage(Stage.PREPARE)
    setting, table = open_table(plan)
    costs = TableCosts(table)
    scoring = TableScoring(table, queried(table))
    found = explore(setting, costs, scoring, recorder=recorder, earlier_searches=earlier_searches)
    recorder.stage(Stage.VERIFY)
    rng = np.random.default_rng(plan.seed + 1)
    random = random_feasible(found.problem, len(found.results), rng)
    with scoring.open() as scores:
        drawn = CompositeEvaluator(found.problem, columns_of(found.problem, costs, scores)).evaluate(
            Proposals.full(random)
        )
    compared = compare_fronts(
        found.results.values[found.results.eligible],
        drawn.values[drawn.eligible],
        found.reference,
        rng,
        evaluations=max(len(found.results), len(random)),
    )
    members = _members(setting, table, found)
    recorder.verified(members)
    report: dict[str, object] = {
        "table": {"name": table.name, "rows": len(table)},
        "search": found.section(),
        "random": {"front": plain(compared)},
        "ranking": _ranking(table, random, seed=plan.seed),
    }
    recorder.report(report)
    return report


def _members(setting: SearchSetting, table: Table, found: Exploration) -> tuple[VerifiedMember, ...]:
    numbers = np.flatnonzero(found.results.eligible)
    numbers = numbers[nondominated_mask(found.results.values[numbers])]
    chosen = numbers[spread_members(found.results.values[numbers], setting.plan.members)]
    genomes = found.results.genomes[chosen]
    labels = [item.label for item in found.problem.objectives]
    natural = {name: table.values(name, genomes) for name in table.columns}
    if TEST_ACCURACY in natural:
        natural[ACCURACY] = natural[TEST_ACCURACY]
    believed = found.problem.minimised(found.results.values[chosen])
    columns = [natural.get(name, believed[:, index]) for index, name in enumerate(labels)]
    values = found.problem.minimised(np.stack(columns, axis=1))
    return tuple(
        VerifiedMember(
            number=int(number),
            values=tuple(values[row].tolist()),
            observations=tuple(_observations(natural, row)),
        )
        for row, number in enumerate(chosen)
    )


def _observations(natural: Mapping[str, np.ndarray], row: int) -> list[Observation]:
    out = []
    for name, values in natural.items():
        quantity, _, device = name.partition("@")
        if name != TEST_ACCURACY and np.isfinite(values[row]):
            value = float(values[row])
            out.append(Observation(quantity=quantity, device=device or None, value=value, spread=None, source=SOURCE))
    return out


def _ranking(table: Table, genomes: Population, *, seed: int) -> dict[str, object]:
    """How far the searched accuracy ranks random architectures as the test accuracy does; empty without both."""
    if not {ACCURACY, TEST_ACCURACY} <= table.columns.keys():
        return {}
    valid, test = table.values(ACCURACY, genomes), table.values(TEST_ACCURACY, genomes)
    both = np.isfinite(valid) & np.isfinite(test)
    return plain(agreement(valid[both], test[both], seed=seed))
