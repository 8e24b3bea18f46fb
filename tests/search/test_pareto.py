"""Dominance, crowding and hypervolume against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from archsmith.search import pareto


def dominates(a, b):
    return bool((a <= b).all() and (a < b).any())


def brute_ranks(values):
    ranks = np.full(len(values), -1)
    level = 0
    while (ranks < 0).any():
        left = np.flatnonzero(ranks < 0)
        ranks[[i for i in left if not any(dominates(values[j], values[i]) for j in left)]] = level
        level += 1
    return ranks


def random_sets(count):
    """Half of them on a coarse grid, so that ties and duplicates abound."""
    rng = np.random.default_rng(0)
    for index in range(count):
        shape = (int(rng.integers(1, 25)), int(rng.integers(1, 5)))
        yield rng.integers(0, 4, shape).astype(float) if index % 2 else rng.random(shape)


def test_ranks_and_masks_agree_with_brute_force_on_1000_sets():
    for values in random_sets(1000):
        expected = brute_ranks(values)
        np.testing.assert_array_equal(pareto.rank(values), expected)
        np.testing.assert_array_equal(pareto.nondominated_mask(values), expected == 0)


def test_rank_infeasible_follow_feasible_by_total_violation():
    values = np.array([[3.0, 3.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [2.0, 2.0]])
    violations = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.5, 0.0], [2.0, 0.0]])
    assert pareto.rank(values, violations).tolist() == [1, 3, 0, 2, 3]
    assert pareto.rank(values, np.ones(5)).tolist() == [0] * 5


def brute_crowding(values, ranks):
    out = np.zeros(len(values))
    for front in np.unique(ranks):
        members = np.flatnonzero(ranks == front)
        for column in range(values.shape[1]):
            order = members[np.argsort(values[members, column], kind="stable")]
            extent = values[order[-1], column] - values[order[0], column]
            if extent <= 0:
                continue
            out[order[[0, -1]]] = np.inf
            for before, here, after in zip(order, order[1:], order[2:], strict=False):
                out[here] += (values[after, column] - values[before, column]) / extent
    return out


def test_crowding_agrees_with_the_definition():
    for values in random_sets(300):
        for ranks in (pareto.rank(values), np.zeros(len(values), dtype=np.int64)):
            np.testing.assert_allclose(pareto.crowding(values, ranks), brute_crowding(values, ranks))


def test_hypervolume_agrees_with_counting_cells():
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = rng.integers(0, 6, (8, 3)).astype(float)
        cells = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        covered = (values[:, None] <= cells[None]).all(axis=2).any(axis=0).sum()
        assert pareto.hypervolume(values, np.full(3, 5.0)) == pytest.approx(covered)


def test_hypervolume_ratio_without_volume_is_defined():
    outside, inside, reference = np.array([[2.0, 2.0]]), np.array([[0.0, 0.0]]), np.ones(2)
    assert pareto.hypervolume_ratio(inside, inside, reference) == 1.0
    assert pareto.hypervolume_ratio(outside, inside, reference) == 0.0
    assert pareto.hypervolume_ratio(inside, outside, reference) == np.inf
    assert pareto.hypervolume_ratio(outside, outside, reference) == 1.0


def test_merge_front_in_batches_equals_the_front_of_everything():
    rng = np.random.default_rng(2)
    values = rng.integers(0, 30, (600, 3)).astype(float)
    front = values[:0]
    for batch in np.split(values, 30):
        stays, enters = pareto.merge_front(front, batch)
        front = np.concatenate([front[stays], batch[enters]])
    expected = values[pareto.nondominated_mask(values)]
    np.testing.assert_array_equal(np.sort(front, axis=0), np.sort(expected, axis=0))


def test_reference_point_of_constant_objectives_lies_beyond():
    assert pareto.reference_point(np.array([[0.0, -2.0], [0.0, -2.0]])).tolist() == pytest.approx([0.1, -1.8])
