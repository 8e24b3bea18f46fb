"""Kernels: the distinct computations that stand at the sites of a space, and estimates for those never measured.

Equal computations cost the same wherever they stand, so they are found once by `op_signature` and measured once. Where
a space has more kernels than can be measured, the rest is estimated by a ridge regression of log time on log work.

Notation: N networks, K distinct kernels, F features, T configurations of all sites.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import PredictorError
from ..spaces.gene import Population
from ..spaces.op import Op, Signature, op_signature, total_macs
from ..spaces.space import SearchSpace

__all__ = ["FEATURES", "Fill", "Kernels", "fill_unmeasured", "kernel_features"]

FEATURES: Final = (
    "ops", "convolutions", "macs", "depthwise_macs", "input_bytes", "output_bytes", "inner_bytes", "weight_bytes",
    "widest_kernel",
)  # fmt: skip
"""What a kernel is described by; each enters as log(1 + value)."""

_STRENGTHS: Final = tuple(10.0**power for power in range(-6, 4))


class Kernels:
    """The distinct kernels of a space.

    Attributes:
        ops: [K] the Ops of each kernel.
        keys: [K] 32 hexadecimal digits, the same in every process.
        of: [T] kernel standing at each site configuration, -1 where none.
        features: [K, F] float64, see `FEATURES`.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._index = space.site_index
        self.of = np.full(self._index.size, -1, dtype=np.int32)
        found: dict[Signature, int] = {}
        kernels: list[tuple[Op, ...]] = []
        for site, (offset, count) in enumerate(zip(self._index.offsets, self._index.counts, strict=True)):
            for row in range(int(count)):
                ops = self._index.ops(site, row)
                if not ops:
                    continue
                number = found.setdefault(op_signature(ops), len(kernels))
                if number == len(kernels):
                    kernels.append(ops)
                self.of[offset + row] = number
        self.ops = tuple(kernels)
        self.keys = tuple(hashlib.sha256(repr(signature).encode()).hexdigest()[:32] for signature in found)
        self.features = np.array([kernel_features(ops) for ops in kernels]).reshape(len(kernels), len(FEATURES))

    def counts(self, genomes: Population) -> NDArray[np.float64]:
        """[N, K] how often each network holds each kernel."""
        out = np.zeros((len(genomes), len(self.ops)))
        numbers = self.of[self._index.index(genomes)]
        rows = np.broadcast_to(np.arange(len(genomes))[:, None], numbers.shape)
        held = numbers >= 0
        np.add.at(out, (rows[held], numbers[held]), 1.0)
        return out

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[T] a value per site configuration, from [K] values per kernel; 0 where none stands."""
        return np.append(values, 0.0)[self.of]


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
        sum(op.weight_bytes for op in ops),
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
