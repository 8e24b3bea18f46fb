"""Sites: places of a network whose Ops depend on few genes, so that additive costs become table look-ups.

The cost of a whole population is then a gather and a sum: ``index(genomes)`` is one matrix product, ``total`` one take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SpaceError
from .gene import CHUNK, GeneTable, Population
from .op import Op

__all__ = ["Site", "SiteIndex"]


@dataclass(frozen=True, slots=True)
class Site:
    """One place of a network.

    Attributes:
        name: unique in its space, e.g. ``stages.1.blocks.0``.
        genes: positions of the genes that decide what stands here, ascending.
        build: choice indices of those genes -> the Ops standing here, () where there are none. Defined for every
            combination in range, those that no canonical genome reaches included.
    """

    name: str
    genes: tuple[int, ...]
    build: Callable[[tuple[int, ...]], tuple[Op, ...]]


class SiteIndex:
    """Numbers every configuration of every site, so that any additive cost is one flat table.

    Where costs are additive only after dead or repeated parts are gone, `reduce` maps canonical genomes to the genomes
    that are looked up, ones that compute the same.

    Notation: B candidates, G genes, S sites, T = total number of configurations.
    """

    MAX_CONFIGURATIONS = 1 << 24
    """The index is a float32 matrix product, exact up to here."""

    def __init__(
        self, table: GeneTable, sites: Sequence[Site], *, reduce: Callable[[Population], Population] | None = None
    ) -> None:
        self._reduce = reduce
        self.sites = tuple(sites)
        shapes = [tuple(int(table.cardinalities[gene]) for gene in site.genes) for site in self.sites]
        self.counts = np.array([math.prod(shape) for shape in shapes], dtype=np.int64)
        if len(self.counts) and self.counts.max() > self.MAX_CONFIGURATIONS:
            site = self.sites[int(self.counts.argmax())]
            raise SpaceError(
                f"site {site.name!r} has {int(self.counts.max())} configurations; at most {self.MAX_CONFIGURATIONS} "
                "can be tabled. Split it into sites that depend on fewer genes."
            )
        self.offsets = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)
        self.size = int(self.counts.sum())
        self._shapes = shapes
        self._radix = np.zeros((len(table.genes), len(self.sites)), dtype=np.float32)
        for column, (site, shape) in enumerate(zip(self.sites, shapes, strict=True)):
            stride = 1
            for gene, cardinality in zip(reversed(site.genes), reversed(shape), strict=True):
                self._radix[gene, column] = stride
                stride *= cardinality

    def configurations(self, site: int) -> NDArray[np.int16]:
        """[N, K] choice indices of the site's K genes, in table order."""
        shape = self._shapes[site]
        if not shape:
            return np.zeros((1, 0), dtype=np.int16)
        return np.stack([grid.ravel() for grid in np.indices(shape, dtype=np.int16)], axis=1)

    def ops(self, site: int, row: int) -> tuple[Op, ...]:
        """The Ops of configuration `row` (table order) of a site."""
        choices = np.unravel_index(row, self._shapes[site]) if self._shapes[site] else ()
        return self.sites[site].build(tuple(int(choice) for choice in choices))

    def index(self, genomes: Population) -> NDArray[np.int64]:
        """[B, S] rows of the flat table, for canonical genomes."""
        out = np.empty((len(genomes), len(self.sites)), dtype=np.int64)
        for start in range(0, len(genomes), CHUNK):
            rows = slice(start, start + CHUNK)
            part = genomes[rows] if self._reduce is None else self._reduce(genomes[rows])
            np.add(part.astype(np.float32) @ self._radix, self.offsets, out=out[rows], casting="unsafe")
        return out

    def table(self, cost: Callable[[tuple[Op, ...]], Sequence[float]], width: int) -> NDArray[np.float64]:
        """[T, width] costs of every configuration; `cost` maps a site's Ops to `width` numbers."""
        out = np.zeros((self.size, width))
        for site, (offset, count) in enumerate(zip(self.offsets, self.counts, strict=True)):
            for row in range(int(count)):
                out[offset + row] = cost(self.ops(site, row))
        return out

    def total(self, table: NDArray[np.float64], genomes: Population) -> NDArray[np.float64]:
        """[B] sums over sites of a flat table [T]; [B, W] for a table [T, W]."""
        out = np.empty((len(genomes), *table.shape[1:]), dtype=table.dtype)
        for start in range(0, len(genomes), CHUNK):
            rows = slice(start, start + CHUNK)
            out[rows] = table[self.index(genomes[rows])].sum(axis=1)
        return out
