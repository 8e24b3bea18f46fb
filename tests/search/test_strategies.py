"""Every strategy of the catalog passes the conformance kit."""

from __future__ import annotations

import pytest
from contracts.strategy_kit import StrategyKit, toy_problem, toy_space

from archsmith.errors import StrategyError
from archsmith.search.strategies import catalog


@pytest.mark.parametrize("_built", catalog.names(), indirect=True)
class TestEveryStrategy(StrategyKit):
    @pytest.fixture(autouse=True)
    def _built(self, request):
        self.name = request.param

    def build(self, problem, seed):
        return catalog.get(self.name, problem, seed)

    def test_state_of_another_space_is_refused(self):
        state = self.build(toy_problem(toy_space()), 0).state()
        with pytest.raises(StrategyError, match="space"):
            self.build(toy_problem(toy_space(9)), 0).restore(state)
