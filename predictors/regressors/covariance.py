"""Covariances that add up over blocks of columns, each with its own shape and a length scale per group of columns.

    k(x, x') = sum over blocks b of  s_b * shape_b( sum over groups g of theta_bg * |x_bg - x'_bg|^2 )

Of a group's 0/1 columns the squared distance counts disagreements, so that one formula covers categorical genes
(one-hot columns), ordered genes (thermometer columns) and numbers. A linear block multiplies instead of measuring
distance: ``s_b * sum of theta_bg * <x_bg, x'_bg>``.

Gradients by all theta of a block cost one matrix product: ``sum_ij M_ij (x_i - x_j)^2 = 2 (r . x^2 - x . M x)`` for
symmetric M with row sums r.

Notation: N fitted rows, B rows asked, F columns, C blocks, P parameters.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 4 and 5.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError

__all__ = ["SHAPES", "Block", "Covariance", "Shape"]

Array = NDArray[np.float64]
Shape = Literal["linear", "rbf", "laplace", "matern52"]

SHAPES: Final[tuple[Shape, ...]] = ("linear", "rbf", "laplace", "matern52")
"""Shapes of a block: linear, exp(-q), exp(-sqrt q) and Matern 5/2, of the weighted squared distance q."""

_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One term of the covariance.

    Attributes:
        name: for reports.
        columns: positions of its columns among the features.
        groups: for every column the group that shares a length scale; () = all columns are one group.
        shape: one of `SHAPES`.

    >>> Block(name="genes", columns=(0, 1, 2), groups=(0, 0, 1)).shape
    'rbf'
    """

    name: str
    columns: tuple[int, ...]
    groups: tuple[int, ...] = ()
    shape: Shape = "rbf"

    def __post_init__(self) -> None:
        if not self.columns:
            raise PredictorError(f"block {self.name!r} has no columns; leave it out.")
        if self.groups and len(self.groups) != len(self.columns):
            raise PredictorError(
                f"block {self.name!r}: {len(self.groups)} group numbers for {len(self.columns)} columns; give one for "
                "each column, or none."
            )
        if self.shape not in SHAPES:
            raise PredictorError(f"block {self.name!r}: shape {self.shape!r} is unknown; choose one of {SHAPES}.")


class _Term:
    """A block with what is computed once: columns as an index, groups numbered from 0."""

    def __init__(self, block: Block) -> None:
        self.shape = block.shape
        self.columns = np.array(block.columns, dtype=np.intp)
        groups = block.groups or (0,) * len(block.columns)
        self.group_of = np.unique(groups, return_inverse=True)[1]
        self.groups = int(self.group_of.max()) + 1

    def sizes(self, x: Array) -> float:
        """Mean squared distance of two rows of x [N, F], or for linear blocks mean squared length."""
        return float((x * x).sum(axis=1).mean() if self.shape == "linear" else 2.0 * x.var(axis=0).sum())

    def argument(self, a: Array, b: Array, theta: Array) -> Array:
        """[A, B] the weighted product or squared distance of rows; `theta` [groups]."""
        weight = np.sqrt(theta[self.group_of])
        left, right = a * weight, b * weight
        product = left @ right.T
        if self.shape == "linear":
            return product
        product *= -2.0
        product += (left * left).sum(axis=1)[:, None]
        product += (right * right).sum(axis=1)
        return np.maximum(product, 0.0, out=product)

    def value(self, argument: Array) -> Array:
        match self.shape:
            case "linear":
                return argument
            case "rbf":
                return np.exp(-argument)
            case "laplace":
                return np.exp(-np.sqrt(argument + _TINY))
            case _:  # matern52
                r = np.sqrt(5.0 * argument + _TINY)
                return (1.0 + r + r * r / 3.0) * np.exp(-r)

    def slope(self, argument: Array, value: Array) -> Array:
        """Derivative of the value by the argument."""
        match self.shape:
            case "linear":
                return np.ones_like(argument)
            case "rbf":
                return -value
            case "laplace":
                return -value / (2.0 * np.sqrt(argument + _TINY))
            case _:  # matern52
                r = np.sqrt(5.0 * argument + _TINY)
                return -(5.0 / 6.0) * (1.0 + r) * np.exp(-r)

    def theta_gradient(self, matrix: Array, x: Array) -> Array:
        """[groups] sum_ij matrix_ij * d argument_ij / d theta, for a symmetric matrix [N, N] and rows x [N, F]."""
        if self.shape == "linear":
            by_column = ((matrix @ x) * x).sum(axis=0)
        else:
            by_column = 2.0 * (matrix.sum(axis=1) @ (x * x) - ((matrix @ x) * x).sum(axis=0))
        return np.bincount(self.group_of, weights=by_column, minlength=self.groups).astype(np.float64)


