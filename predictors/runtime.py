"""How torch uses this machine's cores and memory while small networks are trained and scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

__all__ = ["MACS_PER_THREAD", "keep_freed_memory", "thread_count", "torch_threads"]

MACS_PER_THREAD: Final = 2_000_000_000
"""Multiply-accumulates of a forward pass that make a further thread worth its waiting.

The threads of one layer wait for each other. Where a layer takes less than a scheduler's time slice (a few ms), one
descheduled thread stalls all the others for many layers' time. Measured on two cores with a supernet of 0.18 GMACs per
batch: a second thread saved 7 % of a step on an idle machine, and made it more than ten times as slow on a busy one.
At two GMACs per thread a layer of a fifty-layer network keeps each thread busy for about a millisecond or more.
"""

_LARGEST_KEPT: Final = 31 << 20
"""Bytes; just under the 32 MiB above which the C library maps every block anew, whatever happened before."""


def thread_count(macs: int, available: int) -> int:
    """Threads to run batches on.

    Args:
        macs: multiply-accumulates of one forward pass: those of one sample times the batch size.
        available: threads allowed at most.

    >>> thread_count(180_000_000, 16), thread_count(9_000_000_000, 16), thread_count(9_000_000_000, 2)
    (1, 4, 2)
    """
    return max(1, min(available, macs // MACS_PER_THREAD))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch's CPU operators on `count` threads inside; the setting, which is process-wide, is restored after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks of up to 31 MiB for the next ones of their size.

    Otherwise glibc returns every large block to the system when it is freed, and the next layer's activations are
    mapped and zeroed page by page: a quarter of the time of scoring subnets went there. Freeing one block of a size
    makes it keep blocks up to that size from then on. Other C libraries are not affected.

    Source: mallopt(3), M_MMAP_THRESHOLD, on the dynamic threshold.
    """
    torch.empty(_LARGEST_KEPT, dtype=torch.uint8)  # freed at once, which is its purpose
