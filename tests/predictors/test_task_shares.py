"""Shares of the training samples: batches of disjoint shares have no sample in common."""

from __future__ import annotations

import pytest
import torch

from archsmith.errors import TaskError
from archsmith.predictors.tasks import catalog


def test_shares_are_disjoint_and_together_everything() -> None:
    task = catalog.get("digits")
    low, high = task.sharing(0.0, 0.8), task.sharing(0.8, 1.0)
    rows = [set(part.rows(100, 0, size, seed).tolist()) for part, size in ((low, 80), (high, 20)) for seed in (0, 1)]
    assert rows[0] == rows[1]  # an epoch of a share is all of it, whatever the seed
    assert rows[2] == rows[3]
    assert not rows[0] & rows[2]
    assert rows[0] | rows[2] == set(range(100))


def test_batches_of_a_share_are_shuffled_and_repeat() -> None:
    part = catalog.get("digits").sharing(0.2, 0.7)
    first = part.rows(100, 3, 16, 7)
    assert torch.equal(first, part.rows(100, 3, 16, 7))
    assert not torch.equal(first, part.rows(100, 3, 16, 8))
    batch = part.batch(3, 16, 7)
    assert torch.equal(batch.labels, part.batch(3, 16, 7).labels)


def test_a_task_without_shares_is_left_as_it_is() -> None:
    task = catalog.get("digits")
    before = task.batch(2, 8, 1)
    task.sharing(0.0, 0.5)
    assert task.share == (0.0, 1.0)
    assert torch.equal(task.batch(2, 8, 1).inputs, before.inputs)
    assert task.sharing(0.0, 0.5).identity == task.identity


@pytest.mark.parametrize("share", [(0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (0.9, 0.2)])
def test_shares_out_of_range_are_refused(share: tuple[float, float]) -> None:
    with pytest.raises(TaskError, match="share"):
        catalog.get("digits").sharing(*share)


def test_a_share_without_a_sample_is_named() -> None:
    with pytest.raises(TaskError, match="widen it"):
        catalog.get("digits").sharing(0.0, 0.001).rows(100, 0, 4, 0)
