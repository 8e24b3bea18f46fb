"""Every genome of a small space, for what must be exact: exhausting a space, proving a constraint infeasible."""

from __future__ import annotations

import numpy as np

from ..errors import SpaceError
from ..spaces.space import SearchSpace
from .problem import Population

__all__ = ["every_genome"]


def every_genome(space: SearchSpace, limit: int = 1 << 20) -> Population:
    """[size, G] all canonical genomes, in lexicographic order.

    Args:
        space: at most `limit` genomes.
        limit: refuse larger spaces.

    Raises:
        SpaceError: the space is larger.
    """
    if space.size > limit:
        raise SpaceError(
            f"space {space.name!r} has {space.size} genomes; at most {limit} can be enumerated. Sample it."
        )
    genomes = np.zeros((1, len(space.genes)), dtype=np.int16)
    # Conditions refer to earlier genes, so whether a gene branches is settled when its turn comes.
    for column, gene in enumerate(space.genes):
        branches = np.where(space.active(genomes)[:, column], gene.cardinality, 1)
        first = np.repeat(np.cumsum(branches) - branches, branches)
        genomes = np.repeat(genomes, branches, axis=0)
        genomes[:, column] = np.arange(len(genomes)) - first
    return genomes
