"""Every strategy of the catalog passes the conformance kit."""

from __future__ import annotations

from typing import Any

import pytest
from contracts.strategy_kit import StrategyKit, toy_problem, toy_space

from archsmith.errors import StrategyError
from archsmith.search.strategies import catalog

QUICK: dict[str, dict[str, Any]] = {
    "bananas": {"members": 2, "steps": 20, "refit": 40},
    "optuna_cmaes": {"suggestions": 4},
    "optuna_gp": {"suggestions": 1, "initial": 10_000},  # its model takes seconds: see test_optuna_samplers.py
    "optuna_nsga2": {"suggestions": 4, "population": 8},
    "optuna_tpe": {"suggestions": 1},
}
"""Options with which slow strategies take seconds."""


@pytest.mark.parametrize("_built", catalog.names(), indirect=True)
class TestEveryStrategy(StrategyKit):
    @pytest.fixture(autouse=True)
    def _built(self, request):
        self.name = request.param
        self.multi_fidelity = catalog.multi_fidelity(self.name)

    def build(self, problem, seed):
        return catalog.get(self.name, problem, seed, **QUICK.get(self.name, {}))

    def test_state_of_another_space_is_refused(self):
        state = self.build(toy_problem(toy_space()), 0).state()
        with pytest.raises(StrategyError, match="space"):
            self.build(toy_problem(toy_space(9)), 0).restore(state)
