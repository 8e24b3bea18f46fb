"""Fixed position codes as tables: sines added to embeddings, and rotations of queries and keys; numbers only.

Sources: Vaswani et al., Attention Is All You Need, 2017, https://arxiv.org/abs/1706.03762 (section 3.5; here all sines
come before all cosines, as in fairseq); Su et al., RoFormer, 2021, https://arxiv.org/abs/2104.09864 (equation 34; the
two halves of the features form the pairs, as in GPT-NeoX).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["rotary_table", "sinusoid_table"]


def sinusoid_table(length: int, features: int, base: float = 10000.0) -> NDArray[np.float32]:
    """[length, features] sines of geometrically spaced frequencies, then their cosines; `features` is even.

    >>> sinusoid_table(2, 4).round(2).tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.8399999737739563, 0.009999999776482582, 0.5400000214576721, 1.0]]
    """
    angles = _angles(length, features, base)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


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
