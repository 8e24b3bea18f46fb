from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta

import pytest

from archsmith.service.dashboard import format as fmt

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)


def test_format_doctests_hold():
    outcome = doctest.testmod(fmt)
    assert outcome.attempted >= 7
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("name", "values", "value", "shown"),
    [
        ("accuracy", [0.88, 0.94], 0.9412, "94.12 %"),
        ("latency_ms", [0.02, 0.35], 0.1, "0.100 ms"),
        ("latency_ms", [900.0, 2500.0], 1234.0, "1.23 s"),
        ("energy_mj", [0.8, 1.4], 1.0, "1.00 mJ"),
        ("params", [20_000, 190_000], 123_456, "123 k"),
        ("params", [120], 120, "120"),
        ("macs", [3e5, 4.2e6], 1.5e6, "1.50 M"),
        ("memory_bytes", [100], 100, "100 B"),
        ("perplexity", [20.0, 31.0], 25.123, "25.1"),
    ],
)
def test_choose_format_quantity_reads_with_unit_and_useful_digits(name, values, value, shown):
    assert fmt.choose_format(name, values).text(value).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_choose_format_without_values_still_writes_missing():
    chosen = fmt.choose_format("latency_ms", [])
    assert chosen.unit == "ms"
    assert chosen.text(None) == chosen.text(float("nan")) == "–"


def test_number_large_groups_thousands():
    assert fmt.choose_format("perplexity", [120_000.0]).number(120_000.0) == "120\N{NARROW NO-BREAK SPACE}000"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(3, "just now"), (42, "42 s ago"), (61, "1 min ago"), (7200, "2 h ago"), (200_000, "2 d ago"), (-5, "just now")],
)
def test_age_reads_in_one_unit(seconds, shown):
    assert fmt.age(NOW - timedelta(seconds=seconds), NOW) == shown


def test_age_naive_moment_is_taken_as_utc():
    assert fmt.age(datetime(2030, 5, 17, 11, 0), NOW) == "1 h ago"
    assert fmt.timestamp(datetime(2030, 5, 17, 11, 0)) == "2030-05-17T11:00:00+00:00"


@pytest.mark.parametrize(("value", "shown"), [(True, "yes"), (0.25, "0.25"), ((3, 5), "3, 5"), ("relu", "relu")])
def test_gene_value_reads_plainly(value, shown):
    assert fmt.gene_value(value) == shown
