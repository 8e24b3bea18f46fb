"""What kernels cost inside networks, learned from whole networks, with what is known of runtimes as the prior.

A kernel measured alone pays for an empty run (e) and for the layout of its input and output; a network pays e once. So
the latency of a network of kernels that take k_1 … k_n alone is modelled as::

    y = e + sum over kernels of ((k_i - e) * (1 + c_i) + e * d_i)

with relative corrections c (a layout kept, a cache still warm) and entry costs d, both expected around 0 and correlated
between kernels: all share a part, those of one group share more, those with similar features most of all. What the
networks of some spaces tell thus carries over to spaces in which no network was measured. Measurements that were
disturbed have long tails, so errors are Cauchy-distributed: a network far off loses its weight.

Source: Bayesian linear regression with correlated coefficients (Rasmussen and Williams 2006, section 2.1), its exact
leave-one-out errors (equation 5.12), and iteratively reweighted least squares (Huber 1981, section 7.8).

Notation: N networks, K kernels, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...spaces.op import Op
from .kernel_features import group_of, kernel_rows

__all__ = ["Context", "KernelTraits", "learn_context"]

SHARED_STD: Final = 0.1
GROUP_STD: Final = 0.3
LOCAL_STD: Final = 0.5
"""Prior standard deviations of a relative correction: the part of all kernels, of a group's, of similar kernels'."""

ENTRY_STD: Final = 0.2
"""Of an entry cost in empty runs: twice, once for all kernels and once for a group's."""

NEARNESS: Final = 0.5
"""Squared distance over which similarity falls by e, per feature, in standard deviations."""

NOISE: Final = 0.02
"""Relative, of one whole network's measurement."""

_CUT: Final = 3.0
_CHUNK: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTraits:
    """What decides how similar kernels are.

    Attributes:
        rows: [K, F] features divided by their spread.
        groups: [K].
    """

    rows: NDArray[np.float64]
    groups: NDArray[np.str_]

    @classmethod
    def of(cls, kernels: Sequence[tuple[Op, ...]], spread: NDArray[np.float64]) -> KernelTraits:
        """The traits of these kernels."""
        return cls(rows=kernel_rows(kernels) / spread, groups=np.array([group_of(k) for k in kernels], dtype=np.str_))

    def take(self, chosen: NDArray[np.int64]) -> KernelTraits:
        """Some of the kernels."""
        return KernelTraits(rows=self.rows[chosen], groups=self.groups[chosen])


def _covariances(left: KernelTraits, right: KernelTraits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[L, R] prior covariances of relative corrections, and of entry costs."""
    same = left.groups[:, None] == right.groups[None]
    squared = (left.rows**2).sum(axis=1)[:, None] + (right.rows**2).sum(axis=1)[None] - 2.0 * left.rows @ right.rows.T
    near = np.exp(-np.maximum(squared, 0.0) / (NEARNESS * left.rows.shape[1]))
    corrections = SHARED_STD**2 + same * (GROUP_STD**2 + LOCAL_STD**2 * near)
    return corrections, ENTRY_STD**2 * (1.0 + same)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """From times alone to costs inside networks.

    Attributes:
        empty_ms: time of an empty run, which is a network's overhead.
        pull: [K] what the networks ask of the correction of each kernel they hold.
        entry_pull: [K] and of its entry cost.
        traits: of these kernels.
        spread: [F] what features were divided by.
        left_out: [N] relative error at each network when the fit does not see it.
        weights: [N] in (0, 1], small where a measurement seems disturbed.
    """

    empty_ms: float
    pull: NDArray[np.float64]
    entry_pull: NDArray[np.float64]
    traits: KernelTraits
    spread: NDArray[np.float64]
    left_out: NDArray[np.float64]
    weights: NDArray[np.float64]

    def inside_ms(self, kernels: Sequence[tuple[Op, ...]], alone_ms: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B] costs inside networks of kernels that take `alone_ms` alone."""
        asked = KernelTraits.of(kernels, self.spread)
        correction, entry = np.zeros(len(kernels)), np.zeros(len(kernels))
        for start in range(0, len(kernels), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(kernels)))
            corrections, entries = _covariances(asked.take(rows), self.traits)
            correction[rows], entry[rows] = corrections @ self.pull, entries @ self.entry_pull
        return net_ms(alone_ms, self.empty_ms) * (1.0 + correction) + self.empty_ms * entry

    @property
    def relative_std(self) -> float:
        """Standard deviation of a network's relative error, disturbed measurements left out."""
        steady = self.weights >= 0.1
        return float(np.sqrt(np.mean(self.left_out[steady] ** 2)))


def net_ms(alone_ms: NDArray[np.float64], empty_ms: float) -> NDArray[np.float64]:
    """Times alone without the empty run; a twentieth of them at least, for both are measured with errors."""
    return np.maximum(alone_ms - empty_ms, 0.05 * alone_ms)


def learn_context(
    alone_ms: NDArray[np.float64],
    counts: NDArray[np.float64],
    network_ms: NDArray[np.float64],
    *,
    traits: KernelTraits,
    spread: NDArray[np.float64],
    empty_ms: float,
) -> Context:
    """Fit the model above.

    Args:
        alone_ms: [K] kernel times measured or estimated alone.
        counts: [N, K] how often each network holds each kernel.
        network_ms: [N] measured networks.
        traits: of the K kernels.
        spread: [F] what the traits' features were divided by.
        empty_ms: time of an empty run.
    """
    held = np.flatnonzero(counts.any(axis=0))
    counts, traits = counts[:, held], traits.take(held)
    corrections, entries = _covariances(traits, traits)
    work = counts * net_ms(alone_ms[held], empty_ms) / network_ms[:, None]
    entered = counts * empty_ms / network_ms[:, None]
    gram = work @ corrections @ work.T + entered @ entries @ entered.T
    target = 1.0 - empty_ms / network_ms - work.sum(axis=1)
    weights, dual, inverse = np.ones(len(target)), np.zeros(len(target)), np.eye(len(target))
    for _ in range(5):
        inverse = np.linalg.inv(gram + np.diag(NOISE**2 / weights))
        dual = inverse @ target
        missed = target - gram @ dual
        scale = max(1.4826 * float(np.median(np.abs(missed))), NOISE / 2.0)
        weights = 1.0 / (1.0 + (missed / (_CUT * scale)) ** 2)
    return Context(
        empty_ms=empty_ms,
        pull=work.T @ dual,
        entry_pull=entered.T @ dual,
        traits=traits,
        spread=spread,
        left_out=-dual / np.diag(inverse),
        weights=weights,
    )
