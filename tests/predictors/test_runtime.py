"""Threads follow the work per batch; the setting of the process is restored."""

from __future__ import annotations

import pytest
import torch

from archsmith.predictors.runtime import MACS_PER_THREAD, keep_freed_memory, thread_count, torch_threads


@pytest.mark.parametrize(
    ("macs", "available", "expected"),
    [
        (0, 8, 1),
        (2 * MACS_PER_THREAD - 1, 8, 1),
        (2 * MACS_PER_THREAD, 8, 2),
        (100 * MACS_PER_THREAD, 8, 8),
        (100 * MACS_PER_THREAD, 1, 1),
    ],
)
def test_thread_count_follows_the_work_up_to_what_is_available(macs, available, expected):
    assert thread_count(macs, available) == expected


def test_thread_setting_is_restored_after_an_error():
    before, inside = torch.get_num_threads(), []

    def fail() -> None:
        with torch_threads(before + 1):
            inside.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_keeping_freed_memory_leaves_results_alone():
    values = torch.arange(1_000_000.0)
    before = (values * 2).sum()
    keep_freed_memory()
    assert torch.equal((values * 2).sum(), before)
