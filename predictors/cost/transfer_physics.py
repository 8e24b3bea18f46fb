"""Hypothetical devices: latencies of the space's networks on hardware nobody has yet, from their Ops alone.

A runtime spends, per kind of Op, some time on launching, computing and moving bytes; how much of each differs between
devices by orders of magnitude. Devices drawn over that range say which latencies are physically plausible together,
which matters where the new device is unlike every known one.

Source: the roofline, Williams, Waterman, Patterson, CACM 52(4), 2009, https://doi.org/10.1145/1498765.1498785.

Notation: B candidates, K kinds of Op, H hypothetical devices.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import SpaceError
from ...spaces.op import Op
from ...spaces.space import SearchSpace

__all__ = ["hypothetical_latencies", "work_by_kind"]

Kind = tuple[str, int, bool]

SHARES: Final = (0.7, 0.7, 0.7)
"""Dirichlet concentrations of the time spent on launches, arithmetic and memory: anything from pure to even."""

KIND_SPREAD: Final = 0.5
"""Standard deviation of the logarithm of how well a device runs one kind of Op, relative to the others."""


def _kind(op: Op) -> Kind:
    """What kernels tell apart: the Op's kind, its kernel size, and whether it is grouped."""
    kernel, groups = op.attributes.get("kernel", 0), op.attributes.get("groups", 1)
    return op.kind, kernel if isinstance(kernel, int) else 0, groups != 1


def work_by_kind(space: SearchSpace, genomes: NDArray[np.int16]) -> NDArray[np.float64] | None:
    """[B, K, 3] number of Ops, MACs and bytes moved by kind of Op; None for a space that is not additive over sites."""
    try:
        index = space.site_index
    except SpaceError:
        return None
    rows, place = np.unique(index.index(genomes), return_inverse=True)
    sites = np.searchsorted(index.offsets, rows, side="right") - 1
    found = [_work(index.ops(int(site), int(row - index.offsets[site]))) for site, row in zip(sites, rows, strict=True)]
    numbers = {kind: number for number, kind in enumerate(sorted({kind for work in found for kind in work}))}
    table = np.zeros((len(rows), len(numbers), 3))
    for row, work in enumerate(found):
        for kind, amounts in work.items():
            table[row, numbers[kind]] = amounts
    return table[place.reshape(len(genomes), -1)].sum(axis=1)


def _work(ops: tuple[Op, ...]) -> dict[Kind, NDArray[np.float64]]:
    """Number of Ops, MACs and bytes by kind."""
    work: dict[Kind, NDArray[np.float64]] = {}
    for op in ops:
        amounts = np.array([1.0, op.macs, op.input_bytes + op.output_bytes + op.weight_bytes])
        work[_kind(op)] = work.get(_kind(op), 0.0) + amounts
    return work


def hypothetical_latencies(work: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[B, H] latencies on `count` random devices, each of spread 1, for work [B, K, 3]."""
    typical = np.maximum(work.sum(axis=1).mean(axis=0), 1e-9)
    kinds = work.shape[1]
    rates = rng.dirichlet(SHARES, size=count)[:, None, :] * np.exp(KIND_SPREAD * rng.standard_normal((count, kinds, 1)))
    latency = work.reshape(len(work), -1) @ (rates / typical).reshape(count, -1).T
    return latency / np.maximum(latency.std(axis=0), 1e-12)
