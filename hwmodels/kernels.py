"""Kernels: the distinct computations that stand at the sites of a space, and estimates for those never measured.

Equal computations cost the same wherever they stand, so they are found once by `op_signature` and measured once. A
kernel is all that stands at a site, or, given the fusion rules of a device, each part that the device performs at once.
Where a space has more kernels than can be measured, the rest is estimated by a ridge regression of log time on log
work; `predictors.cost.kernels` estimates better, from kernels of all spaces.

Notation: N networks, K distinct kernels, F features, T configurations of all sites.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.gene import Population
from ..spaces.op import Op, Signature, op_signature, total_macs
from ..spaces.space import SearchSpace
from .fusion import FusionRules

__all__ = ["FEATURES", "Fill", "Holdings", "KernelPool", "Kernels", "fill_unmeasured", "kernel_features", "kernel_key"]

FEATURES: Final = (
    "ops", "convolutions", "macs", "depthwise_macs", "input_bytes", "output_bytes", "inner_bytes", "weight_bytes",
    "widest_kernel",
)  # fmt: skip
"""What a kernel is described by; each enters as log(1 + value)."""

_STRENGTHS: Final = tuple(10.0**power for power in range(-6, 4))


def kernel_key(ops: tuple[Op, ...]) -> str:
    """32 hexadecimal digits that name a kernel, the same in every process."""
    return _digest(op_signature(ops))


def _digest(signature: Signature) -> str:
    return hashlib.sha256(repr(signature).encode()).hexdigest()[:32]


class KernelPool:
    """Distinct kernels, numbered in order of their first appearance.

    Attributes:
        ops: [K] the Ops of each kernel.
        keys: [K] their names, see `kernel_key`.
    """

    def __init__(self) -> None:
        self.ops: list[tuple[Op, ...]] = []
        self.keys: list[str] = []
        self._numbers: dict[Signature, int] = {}

    def add(self, ops: tuple[Op, ...]) -> int:
        """The number of this kernel, a new one if it was not here yet."""
        signature = op_signature(ops)
        number = self._numbers.setdefault(signature, len(self.ops))
        if number == len(self.ops):
            self.ops.append(ops)
            self.keys.append(_digest(signature))
        return number


class Holdings:
    """Which kernels stand at which places: lists of kernel numbers, laid end to end.

    Args:
        places: the kernel numbers of every place, repeated where a kernel stands there repeatedly.
    """

    def __init__(self, places: Sequence[Sequence[int]]) -> None:
        self.starts = np.concatenate([[0], np.cumsum([len(numbers) for numbers in places], dtype=np.int64)])
        self.numbers = np.array([number for numbers in places for number in numbers], dtype=np.int64)
        self._place = np.repeat(np.arange(len(places)), np.diff(self.starts))

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[P] sums of [K] values over the kernels of every place; 0 where none stands."""
        sums = np.bincount(self._place, weights=values[self.numbers], minlength=len(self.starts) - 1)
        return sums.astype(np.float64, copy=False)  # integers where there is no kernel at all

    def counts(self, places: NDArray[np.int64], kernels: int) -> NDArray[np.float64]:
        """[N, K] how often each network, given as places [N, S], holds each of so many kernels."""
        first, flat = self.starts[:-1][places], places.ravel()
        lengths = np.diff(self.starts)[flat]
        ends = np.cumsum(lengths)
        entries = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first.ravel() - ends + lengths, lengths)
        network = np.repeat(np.repeat(np.arange(len(places)), places.shape[1]), lengths)
        flat_counts = np.bincount(network * kernels + self.numbers[entries], minlength=len(places) * kernels)
        return flat_counts.astype(np.float64).reshape(len(places), kernels)


