"""Cost terms: how an expected cost enters the loss that choices learn from.

A penalty trades accuracy for cost by a published formula. A bound holds the expected cost to a limit, by a multiplier
that grows as long as the limit is broken (`lagrangian`, `target`) or by projecting the parameters (`projection.py`).

The published coefficients mean something in one unit only, so every cost is counted in declared units: `fbnet` has
20,000 of them at the reference (20 ms in microseconds), `mul_log` 80 (80 ms in milliseconds).

Notation: CE, cross-entropy; E, expected cost; R, reference.

Source: Wu et al., FBNet, CVPR 2019, https://arxiv.org/abs/1812.03443, equation 3; Cai et al., ProxylessNAS, ICLR 2019,
https://arxiv.org/abs/1812.00332, equation 10, and https://github.com/mit-han-lab/proxylessnas, search/nas_manager.py;
Stamoulis et al., Single-Path NAS, ECML 2019, https://arxiv.org/abs/1904.02877, equation 10. For multipliers Luo et al.,
LightNAS, DAC 2022, https://arxiv.org/abs/2208.14446; ours are of the logarithm, and augmented as in Nocedal and Wright,
Numerical Optimization, 2006, chapter 17.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import torch
from torch import Tensor

__all__ = ["BOUNDS", "PENALTIES", "Lagrangian", "Penalty", "add_linear", "add_log", "fbnet", "mul_log", "unpenalised"]


def unpenalised(entropy: Tensor, cost: Tensor, penalty: Penalty) -> Tensor:
    """CE."""
    del cost, penalty
    return entropy


def fbnet(entropy: Tensor, cost: Tensor, penalty: Penalty) -> Tensor:
    """CE * strength * (ln E) ** exponent."""
    return entropy * penalty.strength * torch.log(penalty.units(cost)) ** penalty.exponent


def mul_log(entropy: Tensor, cost: Tensor, penalty: Penalty) -> Tensor:
    """CE * strength * (ln E / ln R) ** exponent."""
    ratio = torch.log(penalty.units(cost)) / math.log(penalty.reference / penalty.unit)
    return entropy * penalty.strength * ratio**penalty.exponent


def add_linear(entropy: Tensor, cost: Tensor, penalty: Penalty) -> Tensor:
    """CE + strength * (E - R) / R."""
    return entropy + penalty.strength * (cost - penalty.reference) / penalty.reference


def add_log(entropy: Tensor, cost: Tensor, penalty: Penalty) -> Tensor:
    """CE + strength * ln(E / R)."""
    return entropy + penalty.strength * torch.log(cost / penalty.reference)


class _Formula(NamedTuple):
    """A penalty's formula with its published coefficients, and the reference in units."""

    loss: Callable[[Tensor, Tensor, Penalty], Tensor]
    strength: float = 0.0
    exponent: float = 1.0
    units: float = math.e


PENALTIES: Final[Mapping[str, _Formula]] = MappingProxyType({
    "add_linear": _Formula(add_linear, strength=0.1),
    "add_log": _Formula(add_log, strength=0.02),
    "fbnet": _Formula(fbnet, strength=0.2, exponent=0.6, units=20_000.0),
    "mul_log": _Formula(mul_log, strength=0.2, exponent=0.3, units=80.0),
    "none": _Formula(unpenalised),
})  # fmt: skip
"""Penalties by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """A penalty with its coefficients.

    Attributes:
        name: one of `PENALTIES`.
        strength, exponent: coefficients of the formula.
        reference: cost that is neither rewarded nor punished, in the quantity's unit.
        unit: the cost that formulas with a logarithm count as 1.
    """

    name: str
    strength: float
    exponent: float
    reference: float
    unit: float

    @classmethod
    def of(
        cls, name: str, *, reference: float, strength: float | None = None, exponent: float | None = None
    ) -> Penalty:
        """The published coefficients where none are given."""
        formula = PENALTIES[name]
        return cls(
            name=name,
            strength=formula.strength if strength is None else strength,
            exponent=formula.exponent if exponent is None else exponent,
            reference=reference,
            unit=reference / formula.units,
        )

    def __call__(self, entropy: Tensor, cost: Tensor) -> Tensor:
        """The loss, from a cross-entropy and an expected cost, both scalars."""
        return PENALTIES[self.name].loss(entropy, cost, self)

    def units(self, cost: Tensor) -> Tensor:
        """The cost in units; a cost so low that its logarithm would turn the penalty around counts as e units."""
        return (cost / self.unit).clamp(min=math.e)


DAMPING: Final = 5.0
"""Of the augmented Lagrangian. Twelve places of five choices, noisy gains and 150 steps towards a limit 25 % below the
start: the expected cost of the last 50 steps is within 2.8 % of it, with 1 within 3.9 %, without within 5.2 %."""


@dataclass(slots=True, kw_only=True)
class Lagrangian:
    """A multiplier of r = ln(E / limit), by dual ascent, and a quadratic term that damps it.

    The multiplier alone answers late: it still grows when the limit is reached, and overshoots it.

    Attributes:
        limit: in the cost's unit.
        rate: of ascent, per step.
        signed: whether the multiplier may reward cost below the limit, so that the limit is used up; else it stays at
            0 there.
        multiplier: at present.
    """

    limit: float
    rate: float
    signed: bool = False
    multiplier: float = 0.0

    def loss(self, cost: Tensor) -> Tensor:
        """What is added to the loss: multiplier * r + damping / 2 * r ** 2; unsigned, none of it where both allow."""
        excess = torch.log(cost / self.limit)
        if self.signed:
            return self.multiplier * excess + 0.5 * DAMPING * excess**2
        return ((self.multiplier + DAMPING * excess).clamp(min=0.0) ** 2 - self.multiplier**2) / (2 * DAMPING)

    def observe(self, cost: float) -> None:
        """Ascend by how much an expected cost breaks the limit."""
        self.multiplier += self.rate * math.log(cost / self.limit)
        if not self.signed:
            self.multiplier = max(self.multiplier, 0.0)


BOUNDS: Final = ("lagrangian", "none", "projection", "target")
"""How an expected cost is held to the limit: a multiplier, not at all, projection, or a multiplier of either sign."""
