"""Channel arithmetic: pure functions that every family shares."""

from __future__ import annotations

__all__ = ["make_divisible"]


def make_divisible(channels: float, divisor: int = 8, limit: float = 0.9) -> int:
    """Round a channel count to a multiple of `divisor`, never below it and never below `limit` of `channels`.

    Args:
        channels: the wanted number, > 0.
        divisor: what vector units like to see, >= 1.
        limit: share of `channels` that must be kept.

    Returns:
        A multiple of `divisor`.

    Source: Sandler et al., MobileNetV2, CVPR 2018, https://arxiv.org/abs/1801.04381 (its reference implementation).

    >>> [make_divisible(n) for n in (3, 12, 19, 33)]
    [8, 16, 24, 32]
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < limit * channels else rounded
