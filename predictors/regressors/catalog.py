"""The regressors that exist, by name; each is built over the features of a space.

A name says what and over what: `gp` reads all features, `gp_genes` only what needs no costs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from ...errors import PredictorError
from ..contracts import Regressor

if TYPE_CHECKING:
    from ..features import Features

__all__ = ["REGRESSORS", "LimitedRegressor", "build"]

_GENES: Final = ("genes", "counts", "path")


class LimitedRegressor(Regressor, Protocol):
    """A `Regressor` that says how many rows it needs."""

    least: int
    """Fewest rows that `fit` takes."""


Builder = Callable[["Features", int], LimitedRegressor]


def _gp(features: Features, seed: int) -> LimitedRegressor:
    from ..features import kernel_blocks
    from .gp import GaussianProcess

    return GaussianProcess(kernel_blocks(features))


def _gp_genes(features: Features, seed: int) -> LimitedRegressor:
    from ..features import kernel_blocks
    from .gp import GaussianProcess

    blocks = tuple(block for block in kernel_blocks(features) if block.name in _GENES)
    return GaussianProcess(blocks or kernel_blocks(features))


def _ridge(features: Features, seed: int) -> LimitedRegressor:
    from .ridge import RidgeRegressor

    return RidgeRegressor(robust=False)


def _forest(features: Features, seed: int) -> LimitedRegressor:
    from .forest import Forest, ForestSettings

    return Forest(ForestSettings(seed=seed))


def _boosting(features: Features, seed: int) -> LimitedRegressor:
    from .boosting import BoostingRegressor

    return BoostingRegressor(loss="squared_error", seed=seed)


def _mlp(features: Features, seed: int) -> LimitedRegressor:
    from .mlp import MLPRegressor

    return MLPRegressor(absolute=False, seed=seed)


def _deep_ensemble(features: Features, seed: int) -> LimitedRegressor:
    from .deep_ensemble import DeepEnsemble, DeepEnsembleSettings

    return DeepEnsemble(DeepEnsembleSettings(seed=seed))


def _pretrained(features: Features, seed: int) -> LimitedRegressor:
    from ..pretraining import free_statistics
    from .deep_ensemble import DeepEnsemble, DeepEnsembleSettings

    return DeepEnsemble(DeepEnsembleSettings(seed=seed), pretraining=free_statistics(features, seed=seed))


def _gcn(features: Features, seed: int) -> LimitedRegressor:
    from ..encodings import graph_layout
    from .gcn import GraphNetwork, GraphSettings

    if features.encodings[0].kind != "adjacency":
        raise PredictorError(
            "the graph network reads features that begin with the encoding 'adjacency'; give kinds=['adjacency', …]."
        )
    return GraphNetwork(graph_layout(features.space), GraphSettings(seed=seed))


REGRESSORS: Final[Mapping[str, Builder]] = MappingProxyType({
    "boosting": _boosting,
    "deep_ensemble": _deep_ensemble,
    "forest": _forest,
    "gcn": _gcn,
    "gp": _gp,
    "gp_genes": _gp_genes,
    "mlp": _mlp,
    "pretrained_ensemble": _pretrained,
    "ridge": _ridge,
})  # fmt: skip
"""Every regressor, by name: (features, seed) -> a fresh one."""


def build(name: str, features: Features, *, seed: int = 0) -> LimitedRegressor:
    """A fresh regressor over `features`; raises PredictorError for an unknown name, with the closest one."""
    if name not in REGRESSORS:
        close = difflib.get_close_matches(name, REGRESSORS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise PredictorError(f"regressor {name!r} is unknown; choose one of {list(REGRESSORS)}{hint}")
    return REGRESSORS[name](features, seed)
