from __future__ import annotations

import numpy as np

from archsmith.service.dashboard.choosing import balanced_row


def test_balanced_row_convex_front_takes_the_knee():
    assert balanced_row(np.array([[0.0, 10.0], [0.1, 1.0], [1.0, 0.0]])) == 1


def test_balanced_row_ignores_units():
    values = np.array([[0.0, 10.0], [0.1, 1.0], [1.0, 0.0]])
    assert balanced_row(values * [1e6, 1e-3]) == balanced_row(values)


def test_balanced_row_empty_or_unknown_front_has_none():
    assert balanced_row(np.empty((0, 3))) is None
    assert balanced_row(np.full((2, 2), np.nan)) is None


def test_balanced_row_skips_members_with_a_missing_value():
    assert balanced_row(np.array([[np.nan, 0.0], [1.0, 1.0], [0.0, 2.0], [2.0, 0.0]])) == 1
