"""Columns: from a raw table to standardised features that linear, kernel and tree regressors can all use.

Constant columns go, and those that repeat another, mirrored ones included. A column of few distinct whole numbers may
be a code (an operation's index) as well as a quantity, so it is kept as a number and written out as indicators besides.

Notation: N rows, F raw columns, D derived columns.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import PredictorError

__all__ = ["Columns", "checked_features", "checked_table", "part", "settle"]

MIN_CODES: Final = 3
MAX_CODES: Final = 12
"""A column of whole numbers with this many distinct values is written out as indicators too."""


def checked_table(
    features: NDArray[np.float64], targets: NDArray[np.float64], *, least: int, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`features` [N, F] and `targets` [N] as finite float64.

    Raises:
        PredictorError: shapes that do not fit, a value that is not finite, fewer than `least` rows, or
            constant columns alone.
    """
    table, values = np.asarray(features, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if table.ndim != 2 or values.shape != table.shape[:1]:
        raise PredictorError(
            f"{name}: got features of shape {table.shape} and targets of shape {values.shape}; "
            "[N, F] and [N] are needed."
        )
    if len(table) < least:
        raise PredictorError(f"{name}: got {len(table)} rows; at least {least} are needed. Measure more.")
    bad = ~(np.isfinite(table).all(axis=1) & np.isfinite(values))
    if bad.any():
        raise PredictorError(
            f"{name}: row {int(bad.argmax())} and {int(bad.sum()) - 1} more hold a value that is not finite; "
            "leave failed measurements out."
        )
    if len(table) > 1 and (table == table[0]).all():
        raise PredictorError(f"{name}: every column of the features is constant; there is nothing to learn from.")
    return table, values


def checked_features(features: NDArray[np.float64], width: int, *, name: str) -> NDArray[np.float64]:
    """`features` [B, `width`] as finite float64; raises PredictorError otherwise."""
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != width:
        raise PredictorError(f"{name}: got features of shape {table.shape}; it was fitted on {width} columns.")
    if not np.isfinite(table).all():
        raise PredictorError(f"{name}: a feature is not finite; leave such rows out.")
    return table


def settle(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round away what summing in another order changes, so that equal columns standardise equally."""
    return np.round(features, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How raw columns become standardised ones.

    Attributes:
        width: F, number of raw columns.
        source: [D] raw column that a derived one reads.
        code: [D] the value whose indicator it is; nan for the number itself.
        centre: [D] what is subtracted.
        scale: [D] what it is divided by, > 0.
        low, high: [F] least and greatest raw value seen.

    >>> columns = Columns.of(np.array([[1.0, 0.5, 7.5], [2.0, 0.5, 8.5], [3.0, 0.5, 9.5], [2.0, 0.5, 8.5]]))
    >>> columns.source.tolist(), columns.code.tolist()
    ([0, 0, 0, 0], [nan, 1.0, 2.0, 3.0])
    """

    width: int
    source: NDArray[np.int64]
    code: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.float64]) -> Columns:
        """Learn the columns of `features` [N, F], of which one at least is not constant."""
        source: list[int] = []
        code: list[float] = []
        for column, values in enumerate(settle(features).T):
            distinct = np.unique(values)
            if len(distinct) < 2:
                continue
            source.append(column)
            code.append(float("nan"))
            if MIN_CODES <= len(distinct) <= MAX_CODES and (distinct == np.round(distinct)).all():
                source.extend([column] * len(distinct))
                code.extend(distinct.tolist())
        bare = cls(
            width=features.shape[1],
            source=np.array(source, dtype=np.int64),
            code=np.array(code),
            centre=np.zeros(len(source)),
            scale=np.ones(len(source)),
            low=features.min(axis=0),
            high=features.max(axis=0),
        )
        derived = bare.transform(features)
        centre, scale = derived.mean(axis=0), derived.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        first = _first_of_each((derived - centre) / scale)
        return dataclasses.replace(
            bare, source=bare.source[first], code=bare.code[first], centre=centre[first], scale=scale[first]
        )

    def transform(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """[B, D] standardised columns of `features` [B, F]."""
        values = settle(features)[:, self.source]
        indicator = np.isfinite(self.code)
        values[:, indicator] = values[:, indicator] == self.code[indicator]
        return (values - self.centre) / self.scale

    def in_range(self, features: NDArray[np.float64]) -> NDArray[np.bool_]:
        """[B] whether every raw value lies between the least and the greatest seen."""
        slack = 1e-9 * (1.0 + np.abs(self.high - self.low))
        inside = (features >= self.low - slack) & (features <= self.high + slack)
        return np.asarray(inside.all(axis=1), dtype=np.bool_)

    def state(self) -> dict[str, NDArray[np.float64]]:
        """Arrays that `restore` takes."""
        return {
            "width": np.array(float(self.width)), "source": self.source.astype(np.float64), "code": self.code,
            "centre": self.centre, "scale": self.scale, "low": self.low, "high": self.high,
        }  # fmt: skip

    @classmethod
    def restore(cls, state: dict[str, NDArray[np.float64]]) -> Columns:
        """What `state` gave."""
        return cls(
            width=int(state["width"]), source=state["source"].astype(np.int64), code=state["code"],
            centre=state["centre"], scale=state["scale"], low=state["low"], high=state["high"],
        )  # fmt: skip


def _first_of_each(standardised: NDArray[np.float64]) -> NDArray[np.int64]:
    """[D'] columns of `standardised` [N, D] that repeat no earlier one, up to sign and rounding; ascending."""
    rounded = np.round(standardised, 6)
    leading = rounded[np.argmax(rounded != 0.0, axis=0), np.arange(rounded.shape[1])]
    _, first = np.unique(rounded * np.sign(leading) + 0.0, axis=1, return_index=True)  # + 0.0: no negative zeros
    return np.sort(first)


def part(state: dict[str, NDArray[np.float64]], name: str) -> dict[str, NDArray[np.float64]]:
    """The arrays stored under ``name.``."""
    return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}
