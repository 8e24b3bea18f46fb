"""The strategies by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...errors import ConfigError
from ..problem import Problem
from ..strategy import Strategy
from .bayesian import Bayesian
from .carbs import CARBS
from .epnas import EPNAS
from .local_search import LocalSearch
from .moboga import MOBOGA
from .nsga2 import NSGA2
from .nsga3 import NSGA3
from .predictor_evolution import PredictorEvolution
from .random import RandomSearch
from .regularized_evolution import RegularizedEvolution

__all__ = ["STRATEGIES", "check", "get", "names", "options"]

STRATEGIES: Final[Mapping[str, Callable[..., Strategy]]] = {
    "bayesian": Bayesian,
    "carbs": CARBS,
    "epnas": EPNAS,
    "local_search": LocalSearch,
    "moboga": MOBOGA,
    "nsga2": NSGA2,
    "nsga3": NSGA3,
    "predictor_evolution": PredictorEvolution,
    "random": RandomSearch,
    "regularized_evolution": RegularizedEvolution,
}
"""Name -> builder(problem, seed, **options)."""


def names() -> list[str]:
    """The names that `get` accepts."""
    return sorted(STRATEGIES)


def options(name: str) -> dict[str, object]:
    """The options of a strategy and their defaults.

    >>> options("regularized_evolution")
    {'population': 50, 'sample': 10, 'rate': None}
    """
    if name not in STRATEGIES:
        raise ConfigError("strategy.name", name, f"one of {', '.join(names())}")
    parameters = inspect.signature(STRATEGIES[name]).parameters.values()
    return {item.name: item.default for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY}


def check(name: str, given: Mapping[str, object]) -> None:
    """Raise ConfigError for an unknown strategy or option or a wrong type, naming what is allowed."""
    allowed = options(name)
    for key, value in given.items():
        if key not in allowed:
            listed = ", ".join(f"{option} (default {default})" for option, default in allowed.items())
            raise ConfigError(f"strategy.options.{key}", key, listed or f"no options: {name} has none")
        default = allowed[key]
        if value is None and default is None:
            continue
        kinds, words = ((int,), "an integer") if type(default) is int else ((int, float), "a number")
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ConfigError(f"strategy.options.{key}", value, f"{words} (default {default})")


def get(name: str, problem: Problem, seed: int, **given: Any) -> Strategy:
    """Build the strategy called `name`.

    Raises:
        ConfigError: unknown name or option; the message lists the choices.
        StrategyError: an option's value is out of range.
    """
    check(name, given)
    return STRATEGIES[name](problem, seed, **given)