class Covariance:
    """The sum of the blocks. Parameters are one vector: log s of every block, then log theta of every group."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self._terms = tuple(_Term(block) for block in self.blocks)
        ends = np.cumsum([len(self._terms), *(term.groups for term in self._terms)])
        self.spans = tuple(slice(int(start), int(end)) for start, end in itertools.pairwise(ends))
        """Where each block's log theta stand in the parameters."""
        self.size = int(ends[-1])

    def start(self, x: Array) -> Array:
        """[P] a start and prior mean from rows `x` [N, F]: equal shares, and distances of about 1."""
        out = np.zeros(self.size)
        out[: len(self._terms)] = -np.log(len(self._terms))
        for term, span in zip(self._terms, self.spans, strict=True):
            out[span] = -np.log(max(term.sizes(x[:, term.columns]), 1e-9))
        return out

    def matrix(self, parameters: Array, a: Array, b: Array, keep: NDArray[np.bool_] | None = None) -> Array:
        """[A, B] covariance of rows `a` [A, F] with rows `b` [B, F]; `keep` [C] leaves blocks out."""
        out = np.zeros((len(a), len(b)))
        for term, span, scale in self._kept(parameters, keep):
            value = term.value(term.argument(a[:, term.columns], b[:, term.columns], np.exp(parameters[span])))
            value *= scale
            out += value
        return out

    def diagonal(self, parameters: Array, a: Array, keep: NDArray[np.bool_] | None = None) -> Array:
        """[A] the variances of rows `a`, the diagonal of `matrix`."""
        out = np.zeros(len(a))
        for term, span, scale in self._kept(parameters, keep):
            if term.shape == "linear":
                x = a[:, term.columns]
                out += scale * ((x * x) @ np.exp(parameters[span])[term.group_of])
            else:
                out += scale
        return out

    def _kept(self, parameters: Array, keep: NDArray[np.bool_] | None) -> Iterator[tuple[_Term, slice, float]]:
        for index, (term, span) in enumerate(zip(self._terms, self.spans, strict=True)):
            if keep is None or keep[index]:
                yield term, span, float(np.exp(parameters[index]))

    def value_and_pullback(self, parameters: Array, x: Array) -> tuple[Array, _Pullback]:
        """[N, N] covariance of rows `x` with themselves, and what turns a gradient by it into one by parameters."""
        scales = np.exp(parameters[: len(self._terms)])
        total = np.zeros((len(x), len(x)))
        parts: list[tuple[Array, Array, Array]] = []
        for term, span, scale in zip(self._terms, self.spans, scales, strict=True):
            columns = x[:, term.columns]
            argument = term.argument(columns, columns, np.exp(parameters[span]))
            value = term.value(argument)
            total += scale * value
            parts.append((columns, argument, value))
        return total, _Pullback(self, parameters, parts)

    def shares(self, parameters: Array, x: Array) -> Array:
        """[C] each block's share of the mean variance of rows `x`."""
        sizes = np.exp(parameters[: len(self._terms)]) * self._typical(parameters, x)
        return sizes / sizes.sum()

    def _typical(self, parameters: Array, x: Array) -> Array:
        """[C] mean variance of every block at scale 1."""
        out = np.ones(len(self._terms))
        for index, (term, span) in enumerate(zip(self._terms, self.spans, strict=True)):
            if term.shape == "linear":
                columns = x[:, term.columns]
                out[index] = ((columns * columns).mean(axis=0) @ np.exp(parameters[span])[term.group_of]).item()
        return out


class _Pullback:
    """Gradients by parameters from a symmetric gradient by the covariance matrix."""

    def __init__(self, covariance: Covariance, parameters: Array, parts: list[tuple[Array, Array, Array]]) -> None:
        self._covariance = covariance
        self._parameters = parameters
        self._parts = parts

    def __call__(self, weights: Array) -> Array:
        """[P] sum_ij weights_ij dK_ij / d parameter, for symmetric weights [N, N]."""
        covariance, parameters = self._covariance, self._parameters
        out = np.empty(covariance.size)
        scales = np.exp(parameters[: len(self._parts)])
        for index, (columns, argument, value) in enumerate(self._parts):
            term, span = covariance._terms[index], covariance.spans[index]
            out[index] = scales[index] * np.vdot(weights, value)
            pulled = weights * term.slope(argument, value) * scales[index]
            out[span] = np.exp(parameters[span]) * term.theta_gradient(pulled, columns)
        return out
