"""What a strategy has proposed so far: the one place that decides whether a genome is new.

Genomes are told apart by their space's 128-bit keys, so two genomes that perform the same computation count as one;
a benchmark table, where each of them is a row of its own, has them told apart by their genes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...spaces.digest import digest_rows
from ...spaces.space import SearchSpace
from ..problem import Population

__all__ = ["Archive"]

_KEY_BYTES = 16


class Archive:
    """Keys of every proposed genome, in order of admission.

    The keys are kept twice: as a set for look-ups, and in an append-only array, so that `keys` costs nothing to hand
    out with every checkpoint and a recorder may store just what was added.

    Args:
        space: tells keys.
        equivalence: whether genomes with equal keys count as one.
    """

    def __init__(self, space: SearchSpace, *, equivalence: bool = True) -> None:
        self._keys_of = space.keys if equivalence else _genes_alone
        self._seen: set[bytes] = set()
        self._buffer = np.empty((256, 2), dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """[K, 2] uint64, read-only: rows are never changed once they are there."""
        view = self._buffer[: len(self._seen)]
        view.flags.writeable = False
        return view

    def admit(self, genomes: Population, limit: int | None = None) -> NDArray[np.intp]:
        """Add the first `limit` genomes that are new, each once.

        Args:
            genomes: [B, G] canonical.
            limit: how many to add at most; None = all.

        Returns:
            [N] ascending rows that were new and are now part of the archive.
        """
        limit = len(genomes) if limit is None else limit
        if not len(genomes) or limit <= 0:
            return np.empty(0, dtype=np.intp)
        keys = self._keys_of(genomes)
        seen, rows = self._seen, []
        size = len(seen)
        for row, name in enumerate(_names(keys)):
            if name not in seen:
                seen.add(name)
                rows.append(row)
                if len(rows) == limit:
                    break
        new = np.array(rows, dtype=np.intp)
        self._append(keys[new], size)
        return new

    def holds(self, genomes: Population) -> NDArray[np.bool_]:
        """[B] True where a canonical genome was admitted before."""
        return np.array([name in self._seen for name in _names(self._keys_of(genomes))], dtype=np.bool_)

    def load(self, keys: NDArray[np.uint64]) -> None:
        """Replace the content by `keys` [K, 2] of another archive of the same space."""
        self._seen = set(_names(keys))
        self._append(keys, 0)

    def _append(self, keys: NDArray[np.uint64], size: int) -> None:
        needed = size + len(keys)
        if needed > len(self._buffer):
            # Views handed out earlier keep the old buffer, which is not written to any more.
            grown = np.empty((max(needed, 2 * len(self._buffer)), 2), dtype=np.uint64)
            grown[:size] = self._buffer[:size]
            self._buffer = grown
        self._buffer[size:needed] = keys


def _genes_alone(genomes: Population) -> NDArray[np.uint64]:
    return digest_rows(genomes, "archive")


def _names(keys: NDArray[np.uint64]) -> list[bytes]:
    """The rows of [B, 2] keys as hashable bytes."""
    raw = keys.tobytes()
    return [raw[start : start + _KEY_BYTES] for start in range(0, len(raw), _KEY_BYTES)]
