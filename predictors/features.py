"""Encodings side by side as one feature matrix, and the covariance of a Gaussian process over them.

The blocks of the covariance say what may matter: single genes (linear), genes together (squared exponential), how often
each choice occurs, costs by stage and by site, and in cells the paths. Marginal likelihood finds what does.

Notation: B candidates, F columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.gene import Population
from ..spaces.space import SearchSpace
from .encodings import Encoding, available, encoding
from .regressors.covariance import Block, Shape

__all__ = ["DEFAULT_KINDS", "Features", "kernel_blocks"]

DEFAULT_KINDS: Final = ("genes", "counts", "op_statistics", "site_costs", "path")
"""What is used of what a space has: all that describe an architecture without a device and without listing pairs."""

_BLOCKS: Final[dict[str, tuple[tuple[Shape, bool], ...]]] = {
    "genes": (("linear", True), ("rbf", True)),
    "path": (("linear", False), ("laplace", False), ("rbf", True)),
}
"""Shapes of the blocks over an encoding, and whether each group has a length scale of its own."""


class Features:
    """The encodings `kinds` of a space, side by side.

    Args:
        space: what genomes belong to.
        kinds: encodings in order; None = those of `DEFAULT_KINDS` that the space has.

    Raises:
        PredictorError: an encoding that the space does not have, or a space without any column.
    """

    def __init__(self, space: SearchSpace, kinds: Sequence[str] | None = None) -> None:
        if kinds is None:
            kinds = [kind for kind in DEFAULT_KINDS if kind in available(space, DEFAULT_KINDS)]
        self.space = space
        self.encodings: tuple[Encoding, ...] = tuple(encoding(space, kind) for kind in kinds)
        self.names = tuple(f"{part.kind}: {name}" for part in self.encodings for name in part.names)
        if not self.names:
            raise PredictorError(f"space {space.name!r} offers no choice to encode; there is nothing to learn.")

    def __call__(self, genomes: Population) -> NDArray[np.float64]:
        """[B, F] columns of canonical genomes [B, G]; raises SpaceError for others."""
        genomes = self.space.check(genomes)
        return np.concatenate([part(genomes) for part in self.encodings], axis=1)

    def columns(self, kind: str) -> tuple[int, ...]:
        """Positions of the columns of one encoding; () if it is not among them."""
        start = 0
        for part in self.encodings:
            if part.kind == kind:
                return tuple(range(start, start + len(part.names)))
            start += len(part.names)
        return ()


def kernel_blocks(features: Features) -> tuple[Block, ...]:
    """Terms of the covariance over these features."""
    blocks = []
    for part in features.encodings:
        columns = features.columns(part.kind)
        for shape, apart in _BLOCKS.get(part.kind, (("rbf", True),)) if columns else ():
            groups = part.groups if apart else ()
            blocks.append(Block(name=part.kind, columns=columns, groups=groups, shape=shape))
    return tuple(blocks)
