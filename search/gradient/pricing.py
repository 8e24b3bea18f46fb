"""The cost of a search: its table, its terms in the loss, and the limit that derived networks keep."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ...errors import ConfigError, InfeasibleError
from ...spaces.space import SearchSpace
from ..problem import Quantity
from .cost_table import CostTable
from .cost_terms import Lagrangian, Penalty
from .derivation import Limit
from .distribution import Chosen
from .parameters import ArchitectureParameters
from .projection import project
from .settings import CostSettings

__all__ = ["Pricing"]

_TABLE_SEED = 20_181_209


class Pricing:
    """What choices cost, and how that counts.

    Args:
        space: what is searched.
        settings: the terms.
        quantity: [B, G] genomes -> [B] cost, for the table and to check derived networks.
        limit: in the quantity's unit; None = that of the settings, if there is one.

    Attributes:
        table: additive costs.
        limit: that networks keep, or None.
        multiplier: of the bound; None where it has none.

    Raises:
        ConfigError: a bound without a limit.
        InfeasibleError: no network keeps the limit.
    """

    def __init__(
        self, space: SearchSpace, settings: CostSettings, quantity: Quantity, limit: float | None = None
    ) -> None:
        self.settings = settings
        self.table = CostTable.of(space, settings.quantity, quantity, np.random.default_rng(_TABLE_SEED))
        self.limit = settings.limit if settings.limit is not None else limit
        if self.limit is None and settings.bound != "none":
            raise ConfigError(
                "gradient.cost.bound",
                settings.bound,
                "none without a limit",
                f"Give gradient.cost.limit, or a constraint on {settings.quantity}.",
            )
        if self.limit is not None and self.table.least > self.limit:
            raise InfeasibleError(
                f"gradient.cost: no network of {space.name!r} keeps {settings.quantity} <= {self.limit:g}; the "
                f"cheapest costs {self.table.least:g}. Loosen the limit."
            )
        self._space, self._quantity = space, quantity
        self.penalty = Penalty.of(
            settings.penalty,
            reference=self.table.uniform if self.limit is None else self.limit,
            strength=settings.strength,
            exponent=settings.exponent,
        )
        self.multiplier: Lagrangian | None = None
        if settings.bound in ("lagrangian", "target") and self.limit is not None:
            self.multiplier = Lagrangian(limit=self.limit, rate=settings.rate, signed=settings.bound == "target")

    def loss(self, entropy: Tensor, cost: Tensor) -> Tensor:
        """What choices minimise, from a cross-entropy and an expected cost, both scalars."""
        total = self.penalty(entropy, cost)
        return total if self.multiplier is None else total + self.multiplier.loss(cost)

    def settle(self, parameters: ArchitectureParameters, updates: int, expected: float) -> None:
        """After an update of the choices: let the multiplier follow, or project.

        Args:
            parameters: after the update.
            updates: of the choices so far, this one included.
            expected: cost under the learned distribution.
        """
        if self.multiplier is not None:
            self.multiplier.observe(expected)
        if self.settings.bound == "projection" and updates % self.settings.project_every == 0:
            assert self.limit is not None
            project(parameters, self.table, self.limit)

    def true_cost(self, chosen: Chosen) -> float:
        """Cost of one network, by the quantity itself."""
        return float(self._quantity(self._space.assembled(chosen)[None])[0])

    def derivation_limit(self, least_use: float) -> Limit | None:
        """What a derivation must keep; None without a limit."""
        if self.limit is None:
            return None
        return Limit(table=self.table, bound=self.limit, least_use=least_use, true_cost=self.true_cost)
