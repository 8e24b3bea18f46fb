"""128-bit digests of integer rows, vectorised: the same on every machine, in every process and version."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["digest_rows", "hex_digest", "mix64"]

# Odd 64-bit multipliers: fractional parts of the golden ratio and of sqrt(3); any odd, well-mixed constants serve.
_LANES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B))
_SHIFT = np.uint64(32)
# Finaliser of MurmurHash3 (Appleby, public domain): full avalanche of a 64-bit word.
_FINAL = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))


def digest_rows(rows: NDArray[np.integer], seed: str, chunk: int = 8192) -> NDArray[np.uint64]:
    """Digest every row of an integer array.

    Args:
        rows: [B, K] integers that fit int16.
        seed: what the rows mean; rows of different seeds never share a digest by construction.
        chunk: rows worked on at once.

    Returns:
        [B, 2] uint64.
    """
    start = np.frombuffer(hashlib.sha256(seed.encode()).digest()[:16], dtype="<u8").astype(np.uint64)
    width = -(-max(rows.shape[1], 1) // 4) * 4
    out = np.empty((len(rows), 2), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for first in range(0, len(rows), chunk):
            part = rows[first : first + chunk]
            padded = np.zeros((len(part), width), dtype="<i2")
            padded[:, : part.shape[1]] = part
            words = np.ascontiguousarray(padded.view("<u8").T).astype(np.uint64, copy=False)
            for lane, multiplier in enumerate(_LANES):
                state = np.full(len(part), start[lane])
                for word in words:
                    state ^= word
                    state *= multiplier
                    state ^= state >> _SHIFT
                for multiplier_final in _FINAL:
                    state ^= state >> np.uint64(33)
                    state *= multiplier_final
                state ^= state >> np.uint64(33)
                out[first : first + chunk, lane] = state
    return out


def hex_digest(digest: NDArray[np.uint64]) -> str:
    """One digest [2] as 32 hexadecimal digits."""
    return f"{int(digest[0]):016x}{int(digest[1]):016x}"


def mix64(values: NDArray[np.uint64], tag: int) -> NDArray[np.uint64]:
    """A well-mixed function of `values` that differs by `tag`; the finaliser of SplitMix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(tag) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
