"""Free statistics: what is known of any architecture of a space without training it, for networks to learn from first.

Source: Dai et al., FBNetV3, CVPR 2021, https://arxiv.org/abs/2006.02049, section 3.2.

Notation: U unlabelled architectures, F columns, S statistics.
"""

from __future__ import annotations

import numpy as np

from ..errors import PredictorError
from .encodings import available, encoding
from .features import Features
from .regressors.deep_ensemble import FreeStatistics

__all__ = ["STATISTICS", "free_statistics"]

STATISTICS = ("op_statistics", "counts", "path")
"""Encodings that serve as statistics, where the space has them."""


def free_statistics(features: Features, *, rows: int = 2048, seed: int = 0) -> FreeStatistics:
    """Statistics of architectures sampled from the features' space.

    Args:
        features: how a network will see architectures.
        rows: U.
        seed: of the sample.

    Raises:
        PredictorError: the space tells nothing without training.
    """
    space = features.space
    kinds = available(space, STATISTICS)
    genomes = space.sample(rows, np.random.default_rng(seed))
    columns = [encoding(space, kind).apply(genomes) for kind in kinds]
    if not columns:
        raise PredictorError(f"space {space.name!r} has neither costs nor counts; there is nothing to pretrain on.")
    statistics = np.concatenate(columns, axis=1)
    varies = statistics.std(axis=0) > 0
    statistics = (statistics[:, varies] - statistics[:, varies].mean(axis=0)) / statistics[:, varies].std(axis=0)
    return FreeStatistics(features=features(genomes), statistics=statistics)
