"""Position codes as tables: sines added to embeddings, rotations of queries and keys, and distances; numbers only.

Sources: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762 (section 3.5; here as in
fairseq: all sines before all cosines, frequencies from 1 to exactly 1 / base, the first position is number 2); Su et
al., RoFormer, 2021, https://arxiv.org/abs/2104.09864 (equation 34; the two halves of the features form the pairs, as in
GPT-NeoX); Chen et al., AutoFormer, 2021, https://arxiv.org/abs/2107.00651 (the distances of its released code).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIRST_POSITION", "relative_rows", "rotary_table", "sinusoid_table"]

FIRST_POSITION: Final = 2
"""Number of a sequence's first position among the sines: fairseq counts from its padding token's number, 1, on."""


def sinusoid_table(length: int, columns: int, base: float = 10000.0) -> NDArray[np.float32]:
    """[length, columns] sines of geometrically spaced frequencies, then their cosines; `columns` is even.

    >>> sinusoid_table(1, 4).round(2).tolist()
    [[0.9100000262260437, 0.0, -0.41999998688697815, 1.0]]
    """
    half = columns // 2
    frequencies = base ** (-np.arange(half) / max(half - 1, 1))
    angles = np.arange(FIRST_POSITION, length + FIRST_POSITION)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def relative_rows(tokens: int, reach: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the vertical and the horizontal table, each [tokens, tokens], for every pair of tokens.

    Row 0 is for pairs with the class token, which comes first; row reach + 1 + d for patches d rows (or columns) apart,
    where distances beyond `reach` count as `reach`. The patches form a square, row by row.

    >>> vertical, horizontal = relative_rows(5, 1)
    >>> horizontal.tolist()
    [[0, 0, 0, 0, 0], [0, 2, 3, 2, 3], [0, 1, 2, 1, 2], [0, 2, 3, 2, 3], [0, 1, 2, 1, 2]]
    """
    places = np.stack(np.divmod(np.arange(tokens - 1), math.isqrt(tokens - 1)))
    distances = np.clip(places[:, None] - places[:, :, None], -reach, reach) + reach + 1
    vertical, horizontal = np.pad(distances, ((0, 0), (1, 0), (1, 0)))
    return vertical, horizontal


def rotary_table(length: int, features: int, base: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines [length, features] that turn feature pairs (i, i + features / 2); `features` is even."""
    angles = _angles(length, features, base)
    cosine, sine = (
        np.concatenate([part, part], axis=1).astype(np.float32) for part in (np.cos(angles), np.sin(angles))
    )
    return cosine, sine


def _angles(length: int, features: int, base: float) -> NDArray[np.float64]:
    """[length, features / 2] position times frequency, base^(-2 i / features) for pair i."""
    frequencies = base ** (-np.arange(features // 2) * 2.0 / features)
    return np.arange(length)[:, None] * frequencies
