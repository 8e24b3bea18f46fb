"""Which strategy suits a search when the job leaves it open."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["AUTO", "Choice", "choose"]

AUTO: Final = "auto"
"""What a job writes to leave the choice to us; also what it means to name none."""

MODELLED: Final = 2000
"""Up to so many trials a model of all results pays: beyond, its cost per proposal is that of many evaluations."""


class Choice(NamedTuple):
    """A strategy by catalog name, and why."""

    name: str
    reason: str


def choose(trials: int | None) -> Choice:
    """The strategy for a budget of `trials`; None = only time or energy is limited.

    >>> choose(400).name
    'bayesian'
    >>> choose(100_000).name
    'nsga2'
    """
    if trials is not None and trials > MODELLED:
        return Choice("nsga2", f"{trials} trials are more than the {MODELLED} for which a model of all results pays")
    return Choice("bayesian", f"up to {MODELLED} trials a model of all results needs the fewest evaluations")
