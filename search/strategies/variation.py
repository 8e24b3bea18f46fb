"""Variation for whole generations: crossover and mutation with one pass for activity instead of one per operator.

`SearchSpace.crossover` and `mutate` are the operators for a few genomes. An evolutionary generation applies both to the
same parents again and again, so parents are *filled* once (their inactive genes get a random choice, to be used should
a child activate them), children are made from filled parents, and only the finished children are made canonical.

Notation: B children, G genes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...spaces.space import SearchSpace
from ..problem import Population

__all__ = ["Variation"]


class Variation:
    """Operators on filled genomes of one space."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._cardinalities = space.table.cardinalities
        self._mutable = self._cardinalities > 1
        self._mutable_genes = np.flatnonzero(self._mutable)
        self._others = np.maximum(self._cardinalities - 1, 0).astype(np.float32)
        self._ordered = np.array([gene.kind != "categorical" for gene in space.genes])

    def fill(self, genomes: Population, rng: np.random.Generator) -> Population:
        """[B, G] canonical genomes with a random choice in every inactive gene."""
        return np.where(self._space.table.active(genomes), genomes, self._space.table.uniform(len(genomes), rng))

    def cross(self, first: Population, second: Population, rng: np.random.Generator) -> Population:
        """[B, G] uniform crossover: each gene from either parent, with equal chance."""
        size = first.size
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-size // 8)), dtype=np.uint8), count=size)
        return np.where(bits.view(np.bool_).reshape(first.shape), first, second)

    def mutate(self, filled: Population, rng: np.random.Generator, rate: float, forced: slice) -> None:
        """Change each gene with probability `rate` to another choice, in place.

        Rows `forced` change at least one gene; others may stay as they are.
        """
        change = rng.random(filled.shape, dtype=np.float32) < np.float32(rate)
        if len(self._mutable_genes):
            rows = np.arange(len(filled))[forced]
            change[rows, self._mutable_genes[rng.integers(0, len(self._mutable_genes), len(rows))]] = True
        change &= self._mutable
        cells = np.flatnonzero(change)
        genes = cells % filled.shape[1]
        steps = 1 + (rng.random(len(cells), dtype=np.float32) * self._others[genes]).astype(np.int16)
        flat = filled.reshape(-1)
        flat[cells] = (flat[cells] + steps) % self._cardinalities[genes]

    def finish(self, filled: Population) -> Population:
        """[B, G] canonical children."""
        return self._space.table.canonical(filled)

    def spread(self, n: int, rng: np.random.Generator) -> NDArray[np.int16]:
        """[n, G] canonical genomes from the smallest to the largest networks.

        Uniform samples of many genes all have about the same cost. Here every row has its own exponent, log-uniform
        in 1/4 to 4, that tilts all its ordered genes towards their last or their first choices; categorical genes are
        uniform.
        """
        draws = rng.random((n, len(self._cardinalities)), dtype=np.float32)
        level = (np.arange(n) + rng.random(n)) / max(n, 1)  # stratified: few rows cover the range evenly
        exponent = 4.0 ** (2.0 * rng.permutation(level) - 1.0)
        np.power(draws, exponent[:, None].astype(np.float32), out=draws, where=self._ordered)
        # float32 rounds draws next to 1 up to it
        choices = np.minimum((draws * self._cardinalities).astype(np.int16), self._cardinalities - 1)
        return self._space.table.canonical(choices)
