"""Evaluations that were made before are not made again: equal key, recipe, fidelity and seed mean an equal value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...spaces.digest import hex_digest
from ...spaces.space import SearchSpace
from ..evaluators import Measured, Measurer
from ..problem import Population
from ..strategy import Proposals
from .contracts import ResultStore

__all__ = ["Remembered"]


class Remembered:
    """A measurer that asks another one only about architectures that nobody has evaluated before.

    Failures are not remembered: the next search tries again.

    Args:
        measure: evaluates what is new, deterministically.
        space: tells keys; genomes of one key are evaluated once per fidelity, also within one call.
        store: remembers across searches.
        recipe: identity of everything that decides a value but the architecture and the seed.
        seed: of the evaluation.
        source: of the values, as `measure` tells it.
        keys: tells keys; None = the space's, which are those of architectures.

    Attributes:
        reused: how many evaluations were saved so far.
    """

    def __init__(
        self,
        measure: Measurer,
        space: SearchSpace,
        store: ResultStore,
        *,
        recipe: str,
        seed: int,
        source: str,
        keys: Callable[[Population], NDArray[np.uint64]] | None = None,
    ) -> None:
        self._measure = measure
        self._keys = keys or space.keys
        self._store = store
        self._recipe = recipe
        self._seed = seed
        self._source = source
        self.reused = 0

    def __call__(self, proposals: Proposals) -> Measured:
        """Values of B proposals, remembered where known; a remembered one took no seconds."""
        shares = np.unique(proposals.fidelity)
        if len(shares) == 1:
            return self._at(proposals, float(shares[0]))
        rows = [np.flatnonzero(proposals.fidelity == share) for share in shares]  # one part per rung: there are few
        parts = [self._at(proposals.rows(part), float(share)) for part, share in zip(rows, shares, strict=True)]
        back = np.argsort(np.concatenate(rows))
        return Measured(
            values=np.concatenate([part.values for part in parts])[back],
            seconds=np.concatenate([part.seconds for part in parts])[back],
            ok=np.concatenate([part.ok for part in parts])[back],
            source=self._source,
            errors=tuple(np.array([cause for part in parts for cause in part.errors], dtype=object)[back]),
        )

    def _at(self, proposals: Proposals, fidelity: float) -> Measured:
        keys = [hex_digest(key) for key in self._keys(proposals.genomes)]
        known = dict(self._store.evaluated(self._recipe, self._seed, keys, fidelity=fidelity))
        first: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key not in known:
                first.setdefault(key, row)
        values = np.array([known.get(key, np.nan) for key in keys])
        seconds = np.zeros(len(keys))
        ok = np.isfinite(values)
        errors: list[str | None] = [None] * len(keys)
        if first:
            fresh = self._measure(proposals.rows(np.array(list(first.values()))))
            place = {key: position for position, key in enumerate(first)}
            for row, key in enumerate(keys):
                if (position := place.get(key)) is not None:
                    values[row], ok[row] = fresh.values[position], fresh.ok[position]
                    seconds[row] = fresh.seconds[position] if row == first[key] else 0.0
                    errors[row] = fresh.errors[position] if fresh.errors else None
            new = {key: float(fresh.values[place[key]]) for key in first if fresh.ok[place[key]]}
            self._store.keep_evaluated(self._recipe, self._seed, new, fidelity=fidelity)
        self.reused += len(keys) - len(first)
        return Measured(values=values, seconds=seconds, ok=ok, source=self._source, errors=tuple(errors))
