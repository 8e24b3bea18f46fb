"""Identifiers: UUIDv7, so that ids sort by time of creation."""

from __future__ import annotations

import os
import threading
import time
import uuid

__all__ = ["new_id"]

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A UUIDv7 as text, strictly growing within this process.

    Source: RFC 9562, section 5.7, with the 12 bits of `rand_a` continuing the clock below the millisecond (method 3 of
    section 6.2).
    """
    global _last
    with _lock:
        ticks = max(time.time_ns() * 4096 // 1_000_000, _last + 1)  # 1/4096 milliseconds
        _last = ticks
    value = (ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62
    return str(uuid.UUID(int=value | int.from_bytes(os.urandom(8)) >> 2))
