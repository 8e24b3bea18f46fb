"""The proxies that exist, by name; and the baselines every one of them has to beat.

The baselines need no network: the space knows them. Most proxies grow with the network, so a proxy that does not rank
better than params and macs has found out nothing else (`benchmarks/proxies.py` reports both).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError
from ...spaces.gene import Population
from ...spaces.space import SearchSpace
from .activations import naswot, zen
from .batch_gradients import fisher, grad_norm, grasp, snip
from .contract import Proxy
from .sample_gradients import gradsign, jacov, ntk
from .synflow import synflow

__all__ = ["BASELINES", "PROXIES", "check_names", "names"]

PROXIES: Final[Mapping[str, Proxy]] = MappingProxyType({
    "fisher": fisher,
    "grad_norm": grad_norm,
    "gradsign": gradsign,
    "grasp": grasp,
    "jacov": jacov,
    "naswot": naswot,
    "ntk": ntk,
    "snip": snip,
    "synflow": synflow,
    "zen": zen,
})  # fmt: skip
"""Scores of the network at initialisation."""

BASELINES: Final[Mapping[str, Callable[[SearchSpace, Population], NDArray[np.int64]]]] = MappingProxyType({
    "macs": lambda space, genomes: space.macs(genomes),
    "params": lambda space, genomes: space.params(genomes),
})  # fmt: skip
"""Costs as scores: (space, genomes [B, G]) -> [B], a larger network is promised to be better."""


def names() -> tuple[str, ...]:
    """Names of proxies and baselines, sorted."""
    return tuple(sorted([*PROXIES, *BASELINES]))


def check_names(chosen: Sequence[str]) -> tuple[str, ...]:
    """`chosen`, if all exist and none repeats; raises PredictorError with the closest name otherwise."""
    for name in chosen:
        if name not in names():
            close = difflib.get_close_matches(name, names(), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PredictorError(f"proxy {name!r} is unknown; choose among {', '.join(names())}.{hint}")
    if len(set(chosen)) != len(chosen):
        raise PredictorError(f"proxies {list(chosen)}: name each of them once.")
    return tuple(chosen)
