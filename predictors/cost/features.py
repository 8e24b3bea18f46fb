"""Features of whole networks: the genes as they are chosen, and the work that follows from them.

Per architecture: an indicator of every choice of every active gene, the values of numeric genes, and logarithms of
totals over all Ops. The totals are physics without a device: MACs, bytes and kernels by kind of Op, and rooflines of a
few machines, from those that compute slowly to those that wait for each launch. A regressor finds which of them a
device resembles. Totals over sites are one table look-up for a population; a space without sites is asked for its Ops,
one architecture after another.

Notation: B candidates, G genes, F features, T configurations of all sites, W totals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.traffic import fused
from ...spaces.gene import Population
from ...spaces.op import Op
from ...spaces.space import SearchSpace

__all__ = ["KINDS", "TOTALS", "NetworkFeatures", "op_totals"]

MAX_INDICATORS: Final = 12
"""Genes with more values than this are numbers only."""

KINDS: Final[tuple[str, ...]] = ("dense", "pointwise", "grouped", "linear", "product", "pool", "join", "other")
"""Kinds of Ops told apart: convolutions by form, linear layers, matrix products, pooling, sums and the rest."""

BALANCES: Final = (1.0, 4.0, 16.0, 64.0)
"""MACs per byte at which a machine's arithmetic and memory take equally long."""

LAUNCHES: Final = (2.0**16, 2.0**19, 2.0**22)
"""Bytes that could be moved while a kernel is launched; at a balance of 16."""

TOTALS: Final = (
    *(f"{kind}.macs" for kind in KINDS[:5]),
    *(f"{kind}.bytes" for kind in KINDS),
    *(f"{kind}.kernels" for kind in KINDS),
    "macs", "bytes", "weight_bytes", "kernels",
    *(f"roofline.{balance:g}" for balance in BALANCES),
    *(f"launch.{round(launch)}" for launch in LAUNCHES),
)  # fmt: skip
"""What `op_totals` adds up."""

_KIND_OF: Final[Mapping[str, str]] = {
    "linear": "linear", "matmul": "product", "relative_scores": "product", "relative_values": "product",
    "avg_pool2d": "pool", "max_pool2d": "pool", "global_avg_pool": "pool", "statistics_pool": "pool",
    "add": "join", "mul": "join", "concat": "join",
}  # fmt: skip


def op_totals(ops: tuple[Op, ...]) -> list[float]:
    """[W] totals of Ops, as `TOTALS` names them; additive, so that sites can be summed."""
    macs, moved, kernels = ([0.0] * len(KINDS) for _ in range(3))
    weight_bytes = 0.0
    rooflines, launched = [0.0] * len(BALANCES), [0.0] * len(LAUNCHES)
    for op, inside in zip(ops, fused(ops), strict=True):
        kind = KINDS.index(_kind(op))
        work = op.macs
        traffic = op.weight_bytes_read + (0 if inside else op.input_bytes + op.output_bytes)
        macs[kind] += work
        moved[kind] += traffic
        weight_bytes += op.weight_bytes
        for index, balance in enumerate(BALANCES):
            rooflines[index] += max(work / balance, traffic)
        if inside:
            continue
        kernels[kind] += 1
        for index, launch in enumerate(LAUNCHES):
            launched[index] += max(work / 16.0, traffic, launch)
    return [
        *macs[:5], *moved, *kernels,
        sum(macs), sum(moved), weight_bytes, sum(kernels), *rooflines, *launched,
    ]  # fmt: skip


def _kind(op: Op) -> str:
    if op.kind not in ("conv1d", "conv2d", "conv_transpose2d"):
        return _KIND_OF.get(op.kind, "other")
    if int(str(op.attributes.get("groups", 1))) > 1:
        return "grouped"
    return "pointwise" if op.attributes["kernel"] == 1 else "dense"


class NetworkFeatures:
    """The features of one space's architectures.

    Args:
        space: genes, and where it knows them, sites or Ops. A space of genes alone gives genes alone.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        sizes = [len(gene.values) for gene in space.genes]
        self._indicated = [index for index, size in enumerate(sizes) if size <= MAX_INDICATORS]
        self._numbers = [
            np.array(gene.values, dtype=np.float64) if _numeric(gene.values) else np.arange(float(len(gene.values)))
            for gene in space.genes
        ]
        self._counted = type(space).ops is not SearchSpace.ops
        sites = space.sites() if self._counted else None
        self._table = space.site_index.table(op_totals, len(TOTALS)) if sites is not None else None
        self.names = (
            *(f"{space.genes[index].name}={value}" for index in self._indicated for value in space.genes[index].values),
            *(gene.name for gene in space.genes),
            *(TOTALS if self._counted else ()),
        )

    def matrix(self, genomes: Population) -> NDArray[np.float64]:
        """[B, F] features of canonical genomes [B, G], as `names` names them."""
        active = self._space.table.active(genomes)
        parts = [
            active[:, index, None] & (genomes[:, index, None] == np.arange(len(self._numbers[index])))
            for index in self._indicated
        ]
        numbers = np.stack([table[genomes[:, index]] for index, table in enumerate(self._numbers)], axis=1)
        parts.append(np.where(active, numbers, 0.0))
        if self._counted:
            parts.append(np.log1p(self._totals(genomes)))
        return np.concatenate([np.asarray(block, dtype=np.float64) for block in parts], axis=1)

    def _totals(self, genomes: Population) -> NDArray[np.float64]:
        """[B, W] totals over all Ops."""
        if self._table is not None:
            return self._space.site_index.total(self._table, genomes)
        # Without sites, equal computations are counted once.
        _, first, same = np.unique(self._space.keys(genomes), axis=0, return_index=True, return_inverse=True)
        rows = np.array([op_totals(self._space.ops(self._space.decode(genomes[row]))) for row in first])
        return rows.reshape(len(first), len(TOTALS))[same.ravel()]


def _numeric(values: tuple[object, ...]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
