"""What a network is made of, in numbers that need no training: MACs, parameters, bytes and layers, by stage.

Sites make this additive: every configuration of every site is costed once, and a population is a look-up and a sum.
A stage is a run of sites of equal image side; where sides never change, each third of the sites is one.

Notation: B candidates, S sites, T configurations of all sites, Q = len(QUANTITIES), D stages.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..spaces.gene import Population
from ..spaces.op import Op, total_macs, total_params
from ..spaces.space import SearchSpace

__all__ = ["QUANTITIES", "SiteStatistics"]

Array = NDArray[np.float64]

QUANTITIES: Final = ("macs", "params", "output_bytes", "layers", "spatial_macs", "spatial_layers", "reach")
"""Per stage and in total. `layers` have weights and multiply, `spatial` ones look at neighbours as well, and `reach`
sums how much further each of those sees than one position."""


class SiteStatistics:
    """Tables of a space's sites, made once.

    Raises:
        SpaceError: the space has no sites.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._index = space.site_index
        self._table = self._index.table(_statistics, len(QUANTITIES))
        self._log_macs = np.log1p(self._table[:, 0])
        self._stages = _stages(space)
        self.stage_count = int(self._stages.max(initial=0)) + 1

    @property
    def site_names(self) -> tuple[str, ...]:
        """Names of the sites."""
        return tuple(site.name for site in self._index.sites)

    def by_stage(self, genomes: Population) -> Array:
        """[B, D, Q] sums over the sites of every stage."""
        rows = self._index.index(genomes)
        out = np.empty((len(genomes), self.stage_count, len(QUANTITIES)))
        for stage in range(self.stage_count):
            out[:, stage] = self._table[rows[:, self._stages == stage]].sum(axis=1)
        return out

    def by_site(self, genomes: Population) -> Array:
        """[B, S] log(1 + MACs) of every site."""
        return self._log_macs[self._index.index(genomes)]


def _statistics(ops: tuple[Op, ...]) -> tuple[float, ...]:
    layers = [op for op in ops if op.macs and op.weights]
    sizes = [_window(op) for op in layers]
    return (
        total_macs(ops),
        total_params(ops),
        sum(op.output_bytes for op in ops),
        len(layers),
        sum(op.macs for op, size in zip(layers, sizes, strict=True) if size > 1),
        sum(size > 1 for size in sizes),
        sum(size - 1 for size in sizes),
    )


def _window(op: Op) -> int:
    """Largest side of the window that one output position of a convolution sees; 1 for other Ops."""
    kernel = op.attributes.get("kernel", 1)
    sides = kernel if isinstance(kernel, tuple) else (kernel,)
    return max((side for side in sides if isinstance(side, int)), default=1)


def _stages(space: SearchSpace) -> NDArray[np.int64]:
    """[S] number of each site's stage."""
    index = space.site_index
    rows = index.index(np.stack([space.largest(), space.smallest()])) - index.offsets
    sides: list[int] = []
    for site in range(len(index.sites)):
        ops = index.ops(site, int(rows[0, site])) or index.ops(site, int(rows[1, site]))
        shape = ops[-1].output.shape if ops else ()
        sides.append(shape[-1] if len(shape) == 3 else (sides[-1] if sides else 0))
    stages = np.concatenate([[0], np.cumsum(np.diff(sides) != 0)]) if sides else np.zeros(0, dtype=np.int64)
    if len(np.unique(stages)) < 3:
        return np.arange(len(sides)) * 3 // max(len(sides), 1)
    return stages
