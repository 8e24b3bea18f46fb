"""Which genome stands for all that compute the same, and the sample of a space that numbers are standardised over.

Notation: B candidates, G genes, N = SAMPLE genomes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import numpy as np

from ..spaces.gene import Population
from ..spaces.space import SearchSpace
from .cells import cells, has_cells

__all__ = ["CACHED", "SpaceKey", "reference_sample", "representatives"]

SAMPLE: Final = 1024

CACHED: Final = 64
"""Spaces whose tables are kept."""


class SpaceKey:
    """A space as a key of caches: equal identities are equal spaces."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._identity = (type(space), space.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpaceKey) and other._identity == self._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@functools.lru_cache(maxsize=CACHED)
def reference_sample(key: SpaceKey) -> Population:
    """[N, G] the genomes that numbers are standardised over."""
    return key.space.sample(SAMPLE, np.random.default_rng(0))


def representatives(space: SearchSpace, genomes: Population) -> Population:
    """[B, G] for every genome the one that stands for all of its key, where the family's key form is a genome."""
    return _representative(SpaceKey(space))(genomes)


@functools.lru_cache(maxsize=CACHED)
def _representative(key: SpaceKey) -> Callable[[Population], Population]:
    space = key.space
    if space.name == "nas_bench_101" and has_cells(space):
        return functools.partial(_canonical_modules, space)
    sample = reference_sample(key)[:128]
    form = space.key_form(sample)
    if form.shape != sample.shape or (form < 0).any() or (form >= space.table.cardinalities).any():
        return lambda genomes: genomes
    form = form.astype(np.int16)
    # A key form is a genome only if it is a canonical one of the same key.
    if not (np.array_equal(space.canonical(form), form) and np.array_equal(space.keys(form), space.keys(sample))):
        return lambda genomes: genomes
    return lambda genomes: space.key_form(genomes).astype(np.int16, copy=False)


def _canonical_modules(space: SearchSpace, genomes: Population) -> Population:
    from ..spaces.families.nas_bench_101 import PAIRS

    (cell,) = cells(space, genomes)
    edges = [cell.adjacency[:, x, y] for x, y in PAIRS]
    return np.column_stack([*edges, np.maximum(cell.labels[:, 1:-1], 0)]).astype(np.int16)
