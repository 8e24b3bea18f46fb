from __future__ import annotations

import numpy as np

from archsmith.service.dashboard.sampling import pack_points, stratified_rows


def test_stratified_rows_few_points_keeps_every_finite_one():
    x = np.array([0.0, np.nan, 2.0, np.inf])
    rows = stratified_rows(x, np.arange(4.0), 10, np.random.default_rng(0))
    assert rows.tolist() == [0, 2]


def test_stratified_rows_dense_heap_keeps_the_lone_point():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 0.01, 100_000), rng.normal(0, 0.01, 100_000)
    x[77], y[77] = 5.0, 5.0
    rows = stratified_rows(x, y, 1_000, rng)
    assert len(rows) <= 1_000
    assert 77 in rows
    assert len(np.unique(rows)) == len(rows)
    assert (np.diff(rows) > 0).all()


def test_stratified_rows_spreads_more_evenly_than_a_plain_sample():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=200_000), rng.normal(size=200_000)
    rows = stratified_rows(x, y, 5_000, rng)
    plain = rng.choice(len(x), len(rows), replace=False)
    far = lambda chosen: (np.hypot(x[chosen], y[chosen]) > 3).sum()  # noqa: E731  # one expression, used twice
    assert far(rows) > 3 * far(plain)


def test_stratified_rows_more_cells_than_limit_stays_within_it():
    rng = np.random.default_rng(3)
    assert len(stratified_rows(rng.random(50_000), rng.random(50_000), 100, rng)) == 100


def test_stratified_rows_same_seed_same_rows():
    x, y = np.random.default_rng(4).random((2, 80_000))
    first = stratified_rows(x, y, 500, np.random.default_rng(0))
    assert np.array_equal(first, stratified_rows(x, y, 500, np.random.default_rng(0)))


def test_stratified_rows_one_value_in_an_axis_still_samples():
    rows = stratified_rows(np.ones(9_000), np.arange(9_000.0), 300, np.random.default_rng(0))
    assert 0 < len(rows) <= 300


def test_pack_points_is_nine_bytes_a_point_in_the_documented_order():
    packed = pack_points(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([True, False]))
    assert len(packed) == 18
    assert np.frombuffer(packed, "<f4", 4).tolist() == [1, 2, 3, 4]
    assert list(packed[16:]) == [1, 0]