class Kernels:
    """The distinct kernels of a space.

    Args:
        space: a space with sites.
        rules: what a device fuses; None takes all that stands at a site as one kernel.

    Attributes:
        ops: [K] the Ops of each kernel.
        keys: [K] 32 hexadecimal digits, the same in every process.
        held: which kernels stand at each site configuration.
    """

    def __init__(self, space: SearchSpace, rules: FusionRules | None = None) -> None:
        self._index = space.site_index
        pool = KernelPool()
        places: list[list[int]] = []
        for site, count in enumerate(self._index.counts):
            for row in range(int(count)):
                ops = self._index.ops(site, row)
                parts = rules.kernels(ops) if rules is not None else (ops,) if ops else ()
                places.append([pool.add(part) for part in parts])
        self.ops = tuple(pool.ops)
        self.keys = tuple(pool.keys)
        self.held = Holdings(places)

    @property
    def features(self) -> NDArray[np.float64]:
        """[K, F], see `FEATURES`."""
        return np.array([kernel_features(ops) for ops in self.ops]).reshape(len(self.ops), len(FEATURES))

    def counts(self, genomes: Population) -> NDArray[np.float64]:
        """[N, K] how often each network holds each kernel."""
        return self.held.counts(self._index.index(genomes), len(self.ops))

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[T] sums per site configuration of [K] values per kernel; 0 where none stands."""
        return self.held.sums(values)


def kernel_features(ops: tuple[Op, ...]) -> list[float]:
    """[F] features of a kernel, as `FEATURES` names them, log(1 + value)."""
    convolutions = [op for op in ops if op.kind in ("conv1d", "conv2d")]
    depthwise = [op for op in convolutions if op.attributes["groups"] == op.inputs[0].shape[0] > 1]
    produced = {op.output.name for op in ops}
    outside = {tensor.name: tensor.bytes for op in ops for tensor in op.inputs if tensor.name not in produced}
    values = (
        len(ops),
        len(convolutions),
        total_macs(ops),
        total_macs(tuple(depthwise)),
        sum(outside.values()),
        ops[-1].output_bytes,
        sum(op.output_bytes for op in ops[:-1]),
        sum(op.weight_bytes_read for op in ops),
        max((int(str(op.attributes["kernel"])) for op in convolutions), default=0),
    )
    return [float(np.log1p(value)) for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Kernel times with the gaps filled.

    Attributes:
        times_ms: [K] measured where measured, else estimated.
        in_range: [K] bool, False where the estimate lies outside the features that were measured.
        relative_rmse: leave-one-out error of the estimates on the measured kernels; nan where nothing was estimated.
    """

    times_ms: NDArray[np.float64]
    in_range: NDArray[np.bool_]
    relative_rmse: float


def fill_unmeasured(features: NDArray[np.float64], measured_ms: NDArray[np.float64]) -> Fill:
    """Estimate the kernels that were not measured.

    Args:
        features: [K, F], as `kernel_features` gives them.
        measured_ms: [K], nan where not measured.

    Raises:
        PredictorError: fewer than two measured kernels per feature where any is missing.
    """
    known = np.isfinite(measured_ms)
    if known.all():
        return Fill(times_ms=measured_ms.copy(), in_range=np.ones(len(known), np.bool_), relative_rmse=float("nan"))
    if known.sum() < 2 * features.shape[1]:
        raise PredictorError(
            f"{int(known.sum())} of {len(known)} kernels are measured; estimating the rest needs at least "
            f"{2 * features.shape[1]}. Raise the number of kernels to measure."
        )
    low, high = features[known].min(axis=0), features[known].max(axis=0)
    in_range = ((features >= low - 1e-9) & (features <= high + 1e-9)).all(axis=1)
    design = _quadratic((features - features[known].mean(axis=0)) / np.maximum(features[known].std(axis=0), 1e-9))
    target = np.log(measured_ms[known])
    centre = float(target.mean())
    best_error, estimates = float("inf"), np.empty(0)
    inner = design[known]
    for strength in _STRENGTHS:
        gram = inner.T @ inner + strength * np.eye(inner.shape[1])
        solved = np.linalg.solve(gram, inner.T)
        left = (target - centre - inner @ (solved @ (target - centre))) / np.maximum(
            1.0 - np.einsum("nf,fn->n", inner, solved), 1e-6
        )
        error = float(np.sqrt(np.mean(np.expm1(left) ** 2)))
        if error < best_error:
            best_error, estimates = error, np.exp(centre + design @ (solved @ (target - centre)))
    return Fill(times_ms=np.where(known, measured_ms, estimates), in_range=in_range | known, relative_rmse=best_error)


def _quadratic(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K, F] -> [K, 1 + F + F (F + 1) / 2]: constant, features and their products."""
    left, right = np.triu_indices(features.shape[1])
    return np.concatenate([np.ones((len(features), 1)), features, features[:, left] * features[:, right]], axis=1)
