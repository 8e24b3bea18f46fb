"""The strategies by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...errors import ConfigError
from ..fidelity.asha import ASHA
from ..fidelity.hyperband import Hyperband, IterativeDeepeningHyperband
from ..fidelity.mobster import MOBSTER
from ..problem import Problem
from ..strategy import Strategy
from .bananas import BANANAS
from .bayesian import Bayesian
from .carbs import CARBS
from .derived import Derived
from .epnas import EPNAS
from .hierarchical_evolution import HierarchicalEvolution
from .local_search import LocalSearch
from .manas import MANAS
from .mcts import MCTS
from .moboga import MOBOGA
from .nested_mcts import NestedMCTS
from .nsga2 import NSGA2
from .nsga3 import NSGA3
from .optuna_samplers import OptunaCMAES, OptunaGP, OptunaNSGA2, OptunaTPE
from .predictor_evolution import PredictorEvolution
from .random import RandomSearch
from .regularized_evolution import RegularizedEvolution

__all__ = ["STRATEGIES", "check", "get", "multi_fidelity", "names", "options"]

STRATEGIES: Final[Mapping[str, Callable[..., Strategy]]] = {
    "asha": ASHA,
    "bananas": BANANAS,
    "bayesian": Bayesian,
    "carbs": CARBS,
    "derived": Derived,
    "epnas": EPNAS,
    "hierarchical_evolution": HierarchicalEvolution,
    "hyperband": Hyperband,
    "iterative_deepening_hyperband": IterativeDeepeningHyperband,
    "local_search": LocalSearch,
    "manas": MANAS,
    "mcts": MCTS,
    "moboga": MOBOGA,
    "mobster": MOBSTER,
    "nested_mcts": NestedMCTS,
    "nsga2": NSGA2,
    "nsga3": NSGA3,
    "optuna_cmaes": OptunaCMAES,
    "optuna_gp": OptunaGP,
    "optuna_nsga2": OptunaNSGA2,
    "optuna_tpe": OptunaTPE,
    "predictor_evolution": PredictorEvolution,
    "random": RandomSearch,
    "regularized_evolution": RegularizedEvolution,
}
"""Name -> builder(problem, seed, **options)."""


_KINDS: Final[Mapping[type, tuple[tuple[type, ...], str]]] = {int: ((int,), "an integer"), str: ((str,), "text")}
"""By the type of an option's default: what may be given; a number where it is neither."""


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


def multi_fidelity(name: str) -> bool:
    """Whether a strategy proposes evaluations with less than the full effort.

    >>> multi_fidelity("asha"), multi_fidelity("random")
    (True, False)
    """
    return bool(getattr(STRATEGIES.get(name), "multi_fidelity", False))


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
        kinds, words = _KINDS.get(type(default), ((int, float), "a number"))
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
